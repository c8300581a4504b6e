"""Randomly changed MMSegmentation recipes are translated, or raise a ValueError.

Runs a few fixed examples; ``DPT_FUZZ_EXAMPLES=2000`` draws that many random ones.
"""

import copy
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from test_mmseg_config import recipe

from dpt.config.mmseg.translate import translate_mmseg_config

EXAMPLES = int(os.environ.get('DPT_FUZZ_EXAMPLES', '0'))
fuzz = settings(max_examples=EXAMPLES or 100, derandomize=not EXAMPLES, deadline=None, database=None)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    3,
    0.5,
    'x',
    '',
    'SyncBN',
    [],
    (),
    {},
    [1, 2],
    [None],
    {'type': 'x'},
    {'a': 1},
)
UNKNOWN = 'quite_unknown_key'


def paths(node: Any, path: tuple = ()) -> list[tuple]:
    """Return the path of keys to every value, including containers."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in items for found in ((*path, key), *paths(value, (*path, key)))]


def at(node: Any, path: tuple) -> Any:
    for key in path:
        node = node[key]
    return node


def change(data: st.DataObject, config: dict) -> tuple | None:
    """Replace, delete or add a value; return the path of the dict to which a key was added."""
    path = data.draw(st.sampled_from(paths(config)))
    kind = data.draw(st.sampled_from(['replace', 'delete', 'add']))
    if kind == 'add':
        target = at(config, path)
        if isinstance(target, dict):
            target[UNKNOWN] = 1
            return path
        return None
    if path == ('default_scope',):  # otherwise it is not a config of MMSegmentation
        return None
    if kind == 'delete':
        del at(config, path[:-1])[path[-1]]
    else:
        at(config, path[:-1])[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
    return None


def holds(node: Any) -> bool:
    """Whether the unknown key is somewhere in a config."""
    if isinstance(node, dict):
        return UNKNOWN in node or any(holds(value) for value in node.values())
    return isinstance(node, (list, tuple)) and any(holds(value) for value in node)


@fuzz
@given(data=st.data())
def test_a_changed_recipe_is_translated_or_rejected(data) -> None:
    values = copy.deepcopy(recipe())
    added = change(data, values)
    config = Config(values)
    before = copy.deepcopy(config.to_dict())
    try:
        translated, lines = translate_mmseg_config(config)
    except ValueError:
        return
    assert config.to_dict() == before or translated is not config
    assert all(isinstance(line, str) for line in lines)
    if added is not None:  # the unknown key must be kept or reported
        assert holds(translated.to_dict()) or any(UNKNOWN in line for line in lines), added
