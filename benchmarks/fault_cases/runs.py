"""Real runs of the tools on a tiny data set: started, watched, stopped, and what they left read back."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 300
"""Seconds after which a run that has to end is killed and the fault counts as failed."""


def tiny_config(folder: Path, *, train: int = 8, val: int = 5, more: str = '') -> Path:
    """Write the quickstart, shrunken to a few images and iterations, and its data set.

    Four iterations, a validation and a checkpoint after the last; a line of the log after each second one.

    Args:
        folder: Gets ``data/`` (ADE20K's layout) and ``tiny.py``.
        train: Number of training images.
        val: Number of validation images.
        more: Lines added to the config.
    """
    data = folder / 'data'
    made = run_tool('tools/make_quickstart_data.py', data, '--train', train, '--val', val)
    assert made.returncode == 0, made.stderr
    config = folder / 'tiny.py'
    config.write_text(
        f'_base_ = [{str(REPOSITORY / "configs" / "quickstart.py")!r}]\n'
        'model = dict(backbone=dict(embed_dims=16, num_heads=2, drop_path_rate=0.1),\n'
        '             neck=dict(in_channels=16, channels=8, post_process_channels=(4, 8, 8, 8)),\n'
        '             decode_head=dict(in_channels=8, channels=8))\n'
        'total_batch_size = 2\n'
        'train_cfg = dict(max_iters=4, val_interval=4)\n'
        'default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=4))\n'
        f'train_dataloader = dict(dataset=dict(data_root={str(data)!r}))\n'
        f'val_dataloader = dict(dataset=dict(data_root={str(data)!r}))\n'
        f'test_dataloader = dict(dataset=dict(data_root={str(data)!r}))\n' + more
    )
    return config


def command_line(*arguments: object, processes: int = 1, torchrun: tuple[object, ...] = ()) -> list[str]:
    """The command that runs a tool as a user does, under torchrun where there are several processes.

    Args:
        arguments: The tool, relative to the repository, and its arguments.
        processes: Number of processes.
        torchrun: More options of torchrun, which is then used for one process, too.
    """
    launcher: list[object] = []
    launched: list[object] = []
    if processes > 1 or torchrun:
        launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}', *torchrun]
        launched = ['--launcher', 'pytorch']
    return [sys.executable, *map(str, (*launcher, *arguments, *launched))]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with one thread a process and this checkout's ``dpt``."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get('PYTHONPATH'))))
    settings = dict(OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', PYTHONPATH=path)
    return {**os.environ, **settings, **(more or {})}


def run_tool(
    *arguments: object,
    processes: int = 1,
    torchrun: tuple[object, ...] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, whatever its exit status, in the repository."""
    return subprocess.run(
        command_line(*arguments, processes=processes, torchrun=torchrun),
        cwd=REPOSITORY,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Running:
    """A tool at work; :func:`started` makes it. Its output, both streams, is in the file ``log``."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding='utf-8', errors='replace')

    def wait_for(self, pattern: str, timeout: float = TIMEOUT) -> None:
        """Wait until the output matches a regular expression.

        Raises:
            RuntimeError: If the process ends before that, or the time is over; with what it printed last.
        """
        self._wait_until(lambda: re.search(pattern, self.output) is not None, pattern, timeout)

    def wait_for_iteration(self, iteration: int, timeout: float = TIMEOUT) -> None:
        """Wait until the log shows that an iteration, or a later one, is done.

        The log has a line every ``default_hooks.logger.interval`` iterations: set it to 1 to see each.

        Raises:
            RuntimeError: As :meth:`wait_for`.
        """

        def reached() -> bool:
            return any(int(n) >= iteration for n in re.findall(r'Iter\(train\) \[ *(\d+)/', self.output))

        self._wait_until(reached, f'iteration {iteration}', timeout)

    def _wait_until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        end = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None  # asked first: its last words count
            if condition():
                return
            if ended or time.monotonic() > end:
                raise RuntimeError(f'waited in vain for {what}: {self.output[-2000:]}')
            time.sleep(0.02)

    def ranks(self) -> dict[int, int]:
        """Process ids of the training processes by rank, started by torchrun (Linux only)."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                variables = (folder / 'environ').read_bytes().split(b'\0')
                rank = [entry[5:] for entry in variables if entry.startswith(b'RANK=')]
                if parent == self.process.pid and rank:
                    found[int(rank[0])] = int(folder.name)
        return found

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process that was started, and to it alone."""
        self.process.send_signal(number)

    def kill_all(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process and all that it started: workers of the loader, ranks."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the end and return the exit status, negative for a signal."""
        return self.process.wait(timeout)


@contextlib.contextmanager
def started(
    *arguments: object,
    log: Path,
    processes: int = 1,
    torchrun: tuple[object, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a tool and go on at once; whatever is left of it at the end of the block is killed."""
    with log.open('wb') as output:
        process = subprocess.Popen(
            command_line(*arguments, processes=processes, torchrun=torchrun),
            cwd=REPOSITORY,
            env=environment(dict(PYTHONUNBUFFERED='1', **(env or {}))),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that it can be killed with all its children
        )
    running = Running(process, log)
    try:
        yield running
    finally:
        children = running.ranks()  # torchrun gives each rank a session of its own
        running.kill_all()
        for pid in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def result_of(output: str) -> dict[str, float]:
    """The metrics that ``tools/test.py`` prints last."""
    return json.loads([line for line in output.splitlines() if line.startswith('RESULT ')][-1][7:])


def scalars(work_dir: Path) -> list[dict]:
    """What the run logged, of all its starts, in order: losses, rates, scores."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def error_line(stderr: str) -> str:
    """The one line with which a tool refuses; empty where there is none or a traceback beside it."""
    lines = [line for line in stderr.splitlines() if line.startswith('error: ')]
    return lines[0] if len(lines) == 1 and 'Traceback' not in stderr else ''


def measured(*arguments: object, timeout: float = 4 * TIMEOUT) -> tuple[int, str, float]:
    """Run a tool; return its exit status, what it printed and its peak resident memory in MiB."""
    with tempfile.TemporaryFile('w+', encoding='utf-8') as output:
        process = subprocess.Popen(
            command_line(*arguments), cwd=REPOSITORY, env=environment(), stdout=output, stderr=output
        )
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)  # what the process used, its children apart
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        unit = 1 << 20 if sys.platform == 'darwin' else 1 << 10
        return process.returncode, output.read(), usage.ru_maxrss / unit
