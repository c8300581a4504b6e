"""The model against MMSegmentation's, whose values ``make_mmseg_reference.py`` wrote."""

from pathlib import Path

import numpy as np
import pytest
import torch
from isl_formula import image
from make_mmseg_reference import CHANNELS, CLASSES, POST_PROCESS, READOUTS, SIZES, TINY, fill, label
from mmengine.structures import PixelData
from tiny_models import assert_close

from dpt.checkpoints import convert
from dpt.checkpoints.formats import MMSEG_DPT
from dpt.registry import MODELS
from dpt.structures import SegDataSample

REFERENCE = np.load(Path(__file__).with_name('mmseg_reference.npz'))


def mmseg_name(name: str) -> str:
    """Name of one of our parameters in MMSegmentation, where the neck is part of the head."""
    return name.replace('neck.', 'decode_head.', 1) if name.startswith('neck.') else name


def build(readout: str) -> torch.nn.Module:
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3),
            backbone=dict(type='VisionTransformer', patch_bias=False, norm_eps=1e-5, **TINY),
            neck=dict(
                type='DPTNeck',
                in_channels=TINY['embed_dims'],
                channels=CHANNELS,
                post_process_channels=POST_PROCESS,
                readout_type=readout,
            ),
            decode_head=dict(type='DPTHead', in_channels=CHANNELS, num_classes=CLASSES, dropout_ratio=0.0),
        )
    )
    model.double()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(fill(mmseg_name(name), tensor))
    return model


def assert_equals_reference(ours: torch.Tensor, key: str, tolerance: float) -> None:
    assert_close(ours, torch.from_numpy(REFERENCE[key]), tolerance)


@pytest.mark.parametrize('readout', READOUTS)
@pytest.mark.parametrize('size', SIZES)
def test_logits_equal_reference(readout: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert_equals_reference(build(readout).eval()(image(size)), f'{readout}_{size[0]}x{size[1]}', 1e-9)


@pytest.mark.parametrize('readout', READOUTS)
def test_loss_accuracy_and_gradients_equal_reference(readout: str) -> None:
    model, size = build(readout).train(), SIZES[1]
    sample = SegDataSample(gt_sem_seg=PixelData(data=label(size)))
    losses = model.loss(image(size), [sample])
    losses['decode.loss_ce'].backward()
    # The loss itself is computed in float32.
    assert_equals_reference(losses['decode.loss_ce'].detach(), f'{readout}_loss', 1e-6)
    assert losses['decode.acc_seg'].item() == pytest.approx(REFERENCE[f'{readout}_acc'].item(), abs=1e-4)
    for name in ('backbone.cls_token', 'backbone.layers.0.attn.attn.in_proj_weight'):
        assert_equals_reference(model.get_parameter(name).grad, f'{readout}_grad_{name}', 1e-4)


def test_parameter_names_map_to_reference() -> None:
    ours = build('project').state_dict()
    names = {mmseg_name(name) for name in ours}
    assert 'decode_head.reassemble_blocks.readout_projects.0.0.weight' in names
    assert 'decode_head.fusion_blocks.3.res_conv_unit1.conv1.bn.running_var' in names
    assert not any('fusion_blocks.0.res_conv_unit1' in name for name in names)
    mapped, _ = convert({mmseg_name(name): tensor for name, tensor in ours.items()}, MMSEG_DPT)
    assert mapped.keys() == ours.keys()  # the loader maps them back
