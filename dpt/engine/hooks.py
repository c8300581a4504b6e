"""Hooks that check and record a run before it starts."""

import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

import dpt
from dpt.checkpoints import dataset_meta, read_meta
from dpt.config.facts import HEADS
from dpt.registry import HOOKS


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Compare ``num_classes`` of every head with the number of classes in the data set.

    Too few classes would cause an obscure error in a later iteration (on a GPU, a device-side assertion); too
    many would train classes that never occur.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        self._check(runner, runner.train_dataloader.dataset, 'train_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, runner.test_dataloader.dataset, 'test_dataloader')

    @staticmethod
    def _check(runner: Runner, dataset: object, loader: str) -> None:
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        for name, head in runner.model.named_modules():
            count = getattr(head, 'num_classes', None)
            if not HEADS & set(name.split('.')):  # a backbone may keep the num_classes of its pretraining
                continue
            if classes and isinstance(count, int) and count != len(classes):
                raise ValueError(
                    f'{name} has num_classes={count}, but the data set of {loader} has '
                    f'{len(classes)} classes: set num_classes of the heads to {len(classes)}'
                )


def check_class_names(checkpoint: str | Path, metainfo: Mapping) -> None:
    """Compare the class names in a checkpoint with those of the data that test it.

    Warn if they differ. A checkpoint without names, or with another number of them, is not checked.

    Raises:
        ValueError: If the names are the same in another order.
    """
    trained = dataset_meta(read_meta(checkpoint)) or {}
    before, now = ([name.strip().lower() for name in one.get('classes') or ()] for one in (trained, metainfo))
    if before == now or len(before) != len(now):
        return
    i = next(i for i, name in enumerate(before) if name != now[i])
    text = f'class {i} is {now[i]!r} in the test data, but {before[i]!r} in {checkpoint}'
    if sorted(before) == sorted(now):
        raise ValueError(f'{text}: name the classes in the order of the checkpoint')
    print_log(
        f'{text}: the scores are valid only if both names mean the same class', 'current', logging.WARNING
    )


PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'mmcv', 'numpy', 'opencv-python', 'safetensors')


def package_versions() -> dict[str, str]:
    """Return the versions of Python, this package and its installed dependencies."""
    versions = {'python': platform.python_version(), 'dpt': dpt.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit(folder: Path) -> str | None:
    """Return the commit of the checkout ``folder``, with ``-dirty`` if modified; ``None`` without git."""
    command = ['git', '-C', str(folder), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or that of the CPU and the number of threads."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), '')
    threads = torch.get_num_threads()
    return f'{model or platform.processor() or "CPU"}, {threads} thread{"s" if threads > 1 else ""}'


def precision_of(runner: Runner) -> str:
    """Return the types in which a training computes, such as ``'bfloat16 autocast'``."""
    autocast = getattr(runner.optim_wrapper, 'cast_dtype', None)
    products = torch.get_float32_matmul_precision()
    kind = f'{autocast} autocast' if autocast is not None else 'float32'
    return f'{kind}; float32 matrix products at precision {products!r}'.replace('torch.', '')


@HOOKS.register_module()
class RunInfoHook(Hook):
    """Write ``run_info_<time>.json`` into the work directory: command, seed, git commit, versions, device."""

    def before_train(self, runner: Runner) -> None:
        """Write the file, with the seed of a resumed run, and log the precision."""
        precision = precision_of(runner)
        runner.logger.info(f'precision: {precision}')
        self._write(runner, precision=precision)

    def before_test(self, runner: Runner) -> None:
        """Write the file."""
        self._write(runner)

    @master_only
    def _write(self, runner: Runner, **more: str) -> None:
        info = dict(
            command=sys.argv,
            time=time.strftime('%Y-%m-%d %H:%M:%S'),
            seed=runner.seed,
            git_commit=git_commit(Path(dpt.__file__).parent),
            versions=package_versions(),
            device=device_name(next(runner.model.parameters()).device),
            processes=get_world_size(),
            **more,
        )
        path = Path(runner.work_dir) / f'run_info_{runner.timestamp}.json'
        path.write_text(json.dumps(info, indent=2) + '\n')
