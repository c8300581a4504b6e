"""Run the tools on a tiny data set: start, watch and stop them, and read their output files."""

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
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT = 300
"""Seconds after which a run is killed and the fault fails."""
TINY = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(embed_dims=16, num_heads=2, drop_path_rate=0.1),
    neck=dict(in_channels=16, channels=8, post_process_channels=(4, 8, 8, 8)),
    decode_head=dict(in_channels=8, channels=8),
)
total_batch_size = 2
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=4))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(data_root={data!r}))
"""
PROBE = """
_base_ = [{base!r}]
custom_imports = dict(imports=['fault_cases.probe'])
custom_hooks = [dict(type='Probe', out='set on the command line')]
model = dict(backbone=dict(drop_rate=0.1), decode_head=dict(dropout_ratio=0.1))
train_cfg = dict(max_iters=8, val_interval=1000)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
"""


def tiny_config(folder: Path, *, train: int = 8, val: int = 5) -> Path:
    """Write a data set of ``train`` and ``val`` images to ``folder/data``, and a config for training on it.

    The config is the quickstart with a smaller model: four iterations, a log line every two iterations, and a
    validation and a checkpoint at the end.
    """
    data = folder / 'data'
    made = run_tool('tools/make_quickstart_data.py', data, '--train', train, '--val', val)
    assert made.returncode == 0, made.stderr
    config = folder / 'tiny.py'
    config.write_text(TINY.format(base=str(REPOSITORY / 'configs/quickstart.py'), data=str(data)))
    return config


def command_line(*arguments: object, processes: int = 1, torchrun: tuple[object, ...] = ()) -> list[str]:
    """Return the command that runs a tool, using torchrun for several processes or given torchrun options."""
    launcher: list[object] = []
    launched: list[object] = []
    if processes > 1 or torchrun:
        launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}', *torchrun]
        launched = ['--launcher', 'pytorch']
    return [sys.executable, *map(str, (*launcher, *arguments, *launched))]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with one thread per process and this checkout's ``dpt``."""
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
    """Run a tool in the repository until it exits, with any exit status."""
    return subprocess.run(
        command_line(*arguments, processes=processes, torchrun=torchrun),
        cwd=REPOSITORY,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Running:
    """A running tool, see :func:`started`; stdout and stderr are written to the file ``log``."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def output(self) -> str:
        """The output so far."""
        return self.log.read_text(encoding='utf-8', errors='replace')

    def wait_for_iteration(self, iteration: int) -> None:
        """Wait until the log shows this or a later iteration; requires ``default_hooks.logger.interval=1``.

        Raises:
            RuntimeError: If the process exits first or takes too long; the message ends with its output.
        """
        end = time.monotonic() + TIMEOUT
        while True:
            ended = self.process.poll() is not None  # before reading, to see the last output
            logged = re.findall(r'Iter\(train\) \[ *(\d+)/', self.output)
            if any(int(number) >= iteration for number in logged):
                return
            if ended or time.monotonic() > end:
                raise RuntimeError(f'waited in vain for iteration {iteration}: {self.output[-2000:]}')
            time.sleep(0.02)

    def ranks(self) -> dict[int, int]:
        """Return the process ids of torchrun's training processes by rank (Linux only)."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                variables = (folder / 'environ').read_bytes().split(b'\0')
                rank = [entry[5:] for entry in variables if entry.startswith(b'RANK=')]
                if parent == self.process.pid and rank:
                    found[int(rank[0])] = int(folder.name)
        return found

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait until the process exits; return its exit status, which is negative for a signal."""
        return self.process.wait(timeout)


@contextlib.contextmanager
def started(
    *arguments: object,
    log: Path,
    processes: int = 1,
    torchrun: tuple[object, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a tool without waiting for it; kill its remaining processes at the end of the block."""
    with log.open('wb') as output:
        process = subprocess.Popen(
            command_line(*arguments, processes=processes, torchrun=torchrun),
            cwd=REPOSITORY,
            env=environment(dict(PYTHONUNBUFFERED='1', **(env or {}))),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # creates a process group, to kill all processes
        )
    running = Running(process, log)
    try:
        yield running
    finally:
        children = running.ranks()  # in separate sessions, so not in the process group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # includes data-loading workers
        for pid in children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def measured(*arguments: object, timeout: float = 4 * TIMEOUT) -> tuple[int, str, float]:
    """Run a tool; return its exit status, its output and its peak resident memory in MiB."""
    with tempfile.TemporaryFile('w+', encoding='utf-8') as output:
        process = subprocess.Popen(
            command_line(*arguments), cwd=REPOSITORY, env=environment(), stdout=output, stderr=output
        )
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)  # excludes child processes
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        unit = 1 << 20 if sys.platform == 'darwin' else 1 << 10
        return process.returncode, output.read(), usage.ru_maxrss / unit


def error_line(stderr: str) -> str:
    """Return the error line of a tool, or '' if there is a traceback or not exactly one error line."""
    lines = [line for line in stderr.splitlines() if line.startswith('error: ')]
    return lines[0] if len(lines) == 1 and 'Traceback' not in stderr else ''


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the end of the output of a run that failed unexpectedly."""
    return f'status {result.returncode}: ' + ' '.join((result.stderr or result.stdout).split())[-300:]


class Trainings:
    """Runs of one tiny config in separate work directories, with ``probe.Probe``.

    Args:
        folder: Folder for the data, the config and the work directories.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / 'probed.py'
        self.config.write_text(PROBE.format(base=str(tiny_config(folder))))
        path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / 'benchmarks')))
        self.environment = dict(PYTHONPATH=path)

    def arguments(self, name: str, *flags: object, probe: Mapping | None = None, **options: object) -> list:
        """Return the command line; ``probe`` has the options of the probe, ``a__b`` sets ``a.b``."""
        settings = {key.replace('__', '.'): value for key, value in options.items()}
        settings['custom_hooks.0.out'] = self.folder / name
        settings |= {f'custom_hooks.0.{key}': value for key, value in (probe or {}).items()}
        pairs = [f'{key}={value}' for key, value in settings.items()]
        where = ('--work-dir', self.work_dir(name))
        return ['tools/train.py', self.config, *where, *flags, '--cfg-options', *pairs]

    def work_dir(self, name: str) -> Path:
        """Return the work directory of a run."""
        return self.folder / f'run_{name}'

    def train(
        self,
        name: str,
        *flags: object,
        processes: int = 1,
        probe: Mapping | None = None,
        timeout: float = TIMEOUT,
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        """Train until the process exits, with any exit status."""
        arguments = self.arguments(name, *flags, probe=probe, **options)
        return run_tool(*arguments, processes=processes, env=self.environment, timeout=timeout)

    def notes(self, name: str, rank: int = 0) -> list[dict]:
        """Return the lines that the probe wrote in all sessions of a run."""
        file = self.folder / f'{name}_rank{rank}.jsonl'
        return [json.loads(line) for line in file.read_text().splitlines()]

    def steps(self, name: str, rank: int = 0) -> dict[int, tuple[str, list[str]]]:
        """Return the exact loss and the file names of each iteration; the last repetition counts."""
        notes = [note for note in self.notes(name, rank) if 'iteration' in note]
        return {note['iteration']: (note['loss'], note['files']) for note in notes}

    def checkpoint(self, name: str, iteration: int) -> dict:
        """Load a checkpoint of a run."""
        return torch.load(self.work_dir(name) / f'iter_{iteration}.pth', weights_only=True)

    def files(self, name: str) -> list[str]:
        """Return the names of all checkpoints of a run, including partial ones."""
        return sorted(path.name for path in self.work_dir(name).iterdir() if '.pth' in path.name)


def same(one: object, other: object) -> bool:
    """Return whether two checkpoint entries are identical."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def same_training(one: dict, other: dict) -> bool:
    """Return whether two checkpoints have the same weights, optimiser state and schedules."""
    return all(same(one[key], other[key]) for key in ('state_dict', 'optimizer', 'param_schedulers'))
