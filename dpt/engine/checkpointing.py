"""Training checkpoints: content, writing, verification, resuming, and the hook that saves them."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import Runner

from dpt.engine.distributed import unwrapped
from dpt.engine.sharding import is_sharded, whole_tensors
from dpt.files import PARTIAL, whole_file, write_whole
from dpt.registry import HOOKS

POINTER = 'last_checkpoint'
"""File in the work directory with the relative path of the newest checkpoint."""
OPTIMIZER_NAMES = 'optimizer_names'
"""Entry of a checkpoint: names of the parameters in each group of the optimiser."""


def write_checkpoint(content: Mapping, path: Path) -> None:
    """Write a checkpoint atomically and flush it to disk; if that fails, ``path`` stays unchanged.

    The file is a zip archive with a CRC-32 for every entry, which :func:`damage` and
    ``python -m zipfile -t FILE`` verify.

    Raises:
        OSError: If the file cannot be written; the message has a remedy.
    """
    try:
        with whole_file(path) as file:
            torch.save(dict(content), file)
    except (OSError, RuntimeError) as error:
        # On a full disk torch raises a RuntimeError whose context is the OSError with the reason.
        cause = error if isinstance(error, OSError) else error.__context__ or error
        free = shutil.disk_usage(path.parent).free >> 20
        raise OSError(
            f'{path}: the checkpoint could not be written ({cause}; {free} MiB free). '
            'Earlier checkpoints are untouched: free some space, then continue with --resume'
        ) from error


def write_pointer(work_dir: Path, checkpoint: Path) -> None:
    """Write the pointer to the newest checkpoint, as a relative path so that the directory can be moved."""
    write_whole(os.path.relpath(checkpoint, work_dir).encode(), work_dir / POINTER)


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of a run that was killed while it wrote."""
    for partial in folder.glob(f'.*{PARTIAL}'):
        partial.unlink(missing_ok=True)


_PLAIN = (str, int, float, bool, type(None), torch.Tensor)


def plain(value: object) -> object:
    """Return a copy of ``value`` that contains only tensors, numbers, strings and plain containers.

    Raises:
        TypeError: If ``value`` contains another type.
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


def plain_entries(entries: Mapping) -> tuple[dict, dict[str, str]]:
    """Return the entries whose values are plain data, and a reason for each of the others."""
    kept, dropped = {}, {}
    for key, value in entries.items():
        try:
            kept[key] = plain(value)
        except TypeError as error:
            dropped[key] = str(error)
    return kept, dropped


class HostCopies:
    """Copies tensors into host buffers that are allocated once and reused.

    Allocating memory takes several times as long as the copy. Buffers of GPU tensors are pinned for speed.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []
        self._used = 0

    def of(self, content: dict) -> dict:
        """Return ``content`` with copies of its tensors; the next call overwrites them."""
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
    """Apply ``change`` to every tensor in plain data."""
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
    return config.pretty_text  # mmengine formats it at each access, which takes tenths of a second


def run_state(runner: Runner, meta: Mapping, *, optimizer: bool, param_scheduler: bool) -> dict:
    """Return the content of a checkpoint in mmengine's layout; tensors are not copied.

    If the model is sharded, all processes must call this function.

    Args:
        runner: The runner.
        meta: Finished ``epoch`` and ``iter``, and other entries of the checkpoint's ``meta``.
        optimizer: Whether to include the state of the optimiser.
        param_scheduler: Whether to include the states of the parameter schedulers.
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
        state_dict=whole_tensors(model.state_dict()),
        # Without the log history, which grows with the run.
        message_hub=dict(runtime_info=dict(runner.message_hub.runtime_info)),
    )
    if optimizer:
        state['optimizer'] = whole_tensors(runner.optim_wrapper.state_dict())
        state[OPTIMIZER_NAMES] = optimizer_names(runner)
    if param_scheduler and runner.param_schedulers is not None:
        state['param_schedulers'] = _schedule_states(runner.param_schedulers)
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def _schedule_states(schedules: list | dict) -> list | dict:
    if isinstance(schedules, dict):  # of several optimisers
        return {name: _schedule_states(some) for name, some in schedules.items()}
    states = [schedule.state_dict() for schedule in schedules]
    # OneCycleLR stores a function, which its constructor sets again.
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


def all_schedules(runner: Runner) -> list[_ParamScheduler]:
    """Return the parameter schedulers of all optimisers."""
    schedules = runner.param_schedulers or []
    several = schedules.values() if isinstance(schedules, dict) else [schedules]
    return [one for some in several for one in some]


def optimizer_names(runner: Runner) -> list | dict:
    """Return the names of the parameters in each group of the optimiser; by name for several optimisers."""
    name_of = {id(one): name for name, one in unwrapped(runner.model).named_parameters()}

    def names(wrapper: OptimWrapper) -> list[list[str]]:
        groups = wrapper.optimizer.param_groups
        return [[name_of.get(id(one), 'not of the model') for one in group['params']] for group in groups]

    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return {name: names(one) for name, one in wrapper.items()}
    return names(wrapper)


def has_updated(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Whether the last iteration took a step, so that no gradients are accumulated for the next one."""
    several = isinstance(optim_wrapper, OptimWrapperDict)
    wrappers = optim_wrapper.values() if several else [optim_wrapper]
    return all(wrapper.should_update() for wrapper in wrappers)


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's checkpoint hook, with atomic writes in the background and files that are safe to load.

    Each save copies the state, and a thread writes the copy to a temporary file and renames it. Then the
    thread updates ``last_checkpoint`` and deletes outdated checkpoints. An error in the thread ends the
    training. The next save and the end of the training wait for the thread.

    The files contain only tensors and plain values, so they load with ``weights_only=True``. The smoothing
    windows of the training log are not stored and restart after a resume. The best checkpoint, and a regular
    one of the same iteration, stores the metrics of its evaluation in ``meta['metric']``.

    Args:
        interval: Iterations (or epochs) between checkpoints; -1 saves only the last one.
        by_epoch: Whether ``interval`` counts epochs.
        save_optimizer: Whether to store the state of the optimiser, which resuming needs.
        save_param_scheduler: Whether to store the states of the parameter schedulers.
        out_dir: Parent folder of the checkpoint folder, which is named after the work directory. Defaults to
            saving in the work directory itself.
        max_keep_ckpts: Number of checkpoints to keep besides the best one; -1 keeps all.
        save_last: Whether to save the last iteration regardless of ``interval``.
        save_best: Name of the metric (or metrics) whose best checkpoint is also kept.
        rule: Whether a ``'greater'`` or ``'less'`` metric is better; inferred from common names of metrics.
        filename_tmpl: File name with ``{}`` for the iteration; defaults to
            ``'epoch_{}.pth'`` with ``by_epoch``, else ``'iter_{}.pth'``.
        save_begin: First iteration (or epoch) that may be saved.
    """

    out_dir: str
    _default_greater_keys = [*_CheckpointHook._default_greater_keys, 'mRecall', 'mFscore']

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | None = None,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | list[str] | None = None,
        rule: str | list[str] | None = None,
        filename_tmpl: str | None = None,
        save_begin: int = 0,
    ) -> None:
        super().__init__(
            interval,
            by_epoch,
            save_optimizer,
            save_param_scheduler,
            out_dir,
            max_keep_ckpts,
            save_last,
            save_best,
            rule,
            filename_tmpl=filename_tmpl,
            save_begin=save_begin,
        )
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix='checkpoint')
        self._writing: Future | None = None
        self._copies = HostCopies()
        self._saved_iter: int | None = None
        self._is_due = False
        self._dropped: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Set the folder of the checkpoints and remove partial files of a killed run.

        Raises:
            ValueError: If ``out_dir`` is not a local folder.
        """
        if '://' in str(self.out_dir):
            raise ValueError(f'checkpoint.out_dir={self.out_dir}: expected a local folder')
        if self.out_dir is None:
            self.out_dir = runner.work_dir
        elif str(self.out_dir) != runner.work_dir:
            self.out_dir = str(Path(self.out_dir) / Path(runner.work_dir).name)
        if is_main_process():
            remove_leftovers(Path(self.out_dir))
        runner.logger.info(f'saving checkpoints to {self.out_dir}')
        others = [path.name for path in Path(self.out_dir).glob('*.pth')] if runner.iter == 0 else []
        if others:
            runner.logger.warning(
                f'{self.out_dir} contains checkpoints of another training, such as {max(others)}: those of '
                'the same name are replaced, and until this training saves, --resume continues the other one'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save if due, after a step if gradients are accumulated; raise an error of the previous save."""
        if self._writing is not None and self._writing.done():
            self._wait()
        if not self.by_epoch:
            self._is_due |= self.every_n_train_iters(runner, self.interval, self.save_begin) or (
                self.save_last and self.is_last_train_iter(runner)
            )
        if self._is_due and has_updated(runner.optim_wrapper):
            done = runner.iter + 1
            runner.logger.info(f'Saving checkpoint at {done} iterations')
            self._save(runner, self._name_in_epoch(done), dict(epoch=runner.epoch, iter=done))

    def after_train_epoch(self, runner: Runner) -> None:
        """Save if due; if gradients are being accumulated, save after the next step instead."""
        self._is_due |= self.by_epoch and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        )
        if self.by_epoch and self._is_due and has_updated(runner.optim_wrapper):
            runner.logger.info(f'Saving checkpoint at {runner.epoch + 1} epochs')
            self._save_checkpoint(runner)

    def after_train(self, runner: Runner) -> None:
        """Wait until the last checkpoint is written."""
        self._wait()

    def close(self) -> None:
        """Wait for a file that is being written when an error ends the training."""
        if self._writing is not None:
            wait([self._writing])

    def _wait(self) -> None:
        """Wait until the checkpoint is written; raise the error of the thread, if any."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def save(self, runner: Runner) -> None:
        """Save the current iteration unless it is already saved, and wait until the file is written."""
        if self._saved_iter != runner.iter:
            self._save(runner, self._name_in_epoch(runner.iter), dict(epoch=runner.epoch, iter=runner.iter))
        self._wait()

    def _name_in_epoch(self, iteration: int) -> str:
        # In the middle of an epoch, the epoch number would overwrite the previous checkpoint.
        return f'iter_{iteration}.pth' if self.by_epoch else self.filename_tmpl.format(iteration)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Convert the content to plain data, which loads with ``weights_only=True``."""
        hub = checkpoint['message_hub']
        runtime_info, dropped = plain_entries(hub['runtime_info'])
        for name in dropped.keys() - self._dropped:
            runner.logger.warning(
                f'checkpoints do not contain the entry {name!r} of the message hub: {dropped[name]}; store '
                'numbers, strings, tensors, or lists and dicts of these'
            )
        self._dropped |= dropped.keys()
        checkpoint['message_hub'] = dict(log_scalars={}, runtime_info=runtime_info, resumed_keys={})
        for key in ('meta', 'state_dict', 'optimizer', 'param_schedulers'):
            if key in checkpoint:
                checkpoint[key] = plain(checkpoint[key])

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._save(runner, self.filename_tmpl.format(step), meta)

    def _save(self, runner: Runner, name: str, meta: dict) -> None:
        path = self._path(name)
        outdated = self._keep(runner, name)
        self._saved_iter = meta['iter']
        self._is_due = False
        runner.call_hook('before_checkpoint')  # in all processes
        runner.message_hub.update_info('last_ckpt', name)
        state = self._copy(runner, meta, whole=True)
        if state is None:
            return
        pointer = Path(runner.work_dir)
        self._writing = self._pool.submit(_write, state, path, outdated, pointer)

    def _path(self, name: str) -> Path:
        return Path(self.out_dir) / name

    def _keep(self, runner: Runner, name: str) -> list[Path]:
        """Record the new checkpoint and return the outdated ones."""
        info = runner.message_hub.runtime_info
        known = [one for one in info.get('kept_checkpoints', []) if one != name] + [name]
        count = self.max_keep_ckpts if self.max_keep_ckpts > 0 else len(known)
        runner.message_hub.update_info('kept_checkpoints', known[-count:])
        return [self._path(one) for one in known[:-count]]

    def _copy(self, runner: Runner, meta: dict, *, whole: bool) -> dict | None:
        """Return a copy of the training's state in the main process, ``None`` in the others."""
        if not is_main_process() and not is_sharded(unwrapped(runner.model)):
            return None
        self._wait()  # before the copies are overwritten
        optimizer, schedules = whole and self.save_optimizer, whole and self.save_param_scheduler
        state = run_state(runner, meta, optimizer=optimizer, param_scheduler=schedules)
        return self._copies.of(state) if is_main_process() else None

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        better = [key for key in self.key_indicators if self._improves(runner, key, metrics)]
        if not better:
            return
        # The regular checkpoint of this iteration was saved before its evaluation: write it again.
        regular = self._saved_iter == runner.iter
        step = runner.epoch if self.by_epoch else runner.iter
        replaced = [path for key in better for path in self._note_best(runner, key, metrics[key], step)]
        meta = dict(epoch=runner.epoch, iter=runner.iter, metric=plain_entries(metrics)[0])
        state = self._copy(runner, meta, whole=regular)
        if state is None:
            return
        weights = {key: state[key] for key in ('meta', 'state_dict', 'message_hub')}
        paths = [self._path(self._best_name(key, step)) for key in better]
        again = self._path(self.filename_tmpl.format(step)) if regular else None

        def write() -> None:
            for path in paths:
                write_checkpoint(weights, path)
            if again is not None:
                write_checkpoint(state, again)
            _remove(replaced)

        self._writing = self._pool.submit(write)

    def _best_keys(self, key: str) -> tuple[str, str]:
        suffix = f'_{key}' if len(self.key_indicators) > 1 else ''
        return f'best_score{suffix}', f'best_ckpt{suffix}'

    def _best_name(self, key: str, step: int) -> str:
        return f'best_{key}_{self.filename_tmpl.format(step)}'.replace('/', '_')

    def _improves(self, runner: Runner, key: str, metrics: Mapping) -> bool:
        if key not in metrics:
            raise ValueError(f'checkpoint.save_best={key!r} is not one of the metrics: {", ".join(metrics)}')
        rule = self.rules[self.key_indicators.index(key)]
        before = runner.message_hub.runtime_info.get(self._best_keys(key)[0], self.init_value_map[rule])
        return metrics[key] is not None and self.is_better_than[key](metrics[key], before)

    def _note_best(self, runner: Runner, key: str, score: float, step: int) -> list[Path]:
        """Record the new best checkpoint and return the one that it replaces."""
        score_key, file_key = self._best_keys(key)
        name = self._best_name(key, step)
        before = runner.message_hub.runtime_info.get(file_key, name)
        runner.message_hub.update_info(score_key, score)
        runner.message_hub.update_info(file_key, name)
        runner.logger.info(f'best {key} so far: {score:0.4f}; its checkpoint is {name}')
        return [self._path(before)] if before != name else []


def _write(state: dict, path: Path, outdated: list[Path], work_dir: Path) -> None:
    write_checkpoint(state, path)
    write_pointer(work_dir, path)
    _remove(outdated)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
