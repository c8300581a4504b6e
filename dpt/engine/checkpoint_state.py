"""What a checkpoint holds: tensors and plain values, copied so that training may go on meanwhile."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from dpt.engine.unwrapped import unwrapped

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


class HostCopies:
    """Copies of a run's tensors in this machine's memory, which is taken once and used again.

    To take the memory anew each time would cost several times what the copy does. Where the tensors are on a
    GPU the memory is page-locked, which its copies are fast with.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []
        self._used = 0

    def of(self, content: dict) -> dict:
        """Return ``content`` with copies of its tensors, which the next call overwrites."""
        self._used = 0
        copied = _map_tensors(content, self._copy)
        del self._buffers[self._used :]
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return copied

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        index, self._used = self._used, self._used + 1
        buffer = self._buffers[index] if index < len(self._buffers) else None
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[index : index + 1] = [buffer]
        return buffer.copy_(tensor, non_blocking=True)


def _map_tensors(value: object, change: Callable[[torch.Tensor], torch.Tensor]) -> dict:
    """Return plain data in which each tensor is replaced by what ``change`` makes of it."""
    mapped: object = value
    if isinstance(value, torch.Tensor):
        mapped = change(value)
    elif isinstance(value, dict):
        mapped = {key: _map_tensors(entry, change) for key, entry in value.items()}
    elif isinstance(value, (list, tuple)):
        mapped = type(value)(_map_tensors(entry, change) for entry in value)
    return mapped  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _config_text(config: Config) -> str:
    return config.pretty_text  # formatted anew each time: tenths of a second


def run_state(runner: Runner, meta: Mapping, *, optimizer: bool, param_scheduler: bool) -> dict:
    """Return what a checkpoint holds, in the layout of mmengine's runner; its tensors are the live ones.

    Args:
        runner: The runner.
        meta: ``epoch`` and ``iter`` that are finished, and what else belongs to this checkpoint.
        optimizer: Whether the optimiser's state is in it.
        param_scheduler: Whether the states of the schedules are.
    """
    model = unwrapped(runner.model)
    state = dict(
        meta=dict(
            meta,
            cfg=_config_text(runner.cfg),
            seed=runner.seed,
            experiment_name=runner.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine_version=mmengine.__version__,
            dataset_meta=getattr(runner.train_dataloader.dataset, 'metainfo', None),
        ),
        state_dict=model.state_dict(),
        # Without the history of the log, which grows with the run and is not stored.
        message_hub=dict(runtime_info=dict(runner.message_hub.runtime_info)),
    )
    if optimizer:
        state['optimizer'] = runner.optim_wrapper.state_dict()
    if param_scheduler and runner.param_schedulers is not None:
        state['param_schedulers'] = [schedule.state_dict() for schedule in runner.param_schedulers]
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state
