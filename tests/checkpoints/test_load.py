"""Loading a backbone is all or nothing, and a refusal says what to set."""

import logging

import pytest
import torch
from outcomes import assert_holds, refused

from dpt.checkpoints import load_backbone

LAYERS = 2


def _timm_file(tmp_path, dtype=torch.float32, **kwargs):
    timm = pytest.importorskip('timm')
    state_dict = timm.create_model(
        'vit_tiny_patch16_224', pretrained=False, depth=LAYERS, **kwargs
    ).state_dict()
    state_dict = {key: torch.rand_like(value).to(dtype) for key, value in state_dict.items()}
    torch.save({'model': state_dict}, tmp_path / 'timm.pth')
    return tmp_path / 'timm.pth', state_dict


def _tiny_timm_shapes(tiny, **kwargs):
    return tiny.backbone_shapes(layers=LAYERS, width=192, patch=16, grid=14, **kwargs) | {
        f'layers.{i}.ffn.layers.{name}': shape
        for i in range(LAYERS)
        for name, shape in {'0.0.weight': (768, 192), '0.0.bias': (768,), '1.weight': (192, 768)}.items()
    }


class TestBackbone:
    def test_timm_weights_in_half_precision_fill_every_parameter(self, tiny, tmp_path):
        path, source = _timm_file(tmp_path, torch.float16, init_values=1.0)
        module = tiny.Holder(_tiny_timm_shapes(tiny, layer_scale=True))
        report = load_backbone(module, path)
        state = module.state_dict()
        assert set(report.mapped.values()) == set(state)
        for key, target in report.mapped.items():
            assert state[target].dtype == torch.float32
            torch.testing.assert_close(state[target], source[key].float(), rtol=0, atol=0)
        assert set(report.dropped) == {'norm.weight', 'norm.bias', 'head.weight', 'head.bias'}

    def test_one_line_says_what_was_loaded(self, tiny, tmp_path, caplog):
        path, _ = _timm_file(tmp_path)
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            load_backbone(tiny.Holder(_tiny_timm_shapes(tiny)), path, logger=logger)
        assert [record.getMessage() for record in caplog.records] == [
            f'loaded 28/28 tensors from {path} '
            '(timm keys; unwrapped: model; dropped: head.weight, head.bias, norm.weight, norm.bias)'
        ]

    def test_a_trained_model_gives_its_backbone_and_a_short_line(self, tiny, save, caplog):
        path, tensors = save(tiny.mmseg_shapes())
        module = tiny.Holder(tiny.backbone_shapes())
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            load_backbone(module, path, logger=logger)
        assert_holds(module, {key.removeprefix('backbone.'): value for key, value in tensors.items()})
        others = sum(not key.startswith('backbone.') for key in tensors)
        assert caplog.records[0].getMessage().endswith(f'dropped: {others} keys (not part of the backbone))')

    def test_safetensors_and_final_norm(self, tiny, save):
        shapes = {**tiny.backbone_shapes(), 'ln1.weight': (4,), 'ln1.bias': (4,)}
        path, tensors = save(shapes, suffix='.safetensors')
        module = tiny.Holder(shapes)
        assert load_backbone(module, path).dropped == {}
        assert_holds(module, tensors)

    def test_final_norm_is_dropped_where_the_module_has_none(self, tiny, save):
        path, tensors = save({**tiny.backbone_shapes(), 'ln1.weight': (4,), 'ln1.bias': (4,)})
        module = tiny.Holder(tiny.backbone_shapes())
        assert set(load_backbone(module, path).dropped) == {'ln1.weight', 'ln1.bias'}
        assert_holds(module, tensors)

    def test_missing_unexpected_and_misshapen_keys_are_all_listed(self, tiny, save):
        def edit(tensors):
            del tensors['layers.1.ln2.bias']
            tensors['layers.1.ls1.gamma'] = torch.rand(4)
            tensors['layers.0.ffn.layers.1.bias'] = torch.rand(7)

        path, _ = save(tiny.backbone_shapes(), edit)
        refused(
            load_backbone,
            tiny.Holder(tiny.backbone_shapes()),
            path,
            '1 missing in the file: layers.1.ln2.bias',
            '1 not in the model: layers.1.ls1.gamma',
            'layers.0.ffn.layers.1.bias: 7 float32 in the file, 4 float32 in the model',
        )

    @pytest.mark.parametrize(
        ('in_file', 'in_model', 'setting'),
        [
            ({'grid': 5}, {'grid': 3}, 'model.backbone.img_size=10 '),
            ({'grid': 3, 'patch': 4}, {'grid': 6, 'patch': 2}, 'model.backbone.img_size=12 '),
            ({'patch': 4}, {'patch': 2}, 'model.backbone.patch_size=4 '),
            ({'width': 8}, {'width': 4}, 'model.backbone.embed_dims=8 '),
            ({'layers': 3}, {'layers': 2}, 'model.backbone.num_layers=3 '),
            ({'layers': 1}, {'layers': 2}, 'model.backbone.num_layers=1 '),
            ({'layer_scale': True}, {}, 'model.backbone.layer_scale_init=1e-5 '),
            ({}, {'layer_scale': True}, 'model.backbone.layer_scale_init=None '),
        ],
    )
    def test_the_setting_that_makes_the_file_fit_is_named(self, tiny, save, in_file, in_model, setting):
        path, _ = save(tiny.backbone_shapes(**in_file))
        message = refused(load_backbone, tiny.Holder(tiny.backbone_shapes(**in_model)), path, setting)
        patch_differs = in_file.get('patch', 2) != in_model.get('patch', 2)
        grid_differs = in_file.get('grid', 3) != in_model.get('grid', 3)
        assert message.count('-> ') == (2 if patch_differs and grid_differs else 1)

    @pytest.mark.parametrize(
        ('key', 'name'),
        [
            ('patch_embed.projection.bias', 'patch_bias'),
            ('layers.0.attn.attn.in_proj_bias', 'qkv_bias'),
            ('ln1.weight', 'final_norm'),
        ],
    )
    def test_a_switch_that_is_off_in_the_file(self, tiny, save, key, name):
        shapes = {**tiny.backbone_shapes(), 'ln1.weight': (4,)}
        path, _ = save(shapes, lambda tensors: tensors.pop(key))
        refused(load_backbone, tiny.Holder(shapes), path, key, f'model.backbone.{name}=False ')

    @pytest.mark.parametrize(
        ('key', 'name'),
        [('patch_embed.projection.bias', 'patch_bias'), ('layers.0.attn.attn.in_proj_bias', 'qkv_bias')],
    )
    def test_a_switch_that_is_off_in_the_model(self, tiny, save, key, name):
        path, _ = save(tiny.backbone_shapes())
        shapes = {other: shape for other, shape in tiny.backbone_shapes().items() if other != key}
        refused(load_backbone, tiny.Holder(shapes), path, key, f'model.backbone.{name}=True ')

    def test_positions_that_are_no_square_grid(self, tiny, save):
        path, _ = save({**tiny.backbone_shapes(), 'pos_embed': (1, 12, 4)})
        message = refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'holds 12 positions')
        assert 'img_size' not in message

    def test_integers_are_not_weights(self, tiny, save):
        def edit(tensors):
            tensors['cls_token'] = torch.ones(1, 1, 4, dtype=torch.int8)

        path, _ = save(tiny.backbone_shapes(), edit)
        refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, '1x1x4 int8 in the file')

    def test_unrelated_and_unmapped_files(self, tiny, save):
        path, _ = save({'conv1.weight': (3, 3)})
        refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'conv1.weight', 'vit2mmseg.py')
        path, _ = save({**tiny.backbone_shapes(), 'dist_token': (1, 1, 4)})
        refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'dist_token')


def test_shared_vit_small_gives_timms_tokens(vit_small_weights):
    timm = pytest.importorskip('timm')
    from dpt.checkpoints import read_state_dict
    from dpt.models.backbones.vit import VisionTransformer

    theirs = timm.create_model('vit_small_patch14_dinov2', pretrained=False, num_classes=0).eval()
    theirs.load_state_dict({key: value.float() for key, value in read_state_dict(vit_small_weights).items()})
    sizes = {'embed_dims': 384, 'num_layers': 12, 'num_heads': 6}
    taps = (2, 5, 8, 11)
    ours = VisionTransformer(
        518, 14, layer_scale_init=1e-5, final_norm=True, out_indices=taps, **sizes
    ).eval()
    report = load_backbone(ours, vit_small_weights)
    assert len(report.mapped) == len(ours.state_dict()) == 174
    assert report.dropped == {}

    image = torch.rand(1, 3, 518, 518, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = ours(image)
        last, expected = theirs.forward_intermediates(image, indices=list(taps), return_prefix_tokens=True)
    wanted = [(grid, prefix[:, 0]) for grid, prefix in expected[:3]]
    wanted.append((last[:, 1:].transpose(1, 2).unflatten(2, (37, 37)), last[:, 0]))
    for got, want in zip(maps, wanted, strict=True):
        for one, other in zip(got, want, strict=True):
            assert one.shape == other.shape
            assert (one - other).abs().max() < 1e-4 * other.abs().max()
