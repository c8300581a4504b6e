"""Check the numbers of a config that count something."""

from collections.abc import Iterator

from mmengine.config import Config

from dpt.config.parts import Problem, lookup
from dpt.config.walk import DATALOADERS

LEAST = {
    **{f'{loader}.batch_size': 1 for loader in DATALOADERS},
    **{f'{loader}.num_workers': 0 for loader in DATALOADERS},
    'total_batch_size': 1,
    'randomness.seed': 0,
}
"""Least integer of keys that may be missing or, except ``batch_size`` and ``num_workers``, ``None``."""
LENGTHS = (
    'train_cfg.max_iters',
    'train_cfg.max_epochs',
    'train_cfg.val_interval',
    'default_hooks.logger.interval',
)
"""Keys whose least integer is 1 and whose type is checked with that of all arguments."""


def check_numbers(config: Config) -> Iterator[Problem]:
    """Yield the numbers that are too small or not integers."""
    for key, least in LEAST.items():
        part, _, name = key.rpartition('.')
        given = lookup(config, part) if part else config
        if not given or name not in given or (given[name] is None and part not in DATALOADERS):
            continue
        if not isinstance(given[name], int) or given[name] < least:
            yield key, f'{given[name]!r} is not an integer >= {least}'
    for key in LENGTHS:
        length = lookup(config, key)
        if isinstance(length, int) and length < 1:
            yield key, f'{length!r} is not an integer >= 1'
