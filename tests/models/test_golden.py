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
from tiny_models import config

from dpt.registry import MODELS
from dpt.structures import SegDataSample

GOLDEN = Path(__file__).with_name('golden.npz')
GRADIENTS = (
    'backbone.pos_embed',
    'backbone.layers.0.attn.attn.in_proj_weight',
    'neck.fusion_blocks.3.res_conv_unit1.conv1.conv.weight',
    'decode_head.conv_seg.weight',
    'auxiliary_heads.0.project.bn.weight',
)


def values(kind: str) -> dict[str, np.ndarray]:
    """Compute everything that is pinned."""
    auxiliary_head = dict(type='FCNHead', in_channels=8, num_classes=5, dropout_ratio=0.0)
    torch.manual_seed(0)
    model = MODELS.build(config(kind, auxiliary_heads=[auxiliary_head]))
    model.init_weights()
    state = model.state_dict()
    names = dict(
        state={name: list(tensor.shape) for name, tensor in state.items()},
        parameters=[name for name, _ in model.named_parameters()],
        weights=hashlib.sha256(b''.join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest(),
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


@pytest.fixture(scope='module', params=['vit', 'hybrid'])
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
