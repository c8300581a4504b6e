"""What the model may cost at most: operations and memory by torch's own accounting, where a clock flickers.

Gains are welcome, then the limits here come down; a change that exceeds one says why it is worth it.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dpt.extras.profiling import part_costs, training_flops
from dpt.extras.profiling.workloads import random_batch
from dpt.registry import MODELS

MIB = 1 << 20
CLASSES, SIDE = 150, 256
FULL_LOGITS = 4 * CLASSES * SIDE**2  # 37.5 MiB
CONFIG = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='VisionTransformer',
        img_size=64,
        patch_size=16,
        embed_dims=32,
        num_layers=4,
        num_heads=4,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(type='DPTNeck', in_channels=32, channels=16, post_process_channels=(8, 8, 16, 16)),
    decode_head=dict(type='DPTHead', in_channels=16, num_classes=CLASSES),
)
PARTS = {  # parameters, and the most operations of a forward pass
    'backbone': (76000, 71664128),
    'reassemble': (13520, 5931008),
    'convs': (6912, 13271040),
    'fusion': (33792, 102465536),
    'project': (2336, 75497472),
    'classifier': (2550, 78643200),
}


@pytest.fixture(scope='module')
def model() -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(CONFIG)
    model.init_weights()
    return model


class Allocations(NamedTuple):
    """Memory that a function allocated on the CPU through torch, in bytes and relative to the start.

    Includes scratch memory inside operators, except that of oneDNN.
    """

    peak: int
    left: int
    largest: int


def allocations(work: Callable[[], object]) -> Allocations:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    live = peak = largest = 0
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    for event in events:
        if event.name() == '[memory]':
            live += event.nbytes()  # negative when memory is freed
            peak, largest = max(peak, live), max(largest, event.nbytes())
    return Allocations(peak, live, largest)


def second_run(work: Callable[[], object]) -> Allocations:
    """Leave out what is made once, such as the optimiser's state."""
    work()
    return allocations(work)


def test_parameters_and_operations_of_each_part() -> None:
    parts = [part for part in part_costs(CONFIG, (1, 3, SIDE, SIDE)) if part.parameters or part.flops]
    assert {part.name: part.parameters for part in parts} == {name: one[0] for name, one in PARTS.items()}
    for part in parts:
        assert part.flops <= PARTS[part.name][1], part.name
    # Each product of the forward pass has two in the backward pass; the images need no gradient.
    assert training_flops(CONFIG, (1, 3, SIDE, SIDE)) <= 3 * sum(part.flops for part in parts)


def test_training_holds_no_logits_of_all_classes_at_full_size(model: nn.Module) -> None:
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=1e-3)))
    data = random_batch((SIDE, SIDE), 1, CLASSES)
    step = second_run(lambda: model.train().train_step(data, wrapper))
    # The head's logits, which have half the side, are the largest tensor; a CPU pads them to 160 classes.
    assert step.largest <= FULL_LOGITS / 3
    assert step.left <= 0.01 * MIB


def test_predictions_hold_no_logits_of_all_classes_at_full_size(model: nn.Module) -> None:
    data = random_batch((SIDE, SIDE), 1, CLASSES)
    with torch.no_grad():
        step = second_run(lambda: model.eval().test_step(data))
        labels = model.test_step(data)[0].pred_sem_seg.data
    assert step.largest <= FULL_LOGITS / 3
    assert labels.dtype == torch.uint8


def test_views_share_one_running_sum(model: nn.Module) -> None:
    merging = MODELS.build(dict(type='SegTTAModel', module=model)).eval()
    one = random_batch((SIDE, SIDE), 1, CLASSES)
    peaks = []
    for views in (2, 6):
        data = {key: [value] * views for key, value in one.items()}
        with torch.no_grad():
            peaks.append(second_run(lambda data=data: merging.test_step(data)).peak)
    assert peaks[1] <= 1.01 * peaks[0]


def test_attention_holds_no_weights_of_all_pairs(model: nn.Module) -> None:
    side, tokens = 512, 1 + (512 // 16) ** 2
    images = torch.zeros(1, 3, side, side)

    def work() -> None:
        taps = model.backbone.train()(images)
        sum(feature_map.sum() for feature_map, _ in taps).backward()

    assert allocations(work).largest < 4 * tokens**2  # float32, one head


def test_labels_stay_bytes_until_the_loss(model: nn.Module) -> None:
    data = random_batch((SIDE, SIDE), 2, CLASSES)
    batch = model.data_preprocessor(data, True)
    assert {sample.gt_sem_seg.data.dtype for sample in batch['data_samples']} == {torch.uint8}
    images = 2 * 3 * SIDE**2 * 4
    step = allocations(lambda: model.data_preprocessor(data, True))
    assert step.left <= images + 2 * SIDE**2 + 1000


@pytest.mark.skipif(not torch.cuda.is_available(), reason='counts host-device synchronisations: needs a GPU')
@pytest.mark.parametrize('amp', [False, True])
def test_training_step_never_waits_for_gpu(amp: bool) -> None:
    model = MODELS.build(CONFIG).cuda().train()
    kind = dict(type='AmpOptimWrapper', dtype='bfloat16') if amp else {}
    wrapper = build_optim_wrapper(model, dict(**kind, optimizer=dict(type='AdamW', lr=1e-3)))
    batch = model.data_preprocessor(random_batch((SIDE, SIDE), 2, CLASSES), True)

    def step() -> None:
        with wrapper.optim_context(model):
            losses = model(**batch, mode='loss')
        wrapper.update_params(model.parse_losses(losses)[0])

    step()
    torch.cuda.set_sync_debug_mode('error')
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
