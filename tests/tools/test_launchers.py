"""Ports of torchrun; trainings of two processes that a signal stops, by torchrun and a stand-in for Slurm."""

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SRUN = f"""#!{sys.executable}
import os, pathlib, signal, subprocess, sys
options = [one for one in sys.argv[1:] if one.startswith('--')]
first = next(i for i, one in enumerate(sys.argv) if 'python' in one)
pathlib.Path(os.environ['SEEN']).write_text(' '.join(sys.argv[1:first]))
tasks = []
signal.signal(signal.SIGUSR1, lambda number, _: [task.send_signal(number) for task in tasks])
count = int(os.environ['SLURM_NTASKS'])
for i in range(count):
    place = dict(SLURM_PROCID=str(i), SLURM_LOCALID=str(i), SLURM_NODELIST='localhost', RANK='unset')
    tasks.append(subprocess.Popen(sys.argv[first:], env=dict(os.environ, **place)))
sys.exit(max(task.wait() for task in tasks))
"""
ENDLESS = ('train_cfg.max_iters=100000', 'train_cfg.val_interval=100000', 'default_hooks.logger.interval=1')
ENDLESS += ('train_dataloader.num_workers=0', 'default_hooks.utilization=None')


@pytest.fixture
def start(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Start a command in the repository; its output goes to a file."""
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    runs = importlib.import_module('fault_cases.runs')
    begun = []

    def run(*command: object, **more: str) -> object:
        log = tmp_path / 'log'
        environment = runs.environment(dict(PYTHONUNBUFFERED='1', PYTHON=sys.executable, **more))
        with log.open('wb') as output:
            process = subprocess.Popen(
                [*map(str, command)],
                cwd=repository,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        begun.append(runs.Running(process, log))
        return begun[-1]

    yield run
    for one in begun:
        for pid in [-one.process.pid, *one.ranks().values()]:
            subprocess.run(['kill', '-KILL', '--', str(pid)], stderr=subprocess.DEVNULL)
        one.process.wait()


@pytest.mark.parametrize(
    ('given', 'place'),
    [
        ({}, '--standalone'),  # a free port
        (dict(PORT='29501'), '--master_port=29501'),
        (dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='first'), '--master_addr=first --master_port=29500'),
    ],
)
def test_only_several_machines_share_a_fixed_port(repository: Path, given: dict, place: str) -> None:
    command = ['bash', str(repository / 'tools' / 'dist_train.sh'), 'config.py', '8', '--amp']
    environment = dict(os.environ, PYTHON='echo', **given)
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.startswith('-m dpt.torchrun --')
    assert f'{place} --nproc_per_node=8' in printed
    assert printed.endswith('tools/train.py config.py --launcher pytorch --amp\n')


def test_slurm_gives_each_task_its_cores_and_gpus(repository: Path, tmp_path: Path) -> None:
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    command = ['bash', str(repository / 'tools' / 'slurm_train.sh'), 'gpu', 'job', 'config.py', '--amp']
    given = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='2', CPUS_PER_TASK='7', PYTHON='python')
    environment = dict(os.environ, **given)
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert '--gres=gpu:2 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=7' in printed
    assert printed.endswith('tools/train.py config.py --launcher slurm --amp\n')


def test_sigusr1_to_dist_train_saves(start: Callable, tiny_config: Path, tmp_path: Path) -> None:
    options = ('--work-dir', tmp_path / 'work', '--cfg-options', *ENDLESS)
    run = start('bash', 'tools/dist_train.sh', tiny_config, 2, *options)
    run.wait_for_iteration(2)
    os.kill(run.process.pid, signal.SIGUSR1)
    assert run.wait(120) == 75, run.output
    assert re.search(r'SIGUSR1: stopped after iteration \d+, saved', run.output)
    assert 'Traceback' not in run.output
    assert (tmp_path / 'work' / 'last_checkpoint').exists()


def test_the_slurm_job_of_the_documentation_requeues_itself(
    repository: Path, start: Callable, tiny_config: Path, tmp_path: Path
) -> None:
    page = (repository / 'docs' / 'distributed.md').read_text()
    job = next(block for block in re.findall(r'```bash\n(.*?)```', page, re.DOTALL) if '#SBATCH' in block)
    job = job.replace('configs/dpt_vit-b16_512x512_160k_ade20k.py', str(tiny_config))
    job = job.replace('work_dirs/ade20k', str(tmp_path / 'work'))
    job = job.replace('"${resume[@]}"', f'"${{resume[@]}}" --cfg-options {" ".join(ENDLESS)}')
    job = job.replace('  python -u', f'  {sys.executable} -u')
    for name, text in (('srun', SRUN), ('scontrol', f'#!/bin/sh\necho "$@" > {tmp_path}/requeued\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'job.sh').write_text(job)
    slurm = dict(SLURM_NTASKS='2', SLURM_JOB_ID='77', SLURM_CPUS_PER_TASK='5', SEEN=f'{tmp_path}/seen')
    run = start('bash', tmp_path / 'job.sh', PATH=f'{tmp_path}:{os.environ["PATH"]}', **slurm)
    run.wait_for_iteration(2)
    children = Path(f'/proc/{run.process.pid}/task/{run.process.pid}/children').read_text().split()
    os.kill(int(children[0]), signal.SIGUSR1)
    assert run.wait(120) == 0, run.output
    assert (tmp_path / 'requeued').read_text() == 'requeue 77\n', run.output
    assert '--cpus-per-task=5' in (tmp_path / 'seen').read_text()
    assert (tmp_path / 'work' / 'last_checkpoint').exists()
    (info,) = (tmp_path / 'work').glob('run_info_*.json')
    assert '"processes": 2' in info.read_text()
