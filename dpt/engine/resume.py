"""Resume a training: find the checkpoint, compare its config with the current one, restore the state.

The settings are those of the current config; what the training has learned comes from the checkpoint. If
the config has the same optimiser and schedules as before, their states are restored as saved. Otherwise each
parameter gets its state by name, and the schedules are stepped again from the beginning, so that the learning
rate is that of a training which used the current config from the start.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from dpt.checkpoints import read_checkpoint
from dpt.checkpoints.formats import MMSEG_DPT
from dpt.checkpoints.meta import config_values
from dpt.checkpoints.read import holds_unread
from dpt.config.parts import CONSUMED
from dpt.engine.checkpointing import OPTIMIZER_NAMES, POINTER, all_schedules, optimizer_names, plain
from dpt.engine.distributed import unwrapped
from dpt.engine.optim import try_step
from dpt.engine.sharding import load_optimizer, load_weights

_NUMBERED = re.compile(r'(?!best_).*?\d+\.pth')
UNCOMPARED = ('work_dir', 'experiment_name', 'resume', 'load_from', 'launcher', 'data_root')
"""Keys of a config that may differ between a training and its continuation."""
STEPPING = re.compile(
    r'param_scheduler|auto_scale_lr|optim_wrapper\..*\b(optimizer|paramwise_cfg|constructor)\b'
)
"""Keys that determine the settings of the optimiser and the schedules, but not how the wrapper uses them."""
SCHEDULE_SETTINGS = ('by_epoch', 'begin', 'end', 'step_size', 'milestones', 'T_max', 'periods', 'total_steps')
"""Settings of schedules that count iterations or epochs."""
SCORING = re.compile(
    r'val_dataloader\.dataset|val_evaluator|default_hooks\.checkpoint\.(save_best|rule)|model\.test_cfg'
)
"""Keys that determine the score of a validation and how scores are compared."""
MOST_REPORTED = 20
"""Number of changed settings in a message."""
WEIGHTS_ONLY = 'To start from its weights, set load_from instead of resuming.'


class Resumable(NamedTuple):
    """Checkpoint to resume from, and the reasons why newer ones were skipped."""

    path: str
    content: dict
    skipped: tuple[str, ...]


def damage(path: Path) -> str | None:
    """Verify all data of a checkpoint file; return a description of the damage, or ``None``."""
    if path.stat().st_size == 0:
        return 'it is empty'
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return None  # not written by torch, possibly a zip bomb; loading it raises an error
            if broken := archive.testzip():
                return f'the checksum of its entry {broken} is wrong'
        # torch also checks the archive's directory; this does not read the tensors again.
        torch.load(path, map_location='meta', mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        pass  # undamaged, but contains other objects than tensors; loading it raises an error
    except Exception as error:  # a damaged archive can fail in any way
        return f'it is truncated or damaged ({str(error).split(". ")[0]})'
    return None


def _candidates(work_dir: Path) -> list[Path]:
    """Return the checkpoint that the pointer names, then the others, newest first."""
    pointer = work_dir / POINTER
    pointed = work_dir / pointer.read_text(encoding='utf-8').strip() if pointer.is_file() else None
    folder = pointed.parent if pointed is not None else work_dir
    numbered = [path for path in folder.glob('*.pth') if _NUMBERED.fullmatch(path.name)]
    others = sorted(numbered, key=_finished, reverse=True)
    first = [pointed] if pointed is not None else []
    return first + [path for path in others if path != pointed]


def _finished(path: Path) -> tuple[int, int]:
    """Return the sort key of a checkpoint: its finished iterations, then the number in its name."""
    number = int(re.findall(r'\d+', path.name)[-1])
    try:
        content = torch.load(path, map_location='meta', mmap=True, weights_only=True)
        return int(content['meta']['iter']), number
    except Exception:  # damaged, so use the number in the name
        return number, number


def find_resume(work_dir: str, resume: str = 'auto') -> tuple[str, tuple[str, ...]]:
    """Find and verify the checkpoint to resume from.

    Args:
        work_dir: Work directory that ``'auto'`` searches.
        resume: Path of a checkpoint, or ``'auto'`` for the newest valid one.

    Returns:
        Path of the checkpoint, and the reasons why newer ones were skipped.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the given checkpoint, or every checkpoint in the work directory, is damaged.
    """
    if resume != 'auto':
        if not Path(resume).is_file():
            what = (
                'is a folder, not a checkpoint' if Path(resume).is_dir() else 'this checkpoint does not exist'
            )
            raise FileNotFoundError(f'--resume {resume}: {what}')
        if fault := damage(Path(resume)):
            raise ValueError(f'--resume {resume}: {fault}; use --resume auto for the newest valid checkpoint')
        return resume, ()
    skipped: list[str] = []
    for path in _candidates(Path(work_dir)):
        fault = damage(path) if path.is_file() else 'it does not exist'
        if fault is None:
            return str(path), tuple(skipped)
        skipped.append(f'{path}: {fault}')
    if skipped:
        raise ValueError('--resume: no valid checkpoint: ' + '; '.join(skipped))
    raise FileNotFoundError(
        f'--resume: there is no checkpoint in {work_dir}, so there is nothing to resume; '
        'give --work-dir or the path of a checkpoint, or start without --resume'
    )


def find_resumable(work_dir: str, resume: str) -> Resumable:
    """Find and read the checkpoint, and check that a training can continue from it.

    Raises:
        FileNotFoundError, ValueError: As :func:`find_resume`.
        ValueError: If another runner wrote the checkpoint, or it has no optimiser.
    """
    path, skipped = find_resume(work_dir, resume)
    content = read_checkpoint(path)
    if MMSEG_DPT.fits(content.get('state_dict') or {}) or holds_unread(content):
        raise ValueError(
            f'{path} was written by MMSegmentation or another runner: its optimiser and log cannot be '
            f'resumed here. {WEIGHTS_ONLY}'
        )
    lacking = [name for name in ('meta', 'optimizer') if name not in content]
    if lacking:  # mmengine would silently continue with a new optimiser
        raise ValueError(
            f'{path} has no {" and no ".join(lacking)}, like published and best checkpoints, so it cannot be '
            f'resumed. {WEIGHTS_ONLY}'
        )
    return Resumable(path, content, skipped)


class Change(NamedTuple):
    """Difference between the config of a checkpoint and the current one."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        before, now = ('(absent)' if one is _ABSENT else repr(one) for one in (self.before, self.now))
        return f'{self.key}: {before} -> {now}'


_ABSENT = object()


def config_changes(before: Mapping, now: Mapping) -> list[Change]:
    """Return the values that differ between two configs, by dotted key; helper variables do not count."""
    old, new = (
        dict(_leaves({key: one for key, one in config.items() if key in CONSUMED and key not in UNCOMPARED}))
        for config in (before, now)
    )
    keys = [*old, *(key for key in new if key not in old)]
    pairs = [Change(key, old.get(key, _ABSENT), new.get(key, _ABSENT)) for key in keys]
    return [one for one in pairs if one.before is _ABSENT or one.now is _ABSENT or one.before != one.now]


def _leaves(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    items: Any = value.items() if isinstance(value, Mapping) else None
    if isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        items = enumerate(value)
    if items is None:
        yield key, value
        return
    for name, one in items:
        yield from _leaves(one, f'{key}.{name}' if key else str(name))


def _changes_since(checkpoint: Mapping, config: Config) -> list[Change] | None:
    """Compare the config of a checkpoint with the current one; ``None`` if it cannot be read."""
    try:
        return config_changes(config_values(checkpoint['meta']['cfg']), config_values(config.pretty_text))
    except (KeyError, TypeError, ValueError):
        return None


def restore(runner: Runner, checkpoint: dict) -> None:
    """Restore a training: weights, position, seed, message hub, optimiser and schedules.

    Args:
        runner: Runner whose loop, optimiser and schedules are built and have not run yet.
        checkpoint: Content of a checkpoint that :func:`find_resumable` accepts.

    Raises:
        ValueError: If the config has another model or optimiser, or a change that cannot be resumed.
    """
    meta = checkpoint['meta']
    changes = _changes_since(checkpoint, runner.cfg)
    _report(runner, changes)
    _restore_weights(runner, checkpoint)
    runner.train_loop._epoch, runner.train_loop._iter = meta['epoch'], meta['iter']
    _restore_seed(runner, meta.get('seed'))
    if meta.get('dataset_meta') != plain(runner.train_dataloader.dataset.metainfo):
        runner.logger.warning('the training data have other classes or colours than before')
    runner.message_hub.load_state_dict(checkpoint['message_hub'])
    runner.train_loop.restore_place()
    _restore_steps(runner, checkpoint, changes or [])
    _forget_scores(runner, changes or [])
    runner.logger.info(f'resumed epoch: {runner.epoch}, iter: {runner.iter}')


def _report(runner: Runner, changes: list[Change] | None) -> None:
    if changes is None:
        runner.logger.warning('the checkpoint has no readable config, so changes of the config are not seen')
    elif changes:
        lines = [str(one) for one in changes[:MOST_REPORTED]]
        if len(changes) > MOST_REPORTED:
            lines.append(f'and {len(changes) - MOST_REPORTED} more')
        runner.logger.warning('\n  '.join(['the config has changed since the checkpoint:', *lines]))


def _restore_weights(runner: Runner, checkpoint: dict) -> None:
    averaged = checkpoint.get('ema_state_dict')
    if averaged and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        # EMAHook saves the average as state_dict, and the weights that are trained beside it.
        trained = {key[7:]: value for key, value in averaged.items() if key.startswith('module.')}
        checkpoint['state_dict'] = {**checkpoint['state_dict'], **trained}
        runner.logger.warning('custom_hooks has no EMAHook any more: continuing with the trained weights')
    model = unwrapped(runner.model)
    expected, found = (
        {name: tuple(one.shape) for name, one in state.items()}
        for state in (model.state_dict(), checkpoint['state_dict'])
    )
    if expected != found:
        shapes = [
            f'{name} {found[name]} instead of {expected[name]}'
            for name in expected
            if name in found and expected[name] != found[name]
        ]
        raise ValueError(
            'the checkpoint to resume from belongs to another model: missing '
            f'{sorted(expected.keys() - found)[:5]}, unexpected {sorted(found.keys() - expected)[:5]}, '
            f'other shapes {shapes[:5]}. {WEIGHTS_ONLY}'
        )
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    load_weights(model, checkpoint['state_dict'])


def _restore_seed(runner: Runner, seed: int | None) -> None:
    given = runner._randomness_cfg.get('seed')
    if seed is None or seed == given:
        return
    if given is not None:
        runner.logger.warning(f'randomness.seed={given} is not used: the training continues with seed {seed}')
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)


def _restore_steps(runner: Runner, checkpoint: Mapping, changes: list[Change]) -> None:
    """Restore optimiser and schedules, as saved if the config has the same, else by the current config."""
    wrapper, states = runner.optim_wrapper, checkpoint['optimizer']
    names, saved_names = optimizer_names(runner), checkpoint.get(OPTIMIZER_NAMES)
    stepping = [one for one in changes if STEPPING.match(one.key)]
    same_groups = saved_names in (None, names) and _rates(wrapper.state_dict()) == _rates(states)
    if (
        not stepping
        and same_groups
        and _fit_saved(runner.param_schedulers, checkpoint.get('param_schedulers'))
    ):
        load_optimizer(wrapper, states)
        _load_schedules(runner, checkpoint.get('param_schedulers'))
        return
    for change in stepping:
        kinds = [str(one).rpartition('.')[2] for one in (change.before, change.now)]
        if change.key.endswith('optimizer.type') and kinds[0] != kinds[1]:
            raise ValueError(f'{change}: the optimiser cannot be changed while resuming. {WEIGHTS_ONLY}')
    wrappers = [wrapper]
    if isinstance(wrapper, OptimWrapperDict):
        wrappers = list(wrapper.values())
        for name, one in wrapper.items():
            _load_by_name(one, states[name], names[name], (saved_names or {}).get(name), changes)
    else:
        _load_by_name(wrapper, states, names, saved_names, changes)  # type: ignore[arg-type]
    options = [str(one) for one in stepping if '.optimizer.' in one.key]
    try:
        for one in wrappers if options else []:
            try_step(one.optimizer)
    except ValueError as error:
        raise ValueError(
            f'{"; ".join(options)}: the saved state of the optimiser does not fit ({error.__cause__}), so '
            f'this cannot be changed while resuming. {WEIGHTS_ONLY}'
        ) from error
    _step_schedules(runner)


def _forget_scores(runner: Runner, changes: list[Change]) -> None:
    """Forget the best scores so far if the validation is not the same."""
    # A data set that is moved as a whole stays the same.
    moved = [one[1:] for one in changes if one.key.startswith('train_dataloader') and _is_root(one)]
    scoring = [one for one in changes if SCORING.match(one.key) and not (_is_root(one) and one[1:] in moved)]
    info = runner.message_hub.runtime_info
    best = [key for key in info if key.startswith(('best_score', 'best_ckpt'))]
    plateaus = [one for one in all_schedules(runner) if getattr(one, 'need_val_args', False)]
    if not scoring or not (best or plateaus):
        return
    for key in best:
        info.pop(key)
    for one in plateaus:
        one._reset()
    runner.logger.warning(
        'the best score so far is forgotten, because the next ones cannot be compared with it; the best '
        'checkpoint so far is kept:\n  ' + '\n  '.join(map(str, scoring))
    )


def _is_root(change: Change) -> bool:
    return change.key.endswith('.data_root')


def _fit_saved(schedules: Any, states: Any) -> bool:
    """Whether saved schedules have the settings of the current ones.

    With the same config they differ if an epoch has another length, which determines the settings of
    schedules with ``convert_to_iter_based``, and those whose ``end`` is not given.
    """
    if not schedules:
        return True
    if isinstance(schedules, dict) and isinstance(states, dict):
        return all(_fit_saved(schedules[name], states.get(name)) for name in schedules)
    return isinstance(states, list) and [
        {name: state[name] for name in SCHEDULE_SETTINGS if name in state} for state in states
    ] == [{name: vars(one)[name] for name in SCHEDULE_SETTINGS if name in vars(one)} for one in schedules]


def _rates(state: Mapping) -> list:
    """Return the unscheduled settings of the parameter groups in an optimiser's state."""
    if 'param_groups' not in state:  # several optimisers
        return [_rates(one) for one in state.values()]
    return [
        (len(group['params']), float(group.get('initial_lr', group['lr'])), group.get('weight_decay'))
        for group in state['param_groups']
    ]


def _load_by_name(
    wrapper: OptimWrapper,
    saved: Mapping,
    names: list[list[str]],
    saved_names: list[list[str]] | None,
    changes: list[Change],
) -> None:
    """Load the state of each parameter by its name; settings of the groups stay those of the config."""
    state = wrapper.state_dict()
    if saved_names is None:  # a checkpoint of an earlier version: the same groups are in the same order
        sizes = [[len(group['params']) for group in one['param_groups']] for one in (state, saved)]
        regrouped = [one.key for one in changes if one.key.startswith(('optim_wrapper.paramwise', 'model.'))]
        if sizes[0] != sizes[1] or regrouped:
            keys = ', '.join(regrouped[:3]) or 'optim_wrapper.paramwise_cfg, frozen layers'
            raise ValueError(
                'the config has other parameter groups than the checkpoint, which has no names of its '
                f'parameters ({keys}). {WEIGHTS_ONLY}'
            )
        saved_names = names
    place = dict(zip(_flat(names), _flat([group['params'] for group in state['param_groups']]), strict=True))
    before = dict(
        zip(_flat(saved_names), _flat([group['params'] for group in saved['param_groups']]), strict=True)
    )
    state['state'] = {
        place[name]: saved['state'][index]
        for name, index in before.items()
        if name in place and index in saved['state']
    }
    if 'loss_scaler' in saved and 'loss_scaler' in state:
        state['loss_scaler'] = saved['loss_scaler']
    load_optimizer(wrapper, state)


def _flat(nested: list[list]) -> list:
    return [one for inner in nested for one in inner]


def _load_schedules(runner: Runner, states: Any) -> None:
    schedules = runner.param_schedulers or []
    pairs = [(schedules, states or [])]
    if isinstance(schedules, dict):
        pairs = [(schedules[name], states[name]) for name in schedules]
    for some, saved in pairs:
        for schedule, state in zip(some, saved, strict=True):
            schedule.load_state_dict(state)


def _step_schedules(runner: Runner) -> None:
    """Step the schedules from the beginning to the current iteration, as an uninterrupted training would."""
    if any(getattr(schedule, 'need_val_args', False) for schedule in all_schedules(runner)):
        raise ValueError(
            'param_scheduler: the rate of ReduceOnPlateau depends on all earlier validations, so optimiser '
            f'and schedules cannot be changed while resuming. {WEIGHTS_ONLY}'
        )
    loop, hooks = runner.train_loop, [one for one in runner.hooks if isinstance(one, ParamSchedulerHook)]
    length = len(loop.dataloader)
    # Of an epoch of another length, the schedules have seen as much as if it had always been the present one.
    position = loop.epoch * length + loop._epoch_iter if loop.by_epoch else loop.iter
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # "scheduler.step() before optimizer.step()"
            for finished in range(1, position + 1):
                for hook in hooks:
                    hook.after_train_iter(runner, batch_idx=finished - 1)
                if finished % length == 0 and finished // length <= loop.epoch:
                    for hook in hooks:
                        hook.after_train_epoch(runner)
    except ValueError as error:  # OneCycleLR has no value after total_steps
        raise ValueError(
            f'param_scheduler: in iteration {finished + 1} of {loop.max_iters}: {error}'
        ) from error
    runner.logger.warning(
        'optimiser and schedules have the settings of the current config: the learning rate is '
        f'{_current_rates(runner)} from iteration {loop.iter + 1} on'
    )


def _current_rates(runner: Runner) -> str:
    wrapper = runner.optim_wrapper
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    rates = sorted({float(group['lr']) for one in wrappers for group in one.optimizer.param_groups})
    return ' to '.join(f'{rate:.4g}' for rate in dict.fromkeys([rates[0], rates[-1]]))
