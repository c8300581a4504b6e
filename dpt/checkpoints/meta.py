"""Reads what is beside the weights in a checkpoint: class names, colours, metric, config."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .read import holds_unread, read_checkpoint

_JSON = ('dataset_meta', 'metric', 'iter')  # written as JSON where metadata are strings


def read_meta(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a checkpoint; empty if it has none.

    Raises:
        FileNotFoundError, ValueError: as :func:`dpt.checkpoints.read_checkpoint`, and where metadata of a
            ``.safetensors`` file that this package writes are damaged.
    """
    return meta_of(read_checkpoint(path), path)


def meta_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The metadata in what :func:`dpt.checkpoints.read_checkpoint` returned.

    Raises:
        ValueError: metadata of a ``.safetensors`` file that this package writes are damaged.
    """
    meta = content.get('meta')
    if not isinstance(meta, Mapping):
        return {}
    decoded = {str(key): value for key, value in meta.items()}
    for key in _JSON:
        if isinstance(decoded.get(key), str):
            try:
                decoded[key] = json.loads(decoded[key])
            except json.JSONDecodeError as error:
                raise ValueError(f'{path}: metadata {key!r} are not the JSON expected ({error})') from None
    return decoded


def dataset_meta(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Class names and colours that a model was trained with.

    Args:
        meta: of a checkpoint of this package, of mmengine, or of MMSegmentation 0.x.

    Returns:
        A dict with ``classes`` and, where the file has it, ``palette`` (a list of RGB triples); None where
        the file names no classes.
    """
    found = meta.get('dataset_meta')
    if not isinstance(found, Mapping):
        found = {'classes': meta.get('CLASSES'), 'palette': meta.get('PALETTE')}
    readable = {key: value for key, value in found.items() if value is not None and not holds_unread(value)}
    if not readable.get('classes'):
        return None
    if 'palette' in readable:
        readable['palette'] = [[int(value) for value in colour] for colour in readable['palette']]
    return {**readable, 'classes': tuple(readable['classes'])}


def config_values(text: str) -> dict[str, Any]:
    """Read a config that a checkpoint holds as text, as data: nothing in it is run.

    Args:
        text: assignments of numbers, strings, booleans, None, lists, tuples, dicts, ``dict(key=value)`` and
            ``dict({key: value})``, as mmengine's ``Config.pretty_text`` writes them.

    Raises:
        ValueError: the text holds anything else; the message shows the line.
    """
    try:
        values: dict[str, Any] = {}
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Assign) or not all(isinstance(one, ast.Name) for one in node.targets):
                raise _not_data(node)
            values.update(dict.fromkeys(map(ast.unparse, node.targets), _data(node.value)))
        return values
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'not a config as text ({type(error).__name__})') from None


def _data(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        if not node.keywords and len(node.args) == 1 and isinstance(node.args[0], ast.Dict):
            return _data(node.args[0])  # where keys are not identifiers: dict({'backbone.pos_embed': ...})
        if not node.args and all(keyword.arg for keyword in node.keywords):
            return {str(keyword.arg): _data(keyword.value) for keyword in node.keywords}
    elif isinstance(node, (ast.List, ast.Tuple)):
        items = [_data(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    elif isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, map(_data, node.values), strict=True))
    elif isinstance(node, (ast.Constant, ast.UnaryOp, ast.Set)):
        try:
            return ast.literal_eval(node)
        except ValueError:
            pass
    raise _not_data(node)


def _not_data(node: ast.stmt | ast.expr) -> ValueError:
    return ValueError(f'line {node.lineno} is not plain data: {ast.unparse(node)[:60]!r}')
