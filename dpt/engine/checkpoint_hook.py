"""Checkpoints that load without running code."""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from dpt.engine.quiet import only_errors
from dpt.registry import HOOKS

_PLAIN = (str, int, float, bool, type(None), torch.Tensor)


def plain(value: object) -> object:
    """Return a copy of ``value`` made of tensors, numbers, strings and plain containers.

    Raises:
        TypeError: If something else is in it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(v) for v in value]
        return tuple(items) if type(value) is tuple else items
    raise TypeError(f'{type(value).__name__} is not plain data')


def plain_entries(entries: Mapping) -> dict:
    """Return the entries whose values are plain data; the others belong to the running process alone."""
    kept = {}
    for key, value in entries.items():
        try:
            kept[key] = plain(value)
        except TypeError:
            continue
    return kept


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's checkpoint hook, whose files hold nothing but tensors and plain values.

    They therefore load under torch's safe ``weights_only=True``. The smoothing windows of the training log
    are not stored: after a resume they start anew. The best checkpoint, and a regular one of the same
    iteration, holds what its evaluation gave as ``meta['metric']``.
    """

    _metrics: dict | None = None  # of the evaluation that the weights being saved have just passed

    def before_train(self, runner: Runner) -> None:
        """Settle where checkpoints go, without the parent's warnings about its own deprecated parts."""
        with only_errors():
            super().before_train(runner)
        runner.logger.info(f'checkpoints go to {self.out_dir}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace what could not be loaded safely, before the runner writes the file."""
        hub = checkpoint['message_hub']
        runtime_info = plain_entries(hub['runtime_info'])
        checkpoint['message_hub'] = dict(log_scalars={}, runtime_info=runtime_info, resumed_keys={})
        if self._metrics is not None:
            checkpoint['meta']['metric'] = plain_entries(self._metrics)
        for key in ('meta', 'state_dict', 'optimizer', 'param_schedulers'):
            if key in checkpoint:
                checkpoint[key] = plain(checkpoint[key])

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        self._metrics = dict(metrics)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self._metrics = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint of another model: the runner would load what fits and ignore the rest."""
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        expected, found = set(model.state_dict()), set(checkpoint['state_dict'])
        if expected != found:
            raise ValueError(
                'the checkpoint to resume from belongs to another model: missing '
                f'{sorted(expected - found)[:5]}, unexpected {sorted(found - expected)[:5]}. '
                'To start from its weights, set load_from instead of resuming.'
            )
        # Equal metainfo must be the same object, else the runner warns of a changed data set.
        meta, dataset = checkpoint['meta'], runner.train_dataloader.dataset
        if meta.get('dataset_meta') == plain(dataset.metainfo):
            meta['dataset_meta'] = dataset.metainfo
