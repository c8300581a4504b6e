"""Faults with several processes: lost ranks and elastic restarts."""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import torch

from . import Fault
from .runs import run_tool, same, started, tiny_config

LOGGED = 'default_hooks.logger.interval=1'  # as waiting for an iteration requires
RANK_TIMEOUT = 20  # seconds; a busy machine takes several seconds until the first step
LAUNCHER_GRACE = 60  # seconds; torchrun waits 30 s for a rank to exit before killing it


def lose_rank_1(folder: Path, *, number: signal.Signals) -> tuple[str, bool]:
    """Send SIGKILL or SIGSTOP to one of two ranks; if it is stopped, the other one waits in a collective."""
    options = ('train_cfg.max_iters=100000', f'env_cfg.dist_cfg.timeout={RANK_TIMEOUT}', LOGGED)
    arguments = ('tools/train.py', tiny_config(folder), '--work-dir', folder / 'work', '--cfg-options')
    with started(*arguments, *options, log=folder / 'log', processes=2) as run:
        run.wait_for_iteration(3)
        began = time.monotonic()
        os.kill(run.ranks()[1], number)
        status = run.wait(RANK_TIMEOUT + LAUNCHER_GRACE + 60)
        took, output = time.monotonic() - began, run.output
    named = re.search(r'error: (rank 1 .*)|rank +: 1 \(local_rank: 1\)\s+exitcode +: -9', output)
    said = (named[1] or 'torchrun names rank 1, exitcode -9') if named else output[-300:]
    in_time = took < RANK_TIMEOUT + LAUNCHER_GRACE
    return f'after {took:.0f} s, status {status}: {said[:170]}', status != 0 and named is not None and in_time


def kill_torchrun(folder: Path) -> tuple[str, bool]:
    """Kill torchrun; its processes notice it, save and end."""
    options = ('train_cfg.max_iters=100000', 'train_cfg.val_interval=100000', LOGGED)
    arguments = ('tools/train.py', tiny_config(folder), '--work-dir', folder / 'work', '--cfg-options')
    with started(*arguments, *options, log=folder / 'log', processes=2) as run:
        run.wait_for_iteration(3)
        ranks = run.ranks().values()
        os.kill(run.process.pid, signal.SIGKILL)
        end = time.monotonic() + LAUNCHER_GRACE
        while any(map(_is_running, ranks)):
            if time.monotonic() > end:
                return 'its processes are still running', False
            time.sleep(0.1)
        said = re.search(r'torchrun has ended: stopped after iteration \d+, saved', run.output)
    return said[0] if said else run.output[-300:], said is not None


def elastic_restart(folder: Path) -> tuple[str, bool]:
    """Let torchrun restart a job with a killed rank; the job resumes from its last checkpoint."""
    config = tiny_config(folder)

    def arguments(name: str) -> tuple:
        options = ('train_cfg.max_iters=30', 'train_cfg.val_interval=99', LOGGED)
        options += ('default_hooks.checkpoint.interval=10', 'randomness.seed=1')
        return ('tools/train.py', config, '--work-dir', folder / name, '--cfg-options', *options)

    def weights(name: str) -> dict[str, torch.Tensor]:
        return torch.load(folder / name / 'iter_30.pth', weights_only=True)['state_dict']

    torchrun = ('--max-restarts=1', '--monitor-interval=0.1')
    with started(*arguments('work'), log=folder / 'log', processes=2, torchrun=torchrun) as run:
        run.wait_for_iteration(14)
        os.kill(run.ranks()[1], signal.SIGKILL)
        status, output = run.wait(), run.output
    if status:
        return f'status {status}: {output[-300:]}', False
    whole = run_tool(*arguments('whole'), processes=2)
    assert whole.returncode == 0, whole.stderr[-1000:]
    resumed = set(re.findall(r'resumed epoch: 0, iter: (\d+)', output))
    equal = same(weights('work'), weights('whole'))
    seen = f'status 0, resumed at {", ".join(sorted(resumed)) or "nothing"}, weights equal: {equal}'
    return seen, bool(resumed) and resumed <= {'10', '20'} and equal


def _is_running(pid: int) -> bool:
    state = Path(f'/proc/{pid}/stat')
    return state.exists() and state.read_text().rpartition(')')[2].split()[0] != 'Z'


NAMED = 'the job ends within the time-out and names rank 1'
FAULTS = (
    Fault('processes.killed_rank', NAMED, partial(lose_rank_1, number=signal.SIGKILL)),
    Fault('processes.stopped_rank', NAMED, partial(lose_rank_1, number=signal.SIGSTOP)),
    Fault('processes.killed_torchrun', 'its processes save and end', kill_torchrun),
    Fault('processes.elastic_restart', 'resumes from its last checkpoint, same weights', elastic_restart),
)
