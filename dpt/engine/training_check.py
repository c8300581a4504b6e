"""Check a training after it is built and before its first iteration."""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, EMAHook
from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.runner import Runner

from dpt.engine.checkpointing import all_schedules

NEGLIGIBLE = 1e-6
"""Learning rates below this fraction of the highest one train nothing."""


def check_training(runner: Runner) -> None:
    """Check names of metrics, units of schedules and hooks, and the learning rate up to the last iteration.

    Raises:
        ValueError: With a line for each mistake.
    """
    problems = [*_check_metric_names(runner), *_check_units(runner)]
    if sum(isinstance(hook, EMAHook) for hook in runner.hooks) > 1:
        problems.append('custom_hooks: several EMAHooks would mix up their weights: keep one')
    if not problems:
        problems = [*_check_rates(runner)]
    for key in _beyond_the_end(runner):
        runner.logger.warning(f'{key} is beyond the end of the training: lower it, or train longer')
    if problems:
        raise ValueError('\n'.join(f'{runner.cfg.filename or "config"}: {problem}' for problem in problems))


def _check_metric_names(runner: Runner) -> Iterator[str]:
    """Check the names of metrics in hooks and schedules, if every metric says which scores it returns."""
    metrics = runner.val_loop.evaluator.metrics if runner.val_loop is not None else []
    wanted = {}
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            wanted['default_hooks.checkpoint.save_best'] = [
                one for one in hook.key_indicators if one != 'auto'
            ]
        if isinstance(hook, EarlyStoppingHook):
            wanted['EarlyStoppingHook.monitor'] = [hook.monitor]
    for schedule in all_schedules(runner):
        if getattr(schedule, 'need_val_args', False):
            wanted[f'{type(schedule).__name__}.monitor'] = [schedule.monitor]
    if not all(hasattr(metric, 'score_names') for metric in metrics):
        return
    known = [name for metric in metrics for name in metric.score_names]
    if repeated := [name for name, count in Counter(known).items() if count > 1]:
        yield f'val_evaluator: several metrics return {", ".join(repeated)}: give all but one a prefix'
    for key, names in wanted.items():
        for name in names:
            if name in known:
                continue
            if metrics:
                yield f'{key}={name!r} is not one of the metrics of the validation: {", ".join(known)}'
            elif key != 'default_hooks.checkpoint.save_best':
                yield f'{key}={name!r}, but there is no validation: set val_cfg and val_dataloader'


def _check_units(runner: Runner) -> Iterator[str]:
    """Check that nothing counts epochs in a training that counts iterations."""
    for number, schedule in enumerate(all_schedules(runner)):
        name = type(schedule).__name__
        after_validation = getattr(schedule, 'need_val_args', False)
        if schedule.by_epoch and not after_validation and not runner.train_loop.by_epoch:
            yield (
                f'param_scheduler.{number}: {name} counts epochs (by_epoch=True, the default), but train_cfg '
                'counts iterations, so the schedule would have no effect: set by_epoch=False'
            )
    # Without such a key, mmengine's default hook saves the last iteration.
    stated = (runner.cfg.get('default_hooks') or {}).get('checkpoint') is not None
    for hook in runner.hooks if stated else ():
        counts_epochs = isinstance(hook, CheckpointHook) and hook.by_epoch and hook.interval > 0
        if counts_epochs and not runner.train_loop.by_epoch:
            yield (
                f'default_hooks.checkpoint: interval={hook.interval} counts epochs (by_epoch=True, the '
                'default), but train_cfg counts iterations, so only the last one would be saved: set '
                'by_epoch=False'
            )


def _beyond_the_end(runner: Runner) -> Iterator[str]:
    """Yield settings that are not reached, as after shortening a training."""
    loop = runner.train_loop
    if runner.val_loop is not None and loop.val_begin > loop.length:
        yield f'train_cfg.val_begin={loop.val_begin}'
    iterations = loop.length * (len(loop.dataloader) if loop.by_epoch else 1)
    for number, one in enumerate(all_schedules(runner)):
        if (loop.length if one.by_epoch else iterations) < one.end < INF:
            yield f'param_scheduler.{number}: end={one.end} of {type(one).__name__}'


def _check_rates(runner: Runner) -> Iterator[str]:
    """Step copies of the schedules to the end of the training and look at the learning rate."""
    loop = runner.train_loop
    per_epoch = len(loop.dataloader)
    for schedules in _by_optimizer(all_schedules(runner)):
        groups = schedules[0].optimizer.param_groups
        first = max(groups, key=lambda group: group.get('initial_lr') or group['lr'] or 0)
        copies = _on_one_group(schedules, dict(first, params=[]))
        group = copies[0].optimizer.param_groups[0]
        every_epoch = [one for one in copies if one.by_epoch and loop.by_epoch]
        every_iteration = [one for one in copies if not one.by_epoch]
        rates = [group['lr']]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                for finished in range(1, loop.max_iters - loop.iter):
                    if finished % 1000 == 0:  # save time
                        every_iteration = [one for one in every_iteration if one._global_step < one.end]
                    for one in every_iteration:
                        one.step()
                    if every_epoch and (loop._epoch_iter + finished) % per_epoch == 0:
                        for one in every_epoch:
                            one.step()
                    rates.append(group['lr'])
        except ValueError as error:  # OneCycleLR has no value after total_steps
            yield f'param_scheduler: in iteration {loop.iter + len(rates) + 1} of {loop.max_iters}: {error}'
            continue
        if all(one.param_name != 'lr' for one in schedules):  # schedules of the momentum
            continue
        lowest = NEGLIGIBLE * max(rates)
        negligible = sum(rate <= lowest for rate in rates)
        if negligible > 1 + len(rates) // 100:
            runner.logger.warning(
                f'param_scheduler: the learning rate is 0 or negligible in {negligible} of the remaining '
                f'{len(rates)} iterations, which train nothing: compare its begin and end with '
                f'{"max_epochs" if loop.by_epoch else "max_iters"} of train_cfg'
            )


def _by_optimizer(schedules: list[_ParamScheduler]) -> list[list[_ParamScheduler]]:
    found: dict[int, list] = {}
    for schedule in schedules:
        found.setdefault(id(schedule.optimizer), []).append(schedule)
    return list(found.values())


def _on_one_group(schedules: list[_ParamScheduler], group: dict) -> list[_ParamScheduler]:
    """Return copies of schedules that act on ``group`` only."""
    optimizer = SimpleNamespace(param_groups=[group], step=None, _global_step=0)
    copies = []
    for schedule in schedules:
        one = copy.copy(schedule)
        one.optimizer = optimizer
        if 'base_values' in vars(one):
            one.base_values = [group.get(f'initial_{one.param_name}', group[one.param_name])]
        copies.append(one)
    return copies
