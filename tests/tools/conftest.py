"""A tiny data set and config, and the tools run as a user does."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope='session')
def run_tool(repository: Path) -> Run:
    """Run ``python tools/...`` in the repository; fails, with the output, on another exit status."""

    def run(*arguments: object, status: int = 0, processes: int = 1) -> subprocess.CompletedProcess:
        command = [sys.executable]
        if processes > 1:
            command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}']
        command += [str(argument) for argument in arguments]
        if processes > 1:
            command += ['--launcher', 'pytorch']
        environment = dict(os.environ, OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE')
        result = subprocess.run(
            command, cwd=repository, env=environment, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == status, f'{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}'
        return result

    return run


@pytest.fixture
def call(
    tool_main: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run a tool in this process, which takes no start; returns its exit status, stdout and stderr."""
    # The logger of an earlier run writes to a stream that pytest has closed.
    monkeypatch.setattr(logging, 'raiseExceptions', False)

    def run(tool: str, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = tool_main(f'tools/{tool}.py')(*arguments)
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope='session')
def tiny_config(repository: Path, tool_main: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart, shrunken to 8 training and 5 validation images and a few iterations."""
    folder = tmp_path_factory.mktemp('tiny')
    data = folder / 'data'
    assert tool_main('tools/make_quickstart_data.py')(data, '--train', 8, '--val', 5) == 0
    config = folder / 'tiny.py'
    config.write_text(
        f'_base_ = [{str(repository / "configs" / "quickstart.py")!r}]\n'
        'model = dict(backbone=dict(embed_dims=16, num_heads=2, drop_path_rate=0.1),\n'
        '             neck=dict(in_channels=16, channels=8, post_process_channels=(4, 8, 8, 8)),\n'
        '             decode_head=dict(in_channels=8, channels=8))\n'
        'total_batch_size = 2\n'
        'train_cfg = dict(max_iters=4, val_interval=4)\n'
        'default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=4))\n'
        'train_dataloader = val_dataloader = test_dataloader = '
        f'dict(dataset=dict(data_root={str(data)!r}))\n'
    )
    return config


@pytest.fixture(scope='session')
def trained(run_tool: Run, tiny_config: Path) -> Path:
    """The work directory of four iterations of training; ``stdout.log`` holds what was printed."""
    work_dir = tiny_config.parent / 'trained'
    result = run_tool('tools/train.py', tiny_config, '--work-dir', work_dir)
    (work_dir / 'stdout.log').write_text(result.stdout + result.stderr)
    return work_dir


@pytest.fixture(scope='session')
def best(trained: Path) -> Path:
    """The best checkpoint of that training, without optimiser state."""
    return next(trained.glob('best_mIoU_iter_*.pth'))
