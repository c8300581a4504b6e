"""Values that must never change: names, initial weights, loss, gradients and labels of a seeded tiny model.

``golden.npz`` was written in float64 by the model as of November 2026, before it became plain PyTorch.
Checkpoints, optimiser states and seeds of earlier versions depend on these values.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from dpt.registry import MODELS
from dpt.structures import SegDataSample

GOLDEN = Path(__file__).with_name('golden.npz')
VIT = dict(type='VisionTransformer', img_size=32, patch_size=8, embed_dims=24, num_layers=4, num_heads=3)
STEM = dict(stem_channels=32, stage_channels=(128, 128, 128), stage_depths=(1, 1, 2))
HYBRID = dict(type='HybridVisionTransformer', img_size=64, embed_dims=24, num_layers=4, num_heads=3, **STEM)
NECK = dict(type='DPTNeck', in_channels=24, channels=8)
MODELS_OF = {
    'vit': (
        dict(VIT, out_indices=(0, 1, 2, 3)),
        dict(NECK, post_process_channels=(4, 6, 8, 12)),
    ),
    'hybrid': (
        dict(HYBRID, out_indices=(1, 3)),
        dict(NECK, post_process_channels=(128, 128, 8, 12), identity_levels=(0, 1)),
    ),
}
GRADIENTS = (
    'backbone.pos_embed',
    'backbone.layers.0.attn.attn.in_proj_weight',
    'neck.fusion_blocks.3.res_conv_unit1.conv1.conv.weight',
    'decode_head.conv_seg.weight',
    'auxiliary_heads.0.project.bn.weight',
)


def build(kind: str) -> torch.nn.Module:
    backbone, neck = MODELS_OF[kind]
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='dpt.SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3),
            backbone=backbone,
            neck=neck,
            decode_head=dict(type='DPTHead', in_channels=8, num_classes=5, dropout_ratio=0.0),
            auxiliary_heads=[dict(type='FCNHead', in_channels=8, num_classes=5, dropout_ratio=0.0)],
        )
    )
    model.init_weights()
    return model


def digest(tensors: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(b''.join(tensor.numpy().tobytes() for tensor in tensors.values())).hexdigest()


def values(kind: str) -> dict[str, np.ndarray]:
    """Compute everything that is pinned."""
    model = build(kind)
    state = model.state_dict()
    names = dict(
        state={name: list(tensor.shape) for name, tensor in state.items()},
        parameters=[name for name, _ in model.named_parameters()],
        weights=digest(state),
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # weights that tell: the initial classifier is almost zero
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    model.double()  # so that no CPU's rounding puts a ReLU on the other side
    inputs = torch.randn(2, 3, 64, 96, generator=generator).double()
    label = torch.randint(0, 5, (2, 1, 64, 96), generator=generator)
    label[:, :, :9] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in label]
    losses = model.train()(inputs, samples, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    sample = SegDataSample()
    sample.set_metainfo(dict(img_shape=(50, 90), ori_shape=(61, 100), flip=True, flip_direction='horizontal'))
    with torch.no_grad():
        labels = model.eval().predict(inputs[:1], [sample])[0].pred_sem_seg.data
    return {
        'names': np.frombuffer(json.dumps(names, sort_keys=True).encode(), dtype=np.uint8),
        'labels': labels.numpy().astype(np.uint8),
        **{f'losses.{name}': value.detach().numpy() for name, value in losses.items()},
        **{f'gradient.{name}': model.get_parameter(name).grad.numpy() for name in GRADIENTS},
    }


@pytest.fixture(scope='module', params=MODELS_OF)
def both(request: pytest.FixtureRequest) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    with np.load(GOLDEN) as golden:
        kind = f'{request.param}/'
        expected = {name.removeprefix(kind): golden[name] for name in golden if name.startswith(kind)}
    return values(request.param), expected


def test_parameter_names_order_and_initial_weights_are_kept(both: tuple) -> None:
    ours, golden = (json.loads(one['names'].tobytes()) for one in both)
    assert list(ours['state']) == list(golden['state'])
    assert ours == golden


def test_losses_and_gradients_are_kept(both: tuple) -> None:
    ours, golden = both
    names = [name for name in golden if name.startswith(('losses.', 'gradient.'))]
    assert set(names) == {name for name in ours if name.startswith(('losses.', 'gradient.'))}
    for name in names:
        tolerance = 1e-5 * abs(golden[name]).max()
        np.testing.assert_allclose(ours[name], golden[name], rtol=0, atol=tolerance, err_msg=name)


def test_label_maps_are_kept_but_for_ties(both: tuple) -> None:
    ours, golden = both
    assert ours['labels'].shape == golden['labels'].shape
    assert (ours['labels'] != golden['labels']).mean() <= 0.001
    assert len(np.unique(golden['labels'])) > 2
