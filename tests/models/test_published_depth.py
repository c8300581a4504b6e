"""Published models are recognised by their keys, and what the keys do not tell by their names."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from isl_formula import fill, image
from published_models import FILES, SIZES, WIDTH

from dpt.apis import Predictor
from dpt.checkpoints import convert, load_backbone, load_model, published
from dpt.checkpoints.formats import published as sources
from dpt.checkpoints.formats.table import Changed, Format
from dpt.checkpoints.published import recognise_published
from dpt.config.load import load_config
from dpt.registry import MODELS

REFERENCE = np.load(Path(__file__).with_name('published_reference.npz'))
CONFIGS = {
    'dpt_large_midas': (sources.ISL_DEPTH, 'dpt_large-midas-2f21e586.pt'),
    'dpt_hybrid_midas': (sources.ISL_DEPTH, 'dpt_hybrid_384.pt'),
    'dpt_hybrid_nyu': (sources.ISL_DEPTH, 'dpt_hybrid_nyu-2ce69ec7.pt'),
    'dpt_hybrid_kitti': (sources.ISL_DEPTH, 'dpt_hybrid_kitti-cb926ef4.pt'),
    'depth_anything_v1_b': (sources.DEPTH_ANYTHING, 'depth_anything_vitb14.pth'),
    'depth_anything_v1_l': (sources.DEPTH_ANYTHING, 'depth_anything_vitl14.pth'),
    'depth_anything_v2_s': (sources.DEPTH_ANYTHING, 'depth_anything_v2_vits.pth'),
    'depth_anything_v2_l': (sources.DEPTH_ANYTHING, 'depth_anything_v2_vitl.pth'),
    'depth_anything_v2_b_indoor': (sources.DEPTH_ANYTHING, 'depth_anything_v2_metric_hypersim_vitb.pth'),
    'depth_anything_v2_s_outdoor': (sources.DEPTH_ANYTHING, 'depth_anything_v2_metric_vkitti_vits.pth'),
}


def original_keys(config: dict, source: sources.Source) -> dict[str, torch.Tensor]:
    """The tensors of a model, without content, under the keys of the original."""
    with torch.device('meta'):
        tensors = MODELS.build(config).state_dict()
    table = source.model(source.encoder).keys
    inverse = {ours: theirs for theirs, ours in table.items() if not isinstance(ours, Changed)}
    converted, report = convert(tensors, Format('ours', (), inverse))
    assert not report.unmapped
    return converted


def plain(value: object) -> object:
    """The same with lists for tuples."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize('name', CONFIGS)
def test_published_file_gives_its_config(name, repository: Path, monkeypatch) -> None:
    source, file = CONFIGS[name]
    config = load_config(str(repository / 'configs' / f'{name}.py'))
    model = config.model.to_dict()
    tensors = original_keys(model, source)
    monkeypatch.setattr(published, 'read_state_dict', lambda path: tensors)
    found = recognise_published(file)
    trained = {key: model[key] for key in ('loss', 'max_depth') if key in model}
    assert plain({**found.model, **trained}) == plain(model)
    steps = [step for step in plain(config.test_pipeline) if step['type'] != 'LoadDepthAnnotation']
    assert steps == plain(found.pipeline)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    """Write the file of a tiny model, filled as the original was."""

    def save(name: str) -> Path:
        shapes = map(ast.literal_eval, REFERENCE[f'{name}_shapes'].tolist())
        keys = REFERENCE[f'{name}_keys'].tolist()
        tensors = {key: fill(key, tuple(shape)) for key, shape in zip(keys, shapes, strict=True)}
        file = tmp_path / FILES[name][0]
        if name == 'dinov2_head':
            head = {key: tensor for key, tensor in tensors.items() if key.startswith('decode_head.')}
            encoder = {key.removeprefix('backbone.'): tensors[key] for key in tensors if key not in head}
            torch.save(encoder, tmp_path / 'encoder.pth')
            tensors = dict(state_dict=head, meta={})
        torch.save(tensors, file)
        return file

    return save


@pytest.mark.parametrize('name', FILES)
def test_recognised_file_gives_original_output(name, saved, monkeypatch) -> None:
    monkeypatch.setattr(published, '_DINOV2', {WIDTH: 'small'})
    file = saved(name)
    config = recognise_published(file).config()['model']
    if name == 'dinov2_head':
        encoder = dict(type='Pretrained', checkpoint=str(file.with_name('encoder.pth')))
        sizes = dict(embed_dim=WIDTH, num_heads=1)
        config['backbone'].update(init_cfg=encoder, model_args=sizes, img_size=56)
    model = MODELS.build(config).double().eval()
    report = load_model(model, file)
    reasons = 'no lateral', 'does not use', 'mask token', 'classifier of the pretraining'
    assert all(any(reason in why for reason in reasons) for why in report.dropped.values())
    with torch.no_grad():
        for height, width in SIZES[FILES[name][1]]:
            expected = torch.from_numpy(REFERENCE[f'{name}_{height}x{width}'])
            output = model(image((height, width))).double()
            assert output.shape == expected.shape
            assert (output - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize(
    ('name', 'timm'), [('depth_anything_v2', True), ('unimatch_v2', False), ('isl_hybrid', False)]
)
def test_encoder_alone_loads_for_segmentation(name, timm, saved) -> None:
    file = saved(name)
    config = recognise_published(file).model['backbone']
    if timm:
        sizes = dict(embed_dim=WIDTH, num_heads=1)
        config = dict(
            type='TimmBackbone', model_name='vit_small_patch14_dinov2', model_args=sizes, norm_taps=True
        )
        config |= dict(img_size=56, output_cls_token=False)
    alone, whole = MODELS.build(config).eval(), MODELS.build(recognise_published(file).model).eval()
    load_backbone(alone, file)
    load_model(whole, file)
    pixels = image((56, 70)).float()
    for one, other in zip(alone(pixels), whole.backbone(pixels), strict=True):
        one, other = (tap if isinstance(tap, torch.Tensor) else tap[0] for tap in (one, other))
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_file_alone_predicts_depth_at_image_size(saved) -> None:
    predict = Predictor(saved('depth_anything_v2'), device='cpu')
    result = predict(np.zeros((30, 50, 3), np.uint8))
    assert result.depth.shape == (30, 50)
    assert predict.model.relative


def test_head_without_its_encoder_is_refused(saved, monkeypatch) -> None:
    monkeypatch.setattr(published, '_DINOV2', {WIDTH: 'small'})
    file = saved('dinov2_head')
    config = recognise_published(file).config()['model']
    assert config['align_corners'] is False  # of resizing predictions, as in DINOv2
    config['backbone'].update(init_cfg=None, model_args=dict(embed_dim=WIDTH, num_heads=1))
    with pytest.raises(ValueError, match=r'without an encoder: set model\.backbone\.init_cfg'):
        load_model(MODELS.build(config), file)


@pytest.mark.parametrize(
    ('name', 'variant', 'words'),
    [
        (
            'model.pth',
            None,
            'pass its config, such as --config configs/depth_anything_v2_s_indoor.py, or call dpt.load',
        ),
        ('depth_anything_v2_vits_metric.pth', None, 'the name of the file does not tell which'),
        ('depth_anything_v2_vits.pth', 'v3', "variant='v3'"),
    ],
)
def test_what_keys_do_not_tell_is_asked_for(name, variant, words, saved) -> None:
    file = saved('depth_anything_v2')
    renamed = file.rename(file.with_name(name))
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        recognise_published(renamed, variant)
    assert str(renamed) in str(error.value)
    found = recognise_published(renamed, 'v1').model
    assert (found['backbone']['out_indices'], found['align_corners']) == ((8, 9, 10, 11), False)
