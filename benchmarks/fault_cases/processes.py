"""Faults with several processes: equal scores, lost ranks, work directory in use, elastic restarts."""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import torch

from . import Fault
from .runs import Running, error_line, result_of, run_tool, started, tiny_config

LONG = ('train_cfg.max_iters=100000', 'train_cfg.val_interval=100000', 'default_hooks.logger.interval=1')
RANK_TIMEOUT = 20  # seconds; a busy machine takes several seconds until the first step
LAUNCHER_GRACE = 60  # seconds; torchrun waits 30 s for a rank to exit before killing it


def same_score(folder: Path) -> tuple[str, bool]:
    """Evaluate 13 images with 1, 2 and 3 processes."""
    config = tiny_config(folder, train=2, val=13)
    work = folder / 'work'
    options = ('--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=9')
    trained = run_tool('tools/train.py', config, '--work-dir', work, *options)
    assert trained.returncode == 0, trained.stderr[-1000:]
    results = [
        run_tool('tools/test.py', config, work / 'iter_2.pth', '--work-dir', work, processes=count)
        for count in (1, 2, 3)
    ]
    assert not any(one.returncode for one in results), results[-1].stderr[-1000:]
    scores = [result_of(one.stdout) for one in results]
    shown = ', '.join(f'{score["mIoU"]!r}' for score in scores)
    return f'mIoU {shown}', scores[0] == scores[1] == scores[2]


def _ended(run: Running, began: float) -> tuple[str, bool]:
    """Return what a job printed that lost rank 1, and whether it ended in time and named the rank."""
    status = run.wait(RANK_TIMEOUT + LAUNCHER_GRACE + 60)
    took = time.monotonic() - began
    named = re.search(r'error: (rank 1 .*)|rank +: 1 \(local_rank: 1\)\s+exitcode +: -9', run.output)
    said = (named[1] or 'torchrun names rank 1, exitcode -9') if named else run.output[-300:]
    in_time = took < RANK_TIMEOUT + LAUNCHER_GRACE
    return f'after {took:.0f} s, status {status}: {said[:170]}', status != 0 and named is not None and in_time


def lose_rank_1(folder: Path, *, number: signal.Signals) -> tuple[str, bool]:
    """Send SIGKILL or SIGSTOP to one of two ranks; if it is stopped, the other one waits in a collective."""
    config = tiny_config(folder)
    options = ('--cfg-options', f'env_cfg.dist_cfg.timeout={RANK_TIMEOUT}', *LONG)
    arguments = ('tools/train.py', config, '--work-dir', folder / 'work', *options)
    with started(*arguments, log=folder / 'log', processes=2) as run:
        run.wait_for_iteration(3)
        began = time.monotonic()
        os.kill(run.ranks()[1], number)
        return _ended(run, began)


HANG = """
import time
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from dpt.registry import HOOKS

@HOOKS.register_module()
class Hang(Hook):
    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 3 and get_rank() == 1:
            print('rank 1 hangs now', flush=True)
            time.sleep(1000)
"""


def hanging_rank(folder: Path) -> tuple[str, bool]:
    """Make a rank hang without ending its process."""
    (folder / 'hang.py').write_text(HANG)
    more = "custom_imports = dict(imports=['hang'])\ncustom_hooks = [dict(type='Hang')]\n"
    config = tiny_config(folder, more=more)
    options = ('--cfg-options', f'env_cfg.dist_cfg.timeout={RANK_TIMEOUT}', *LONG)
    arguments = ('tools/train.py', config, '--work-dir', folder / 'work', *options)
    env = dict(PYTHONPATH=os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')]))
    with started(*arguments, log=folder / 'log', processes=2, env=env) as run:
        run.wait_for('rank 1 hangs now')
        return _ended(run, time.monotonic())


def second_run(folder: Path) -> tuple[str, bool]:
    """Train in the work directory of a running training, and again after killing the first training."""
    config = tiny_config(folder)
    arguments = ('tools/train.py', config, '--work-dir', folder / 'work', '--cfg-options')
    with started(*arguments, *LONG, log=folder / 'log') as run:
        run.wait_for_iteration(2)
        second = run_tool(*arguments, *LONG, timeout=120)
        refusal = error_line(second.stderr)
        refused = second.returncode == 1 and f'in use by process {run.process.pid}' in refusal
        going = run.process.poll() is None
        run.kill()
        run.wait()
        third = run_tool(*arguments, 'train_cfg.max_iters=1', timeout=120)
    seen = f'{refusal[:120]}...; the first continues: {going}; after SIGKILL the next starts: '
    return f'{seen}{third.returncode == 0}', refused and going and third.returncode == 0


def _restart(folder: Path, config: Path, work: Path, iteration: int, *options: str) -> tuple[int, str]:
    """Kill a rank of a job that may restart once; return its exit status and output."""
    arguments = ('tools/train.py', config, '--work-dir', work, '--cfg-options', *options)
    torchrun = ('--max-restarts=1', '--monitor-interval=0.1')
    with started(*arguments, log=folder / 'log', processes=2, torchrun=torchrun) as run:
        run.wait_for_iteration(iteration)
        os.kill(run.ranks()[1], signal.SIGKILL)
        return run.wait(), run.output


def _weights(work: Path) -> dict[str, torch.Tensor]:
    return torch.load(work / 'iter_30.pth', weights_only=True)['state_dict']


def elastic_restart(folder: Path) -> tuple[str, bool]:
    """Let torchrun restart a job with a killed rank; the job resumes from its last checkpoint."""
    config = tiny_config(folder)
    options = (
        *('train_cfg.max_iters=30', 'train_cfg.val_interval=99', 'default_hooks.logger.interval=1'),
        *('default_hooks.checkpoint.interval=10', 'randomness.seed=1'),
    )
    status, output = _restart(folder, config, folder / 'work', 14, *options)
    resumed = re.findall(r'resumed epoch: 0, iter: (\d+)', output)
    arguments = ('tools/train.py', config, '--work-dir', folder / 'whole', '--cfg-options', *options)
    whole = run_tool(*arguments, processes=2)
    assert whole.returncode == 0, whole.stderr[-1000:]
    resumed_weights, weights = _weights(folder / 'work') if status == 0 else {}, _weights(folder / 'whole')
    equal = all(torch.equal(resumed_weights.get(key, torch.empty(0)), weights[key]) for key in weights)
    errors = [line for line in output.splitlines() if 'rror' in line]
    last = '' if status == 0 else ' '.join(errors[-3:])[-300:]
    places = ', '.join(sorted(set(resumed))) or 'nothing'
    seen = f'status {status}, resumed at {places}, weights equal: {equal} {last}'
    return seen, status == 0 and set(resumed) <= {'10', '20'} and bool(resumed) and equal


def restart_before_saving(folder: Path) -> tuple[str, bool]:
    """Restart before the first save, in a work directory with a checkpoint of another run."""
    config = tiny_config(folder)
    work = folder / 'work'
    older = run_tool('tools/train.py', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_iters=2')
    assert older.returncode == 0, older.stderr[-1000:]
    options = ('train_cfg.max_iters=12', 'train_cfg.val_interval=99', 'default_hooks.logger.interval=1')
    status, output = _restart(folder, config, work, 3, *options, 'default_hooks.checkpoint.interval=12')
    starts = len(re.findall(r'Iter\(train\) \[ *1/12\]', output))
    seen = f'status {status}, started at 0 {starts} times, resumed: {"resumed epoch" in output}'
    return seen, status == 0 and starts == 2 and 'resumed epoch' not in output


NAMED = 'the job ends within the time-out and names rank 1'
FAULTS = (
    Fault('processes.same_score', 'identical mIoU of 13 images with 1, 2 and 3 processes', same_score),
    Fault('processes.killed_rank', NAMED, partial(lose_rank_1, number=signal.SIGKILL)),
    Fault('processes.stopped_rank', NAMED, partial(lose_rank_1, number=signal.SIGSTOP)),
    Fault('processes.hanging_rank', NAMED, hanging_rank),
    Fault(
        'processes.second_run', 'rejected with the process id; the first continues; no stale lock', second_run
    ),
    Fault('processes.elastic_restart', 'resumes from its last checkpoint, same weights', elastic_restart),
    Fault(
        'processes.restart_before_saving',
        "starts from scratch, not from another run's",
        restart_before_saving,
    ),
)
