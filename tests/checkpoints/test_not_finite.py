"""Weights of a training that diverged are refused; constants of the model are none of them."""

import pytest
import torch
from outcomes import assert_holds, refused

from dpt.checkpoints import load_backbone, load_model

CLASSIFIER = 'decode_head.conv_seg.weight'


def spoil(key, value):
    def edit(tensors):
        tensors[key].view(-1)[3] = value

    return edit


@pytest.mark.parametrize(
    ('value', 'kind'),
    [
        (float('nan'), 'NaN'),
        (float('inf'), 'infinite values'),
        (-float('inf'), 'infinite values'),
    ],
)
def test_model_with_weights_not_finite_is_refused(tiny, save, value, kind):
    path, _ = save(tiny.model_shapes(), spoil(CLASSIFIER, value))
    message = refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'take an earlier checkpoint')
    assert f'{CLASSIFIER} holds {kind} (1 of 20 numbers' in message
    assert '\n' not in message


def test_backbone_with_weights_not_finite_is_refused(tiny, save):
    path, _ = save(tiny.mmseg_shapes(), spoil('backbone.layers.1.ln2.bias', float('nan')))
    refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'layers.1.ln2.bias holds NaN')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_low_precision_is_checked_too(tiny, save, dtype):
    def edit(tensors):
        tensors[CLASSIFIER] = torch.full((5, 4, 1, 1), float('nan')).to(dtype)

    path, _ = save(tiny.model_shapes(), edit)
    refused(load_model, tiny.Holder(tiny.model_shapes()), path, f'{CLASSIFIER} holds NaN (20 of 20')


def test_tensors_that_are_not_loaded_may_be_nan(tiny, save):
    path, tensors = save(tiny.model_shapes(), spoil(CLASSIFIER, float('nan')))
    module = tiny.Holder(tiny.model_shapes())
    load_model(module, path, drop=('decode_head.conv_seg',))
    assert bool((module.state_dict()[CLASSIFIER] == -1).all())
    backbone = tiny.Holder(tiny.backbone_shapes())
    load_backbone(backbone, path)
    assert_holds(backbone, {key.removeprefix('backbone.'): value for key, value in tensors.items()})


def test_an_infinite_constant_of_the_model_loads(tiny, save):
    mask = torch.tensor([0.0, -float('inf')])
    module = tiny.Holder(tiny.backbone_shapes())
    module.register_buffer('mask', mask.clone())
    path, tensors = save(tiny.backbone_shapes(), lambda tensors: tensors.update(mask=mask))
    load_backbone(module, path)
    assert_holds(module, tensors)
