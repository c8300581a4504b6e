"""Replace classes given as ``type`` by their registered names.

mmengine accepts classes and dotted names as ``type``. Everything that reads a config, and the configs that
are written into work directories and checkpoints, can then rely on names.
"""

import functools
import sys
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import FUNCTIONS, Registry

from dpt import registry as registries
from dpt.config.parts import OWN_PACKAGES

SCOPE = 'mmseg'
TYPE_KEYS = ('type', 'resize_type')


def name_config_types(config: Config) -> None:
    """Apply :func:`name_types` to a config, and drop what its file imported."""
    name_types(config._cfg_dict)
    for name in getattr(config, '_imported_names', ()):
        dict.pop(config._cfg_dict, name, None)


def name_types(value: Any) -> None:
    """Replace the classes in a config, at any depth and in place.

    A class of mmengine or mmcv becomes its name, which may stand for a replacement in dpt, as it does when it
    is written as a text. A class that is not registered becomes its dotted name, if it can be imported by it.
    Parts of MMSegmentation, which need not be installed, become names of its scope.

    Raises:
        ValueError: If a class that the config file imports does not exist.
    """
    if isinstance(value, dict):
        for key, one in list(dict.items(value)):  # ConfigDict.items would import everything
            if key in TYPE_KEYS and one is not None:
                value[key] = _name(one)
            else:
                name_types(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            name_types(one)


def _name(kind: Any) -> Any:
    if isinstance(kind, (LazyAttr, LazyObject)):
        dotted = f'{kind.module}.{kind}'
        if dotted.startswith(f'{SCOPE}.'):
            return f'{SCOPE}.{dotted.rpartition(".")[2]}'
        try:
            kind = kind.build()
        except (ImportError, AttributeError) as error:
            raise ValueError(f'type={dotted}: {error}') from error
    package, _, last = kind.rpartition('.') if isinstance(kind, str) else ('', '', '')
    package = package.partition('.')[0]
    if isinstance(kind, str) and package not in OWN_PACKAGES:
        return kind
    for name, registered in _registered():
        origin = registered.__module__.partition('.')[0]
        if registered is kind or (getattr(registered, '__name__', '') == last and origin == package):
            return name
    module, name = getattr(kind, '__module__', ''), getattr(kind, '__qualname__', '')
    importable = getattr(sys.modules.get(module), name, None) is kind
    return f'{module}.{name}' if importable and callable(kind) else kind


@functools.cache
def _registries() -> list[Registry]:
    found = dict.fromkeys(one for one in vars(registries).values() if isinstance(one, Registry))
    for registry in found:
        registry.import_from_location()
    return [*found, FUNCTIONS]


def _registered() -> Iterator[tuple[str, Any]]:
    """Yield everything registered in the scopes of dpt and mmengine, with its name."""
    for registry in _registries():
        for name, one in registry.module_dict.items():
            if not one.__module__.startswith('dpt.extras'):  # found by their dotted names only
                yield name, one
