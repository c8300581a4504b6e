"""Check numbers of a config: those that count something, and those with which training has no effect."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config

from dpt.config.parts import Problem, lookup
from dpt.config.walk import DATALOADERS, walk

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


OWN_MODELS = ('EncoderDecoder', 'DepthEstimator')
"""Models without losses beside those of the config."""


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


def check_effect(config: Config) -> Iterator[Problem]:
    """Yield the numbers of a training with which every gradient is 0."""
    norm = lookup(config, 'optim_wrapper.clip_grad.max_norm')
    if isinstance(norm, (int, float)) and norm <= 0:
        yield 'optim_wrapper.clip_grad.max_norm', f'{norm} must be above 0; set clip_grad=None to not clip'
    for key, part in walk(config.model, 'model'):
        ratio = part.get('dropout_ratio')
        if isinstance(ratio, (int, float)) and ratio >= 1:
            yield f'{key}.dropout_ratio', f'{ratio} drops everything, so nothing is trained: set it below 1'
    losses = config.model.get('loss')
    losses = [losses] if isinstance(losses, Mapping) else losses or []
    without_effect = [isinstance(one, Mapping) and one.get('loss_weight') == 0 for one in losses]
    has_others = config.model.get('auxiliary_heads') or config.model.get('type') not in OWN_MODELS
    if losses and all(without_effect) and not has_others:
        yield 'model.loss', 'loss_weight=0 for every loss, so nothing is trained: set it above 0'
