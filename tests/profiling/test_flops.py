"""Counting without computing, against arithmetic by hand and torch's counter on the real model."""

import random

import numpy as np
import pytest
import torch

from dpt.config.load import load_config
from dpt.extras.profiling import flop_counter, part_costs, training_flops
from dpt.registry import MODELS


def test_vit_b_costs_what_was_measured_of_the_reference(repository) -> None:
    config = load_config(str(repository / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'))
    parts = {part.name: part for part in part_costs(config.model, (1, 3, 512, 512))}
    # Millions of parameters and GFLOP of MMSegmentation's, counted there.
    reference = dict(
        backbone=(85.80, 214.1), reassemble=(11.43, 15.3), convs=(3.32, 13.6), fusion=(8.53, 113.5),
        project=(0.59, 77.3), classifier=(0.04, 5.0),
    )  # fmt: skip
    # Ours projects before the upsampling, which is a quarter of the pixels.
    saved = dict(fusion=sum(2 * 256**2 * (4 - 1) * side**2 for side in (16, 32, 64, 128)) / 1e9)
    for name, (parameters, gflop) in reference.items():
        assert parts[name].parameters / 1e6 == pytest.approx(parameters, abs=0.005), name
        assert parts[name].flops / 1e9 == pytest.approx(gflop - saved.get(name, 0), abs=0.06), name
    assert training_flops(config.model, (1, 3, 512, 512)) / 1e12 == pytest.approx(1.3, abs=0.05)


@pytest.mark.parametrize('frozen', [-1, 4])
def test_a_training_step_counts_what_the_real_model_does(model_config: dict, frozen: int) -> None:
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


def test_auxiliary_heads_and_their_activations_are_a_part(model_config: dict) -> None:
    auxiliary = [dict(type='FCNHead', in_channels=16, num_classes=5)]
    part = next(
        part for part in part_costs(dict(model_config, auxiliary_heads=auxiliary), (1, 3, 64, 64))
        if part.name == 'auxiliary heads'
    )  # fmt: skip
    # 16x16 pixels, a 3x3 convolution and a classifier; its result of 16 channels, that normed, and logits.
    assert part.flops == 2 * 16 * 16 * (9 * 16 * 16 + 16 * 5)
    assert part.activation_bytes >= 4 * 16 * 16 * (2 * 16 + 5)


def test_nothing_is_drawn_and_the_config_is_left_alone(model_config: dict) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), repr(model_config))
    model_config['backbone']['drop_path_rate'] = model_config['backbone']['drop_rate'] = 0.1
    training_flops(model_config, (1, 3, 64, 64))
    part_costs(model_config, (1, 3, 64, 64))
    model_config['backbone'].pop('drop_path_rate'), model_config['backbone'].pop('drop_rate')
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), repr(model_config))
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
