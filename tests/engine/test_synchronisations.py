"""In a training step of any config, the host never waits for the GPU: fake tensors show it without one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

REPOSITORY = Path(__file__).resolve().parents[2]


def trained_configs() -> set[str]:
    """Return the names of the configs that train; those of published depth models only predict."""
    paths = (REPOSITORY / 'configs').glob('*.py')
    return {path.name for path in paths if 'optim_wrapper' in Config.fromfile(path)}


def representative(name: str) -> str:
    """Return the config whose step differs from that of another one in sizes and classes alone."""
    name = re.sub(
        r'(vit-b16)_(480x480_80k_pascal.*|512x512_40k_voc.*|768x768.*)', r'\1_512x512_160k_ade20k.py', name
    )
    name = re.sub(r'(dinov2-.14)_798x798.*', r'\1_518x518_152k_ade20k.py', name)
    smaller = re.sub(r'-[bl](1[46]_)', r'-s\1', name)
    return smaller if (REPOSITORY / 'configs' / smaller).is_file() else name


@pytest.fixture(scope='module')
def steps(fake_cuda: Path) -> dict[str, dict]:
    """The operations of one step for which the host waits and its copies, by config; memory of the recipe."""
    environment = dict(
        os.environ,
        FAKE_CUDA=str(fake_cuda),
        LD_PRELOAD=str(fake_cuda / 'libacc.so'),
        PYTHONPATH=os.pathsep.join([str(fake_cuda), str(REPOSITORY), os.environ['PYTHONPATH']]),
    )
    command = [sys.executable, str(REPOSITORY / 'tests' / 'engine' / 'steps_on_fake_cuda.py')]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='needs a build of torch for CPUs')


def test_no_step_waits_for_the_gpu(steps: dict[str, dict]) -> None:
    waits = steps['waits']
    faults = {name: waits.pop(name) for name in list(waits) if name.startswith('fault')}
    assert {representative(name) for name in trained_configs()} <= waits.keys()
    assert {'amp', 'mmseg', 'mmseg sgd, clip', 'mmseg fp16, clip', 'sync_bn'} < waits.keys()
    assert {name: found for name, found in waits.items() if found} == {}
    assert set(map(tuple, faults.values())) == {('aten._local_scalar_dense.default',)}  # it would be seen


def test_a_batch_is_copied_in_one_piece_of_each_kind(steps: dict[str, dict]) -> None:
    copies = steps['copies']
    pieces = 3  # images, labels and depth, whatever the number and the sizes of the images
    assert copies.pop('copy') == pieces + 1  # it would be counted
    assert set(copies.values()) == {pieces}, copies


def test_the_recipe_keeps_little_for_the_backward_pass(steps: dict[str, dict]) -> None:
    assert steps['memory']['with_cp=False'] < 10_600  # MiB for 16 images in bf16
    assert steps['memory']['with_cp=True'] < 5_950
