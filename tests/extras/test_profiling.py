"""Costs against arithmetic by hand and torch's counter on the real model; clocks; MFU in the log."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import nn

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.extras.profiling import (
    TensorMemory,
    UtilizationHook,
    flop_counter,
    matrix_rate,
    part_costs,
    timing,
    training_flops,
)
from dpt.extras.profiling.timing import AddedMemory, PartTimer, Timing
from dpt.registry import HOOKS, MODELS

CPU = torch.device('cpu')
KIB = 256  # floats


def random_states() -> tuple:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


# Operations, parameters and memory of the parts


def test_vit_b_costs_equal_those_of_the_reference(repository: Path) -> None:
    config = load_config(str(repository / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'))
    parts = {part.name: part for part in part_costs(config.model, (1, 3, 512, 512))}
    # Millions of parameters and GFLOP of MMSegmentation's model, measured there.
    reference = dict(
        backbone=(85.80, 214.1), reassemble=(11.43, 15.3), convs=(3.32, 13.6), fusion=(8.53, 113.5),
        project=(0.59, 77.3), classifier=(0.04, 5.0),
    )  # fmt: skip
    # Here the projection comes before the upsampling, on a quarter of the pixels.
    saved = dict(fusion=sum(2 * 256**2 * (4 - 1) * side**2 for side in (16, 32, 64, 128)) / 1e9)
    for name, (parameters, gflop) in reference.items():
        assert parts[name].parameters / 1e6 == pytest.approx(parameters, abs=0.005), name
        assert parts[name].flops / 1e9 == pytest.approx(gflop - saved.get(name, 0), abs=0.06), name
    assert training_flops(config.model, (1, 3, 512, 512)) / 1e12 == pytest.approx(1.3, abs=0.05)


@pytest.mark.parametrize('frozen', [-1, 4])
def test_training_flops_equal_those_of_the_real_model(model_config: dict, frozen: int) -> None:
    model_config['backbone'].update(frozen_stages=frozen, with_cp=True)
    counted = training_flops(model_config, (2, 3, 48, 64))
    model = MODELS.build(model_config).train()
    for module in model.modules():
        module.with_cp = False
    with flop_counter() as counter:
        model(torch.zeros(2, 3, 48, 64)).sum().backward()
    assert counted == counter.get_total_flops()
    assert counted == 2 * training_flops(model_config, (1, 3, 48, 64))


def test_attention_is_counted(model_config: dict) -> None:
    tokens, layers, width = 1 + 16, 4, 32
    backbone = part_costs(model_config, (1, 3, 64, 64))[0]
    products = 2 * tokens * width * (3 * width + width + 2 * 4 * width)
    attention = 2 * 2 * tokens**2 * width
    assert backbone.flops == layers * (products + attention) + 2 * 16 * (3 * 16 * 16) * width


def test_auxiliary_heads_are_a_part(model_config: dict) -> None:
    heads = [dict(type='FCNHead', in_channels=16, num_classes=5)]
    parts = part_costs(dict(model_config, auxiliary_heads=heads), (1, 3, 64, 64))
    part = next(part for part in parts if part.name == 'auxiliary heads')
    # 16x16 pixels, a 3x3 convolution and a classifier; its result of 16 channels, that normed, and logits.
    assert part.flops == 2 * 16 * 16 * (9 * 16 * 16 + 16 * 5)
    assert part.activation_bytes >= 4 * 16 * 16 * (2 * 16 + 5)


def test_counting_draws_no_random_numbers(model_config: dict) -> None:
    model_config['backbone']['drop_path_rate'] = 0.1
    before = random_states(), repr(model_config)
    training_flops(model_config, (1, 3, 64, 64))
    part_costs(model_config, (1, 3, 64, 64))
    matrix_rate(CPU, torch.float32, repeats=1)
    assert (random_states(), repr(model_config)) == before


# Memory


def test_live_bytes_are_counted() -> None:
    x = torch.zeros(KIB)  # created before: not counted
    with TensorMemory() as memory:
        y = x + 1
        z = y * 2
        assert memory.live == 2048
        del y
        z.add_(1)
        z[:10].mul_(2)
        x.view(16, 16).t()
        assert memory.live == 1024
        del z
    assert memory.live == 0


def test_saved_tensors_are_alive_until_the_backward_pass() -> None:
    x = torch.zeros(KIB, requires_grad=True)
    with TensorMemory() as memory:
        y = x.exp().exp().sum()
        assert memory.live == 2 * 1024 + 4
        y.backward()
        del y
        assert memory.live == 1024  # the gradient


def test_added_memory_of_a_process() -> None:
    small = [torch.ones(60 << 10, dtype=torch.uint8) for _ in range(2000)]
    last = torch.ones(60 << 10, dtype=torch.uint8)  # keeps the top of the heap in use
    del small  # freed memory that new tensors could reuse unnoticed
    memory = AddedMemory(CPU)
    again = [torch.ones(60 << 10, dtype=torch.uint8) for _ in range(2000)]
    assert 80 < memory.mib() < 200
    del again, last


# Time


def test_nested_parts_are_timed_without_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    timer = PartTimer(CPU)

    def step() -> None:
        timer.enter('outer')
        timer.enter('inner')
        now[0] += 4
        timer.leave()
        now[0] += 2
        timer.leave()
        now[0] += 1

    assert timer.time(step, iters=2) == dict(inner=4, outer=2, rest=1)


def test_latency_percentiles() -> None:
    assert Timing(0, [float(i) for i in range(20)], 0).p90 == 18
    assert Timing(0, [7.0], 0).p90 == 7


# The hook


@pytest.fixture
def config(repository: Path) -> Config:
    return load_config(str(repository / 'configs' / 'quickstart.py'))


def make_runner(config: Config, tmp_path: Path) -> tuple[SimpleNamespace, list[str]]:
    lines: list[str] = []
    runner = SimpleNamespace(
        cfg=config,
        model=nn.Linear(1, 1),
        optim_wrapper=SimpleNamespace(cast_dtype=torch.bfloat16),
        train_dataloader=SimpleNamespace(batch_size=3),
        log_processor=SimpleNamespace(window_size=2),
        message_hub=MessageHub(tmp_path.name),
        logger=SimpleNamespace(info=lines.append),
    )
    return runner, lines


def test_configs_name_the_hook(config: Config) -> None:
    check_config(config, 'train')
    assert isinstance(HOOKS.build(config.default_hooks.utilization), UtilizationHook)


def test_mfu_follows_from_flops_rate_and_time(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr('dpt.extras.profiling.hook.matrix_rate', lambda *what: measured.append(what) or 5e12)
    runner, lines = make_runner(config, tmp_path)
    hook, before = UtilizationHook(), random_states()
    hook.before_train(runner)
    assert random_states() == before
    assert measured == [(CPU, torch.bfloat16)]
    assert 'MFU is the share of 5 TFLOP/s, measured on bfloat16 matrices' in lines[0]
    for seconds in (100.0, 0.5, 1.5):  # the mean of the window counts
        runner.message_hub.update_scalar('train/time', seconds)
        hook.after_train_iter(runner, 0)
    flops = 3 * training_flops(config.model, (1, 3, 96, 128))
    assert runner.message_hub.get_scalar('train/mfu').current() == pytest.approx(flops / 5e12)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda config: config.model.data_preprocessor.pop('size'), 'size is not set'),
        (lambda config: config.model.update(type='Nonsense'), 'KeyError'),
    ],
)
def test_models_that_cannot_be_counted_are_trained(
    config: Config, tmp_path: Path, change: Callable, reason: str
) -> None:
    change(config)
    runner, lines = make_runner(config, tmp_path)
    hook = UtilizationHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert lines[0].startswith('MFU is not logged: ')
    assert reason in lines[0]
    assert 'train/mfu' not in runner.message_hub.log_scalars


@pytest.mark.parametrize(
    ('name', 'rate'),
    [
        ('NVIDIA L4', 121.0),
        ('NVIDIA L40', 181.0),
        ('NVIDIA L40S', 362.0),
        ('NVIDIA H100 80GB HBM3', 989.0),
        ('NVIDIA H100 PCIe', 756.0),
        ('NVIDIA A100-SXM4-80GB', 312.0),
        ('NVIDIA A10G', None),
    ],
)
def test_data_sheets_match_exact_names(
    name: str, rate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: name)
    assert timing.data_sheet_tflops(torch.device('cuda'), torch.bfloat16) == rate


def test_float32_has_the_rate_of_tf32_if_convolutions_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        'dpt.extras.profiling.timing._matrix_rate',
        lambda *_: seen.append(torch.get_float32_matmul_precision()),
    )
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 0))
    gpu = torch.device('cuda')
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', allowed)
        matrix_rate(gpu, torch.float32)
        matrix_rate(gpu, torch.bfloat16)
        assert torch.get_float32_matmul_precision() == 'highest'
    assert seen == ['high', 'highest', 'highest', 'highest']
