"""What a run was made with, kept beside its results."""

import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

import dpt
from dpt.registry import HOOKS

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'mmcv', 'numpy', 'opencv-python', 'safetensors')


def package_versions() -> dict[str, str]:
    """Return the versions of Python, this package and those it stands on, where installed."""
    versions = {'python': platform.python_version(), 'dpt': dpt.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``-dirty`` if files differ; ``None`` without git."""
    command = ['git', '-C', str(folder), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def device_name() -> str:
    """Return the name of the device that computes."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'CPU'


@HOOKS.register_module()
class RunInfoHook(Hook):
    """Write ``run_info_<time>.json`` into the work directory: command, seed, git commit, versions, device."""

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Write the file."""
        info = dict(
            command=sys.argv,
            time=time.strftime('%Y-%m-%d %H:%M:%S'),
            seed=runner.seed,
            git_commit=git_commit(Path(dpt.__file__).parent),
            versions=package_versions(),
            device=device_name(),
            processes=get_world_size(),
            threads=torch.get_num_threads(),
        )
        path = Path(runner.work_dir) / f'run_info_{runner.timestamp}.json'
        path.write_text(json.dumps(info, indent=2) + '\n')
