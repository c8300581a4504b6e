"""Read the metadata of a checkpoint: class names, colours, metric, config."""

import ast
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from .read import holds_unread, read_checkpoint

_JSON = ('dataset_meta', 'metric', 'iter')  # stored as JSON in .safetensors files


def read_meta(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a checkpoint; empty if it has none.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: As :func:`dpt.checkpoints.read_checkpoint` and :func:`meta_of`.
    """
    return meta_of(read_checkpoint(path), path)


def meta_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the metadata in the result of :func:`dpt.checkpoints.read_checkpoint`.

    Raises:
        ValueError: If metadata that this package writes to ``.safetensors`` files are not valid JSON.
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
                raise ValueError(f'{path}: metadata {key!r} are not valid JSON ({error})') from None
    return decoded


def dataset_meta(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the class names and colours that a model was trained with.

    Args:
        meta: Metadata of a checkpoint of this package, of mmengine, or of MMSegmentation 0.x.

    Returns:
        A dict with ``classes`` and, if available, ``palette`` (a list of RGB triples); None without classes.
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


def config_values(text: str, names: Set[str] | None = None) -> dict[str, Any]:
    """Parse the text of a config in a checkpoint without executing it.

    Args:
        text: Assignments of numbers, strings, booleans, None, lists, tuples, dicts, ``dict(key=value)`` and
            ``dict({key: value})``, as mmengine's ``Config.pretty_text`` writes them.
        names: Names to read; None reads all.

    Raises:
        ValueError: If the text contains anything else; the message shows the line.
    """
    try:
        values: dict[str, Any] = {}
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Assign) or not all(isinstance(one, ast.Name) for one in node.targets):
                raise _not_data(node)
            targets = [ast.unparse(one) for one in node.targets]
            if names is None or not names.isdisjoint(targets):
                values.update(dict.fromkeys(targets, _data(node.value)))
        return values
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'not the text of a config ({type(error).__name__})') from None


def _data(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        if not node.keywords and len(node.args) == 1 and isinstance(node.args[0], ast.Dict):
            return _data(node.args[0])  # keys that are not identifiers: dict({'backbone.pos_embed': ...})
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
