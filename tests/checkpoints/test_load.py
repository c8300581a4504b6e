"""Loading is all or nothing, and a refusal says what to set."""

import logging
import re

import pytest
import torch
from safetensors.torch import save_file

from dpt.checkpoints import load_backbone, load_model

LAYERS = 2


@pytest.fixture
def save(tmp_path, tiny):
    """Write random tensors of the given shapes, changed by ``edit``; return path and tensors."""

    def write(shapes, edit=lambda tensors: None, suffix='.pth'):
        tensors = tiny.random_tensors(shapes)
        edit(tensors)
        path = tmp_path / f'weights{suffix}'
        save_file(tensors, path) if suffix == '.safetensors' else torch.save(tensors, path)
        return path, tensors

    return write


def _assert_untouched(module):
    assert all(bool((value == -1).all()) for value in module.state_dict().values())


def _assert_holds(module, tensors):
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[key].to(value.dtype), rtol=0, atol=0, msg=key)


def _refused(load, module, path, *words, **kwargs):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        load(module, path, **kwargs)
    _assert_untouched(module)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


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
            '(timm keys; dropped: head.weight, head.bias, norm.weight, norm.bias)'
        ]

    def test_a_trained_model_gives_its_backbone_and_a_short_line(self, tiny, save, caplog):
        path, tensors = save(tiny.mmseg_shapes())
        module = tiny.Holder(tiny.backbone_shapes())
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            load_backbone(module, path, logger=logger)
        _assert_holds(module, {key.removeprefix('backbone.'): value for key, value in tensors.items()})
        others = sum(not key.startswith('backbone.') for key in tensors)
        assert caplog.records[0].getMessage().endswith(f'dropped: {others} keys (not part of the backbone))')

    def test_safetensors_and_final_norm(self, tiny, save):
        shapes = {**tiny.backbone_shapes(), 'ln1.weight': (4,), 'ln1.bias': (4,)}
        path, tensors = save(shapes, suffix='.safetensors')
        module = tiny.Holder(shapes)
        assert load_backbone(module, path).dropped == {}
        _assert_holds(module, tensors)

    def test_final_norm_is_dropped_where_the_module_has_none(self, tiny, save):
        path, tensors = save({**tiny.backbone_shapes(), 'ln1.weight': (4,), 'ln1.bias': (4,)})
        module = tiny.Holder(tiny.backbone_shapes())
        assert set(load_backbone(module, path).dropped) == {'ln1.weight', 'ln1.bias'}
        _assert_holds(module, tensors)

    def test_missing_unexpected_and_misshapen_keys_are_all_listed(self, tiny, save):
        def edit(tensors):
            del tensors['layers.1.ln2.bias']
            tensors['layers.1.ls1.gamma'] = torch.rand(4)
            tensors['layers.0.ffn.layers.1.bias'] = torch.rand(7)

        path, _ = save(tiny.backbone_shapes(), edit)
        _refused(
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
        message = _refused(load_backbone, tiny.Holder(tiny.backbone_shapes(**in_model)), path, setting)
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
        _refused(load_backbone, tiny.Holder(shapes), path, key, f'model.backbone.{name}=False ')

    @pytest.mark.parametrize(
        ('key', 'name'),
        [('patch_embed.projection.bias', 'patch_bias'), ('layers.0.attn.attn.in_proj_bias', 'qkv_bias')],
    )
    def test_a_switch_that_is_off_in_the_model(self, tiny, save, key, name):
        path, _ = save(tiny.backbone_shapes())
        shapes = {other: shape for other, shape in tiny.backbone_shapes().items() if other != key}
        _refused(load_backbone, tiny.Holder(shapes), path, key, f'model.backbone.{name}=True ')

    def test_positions_that_are_no_square_grid(self, tiny, save):
        path, _ = save({**tiny.backbone_shapes(), 'pos_embed': (1, 12, 4)})
        message = _refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'holds 12 positions')
        assert 'img_size' not in message

    def test_integers_are_not_weights(self, tiny, save):
        def edit(tensors):
            tensors['cls_token'] = torch.ones(1, 1, 4, dtype=torch.int8)

        path, _ = save(tiny.backbone_shapes(), edit)
        _refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, '1x1x4 int8 in the file')

    def test_unrelated_and_unmapped_files(self, tiny, save):
        path, _ = save({'conv1.weight': (3, 3)})
        _refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'conv1.weight', 'vit2mmseg.py')
        path, _ = save({**tiny.backbone_shapes(), 'dist_token': (1, 1, 4)})
        _refused(load_backbone, tiny.Holder(tiny.backbone_shapes()), path, 'dist_token')


class TestModel:
    @pytest.mark.parametrize('names', ['model_shapes', 'mmseg_shapes'])
    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_own_and_mmseg_files_fill_the_model(self, tiny, save, names, suffix):
        path, source = save(getattr(tiny, names)(), suffix=suffix)
        module = tiny.Holder(tiny.model_shapes())
        report = load_model(module, path)
        _assert_holds(module, {report.mapped[key]: value for key, value in source.items()})

    def test_no_patch_bias_as_in_mmseg_1_2(self, tiny, save):
        path, _ = save(
            tiny.mmseg_shapes(), lambda tensors: tensors.pop('backbone.patch_embed.projection.bias')
        )
        _refused(
            load_model,
            tiny.Holder(tiny.model_shapes()),
            path,
            'missing in the file: backbone.patch_embed.projection.bias',
            'model.backbone.patch_bias=False',
        )

    def test_a_final_norm_of_a_trained_model_is_not_dropped(self, tiny, save):
        path, _ = save({**tiny.model_shapes(), 'backbone.ln1.weight': (4,)})
        _refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'model.backbone.final_norm=True')

    def test_size_of_the_position_embedding(self, tiny, save):
        path, _ = save(tiny.model_shapes(grid=7))
        _refused(load_model, tiny.Holder(tiny.model_shapes(grid=3)), path, 'model.backbone.img_size=14 ')

    def test_another_number_of_classes_names_drop(self, tiny, save):
        path, _ = save(tiny.mmseg_shapes(classes=150))
        _refused(
            load_model,
            tiny.Holder(tiny.model_shapes(classes=11)),
            path,
            'trained for 150 classes, the model has 11',
            "drop=('decode_head.conv_seg',)",
        )

    def test_dropped_prefixes_keep_the_models_own_tensors(self, tiny, save, caplog):
        path, source = save(tiny.mmseg_shapes(classes=150))
        module = tiny.Holder(tiny.model_shapes(classes=11))
        logger = logging.getLogger('test_load')
        with caplog.at_level(logging.INFO, 'test_load'):
            report = load_model(module, path, drop=('decode_head.conv_seg',), logger=logger)
        state = module.state_dict()
        own = {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
        assert set(report.kept) == set(report.dropped) == own
        assert all(bool((state[key] == -1).all()) for key in own)
        assert set(report.mapped.values()) == set(state) - own
        for key, target in report.mapped.items():
            assert torch.equal(state[target], source[key])
        line = caplog.records[0].getMessage()
        assert f'loaded {len(state) - 2}/{len(state)} tensors' in line
        assert "kept the model's own: decode_head.conv_seg.weight, decode_head.conv_seg.bias" in line

    def test_drop_in_an_mmseg_file_means_our_names(self, tiny, save):
        path, source = save(tiny.mmseg_shapes())
        module = tiny.Holder(tiny.model_shapes())
        load_model(module, path, drop=('decode_head',))
        state = module.state_dict()
        assert torch.equal(state['neck.convs.0.conv.weight'], source['decode_head.convs.0.conv.weight'])
        assert bool((state['decode_head.project.conv.weight'] == -1).all())

    def test_dropped_tensors_may_be_absent_from_the_file(self, tiny, save):
        shapes = {**tiny.model_shapes(), 'auxiliary_heads.0.conv_seg.bias': (5,)}
        path, _ = save(tiny.model_shapes())
        module = tiny.Holder(shapes)
        _refused(load_model, module, path, 'auxiliary_heads.0.conv_seg.bias')
        assert load_model(module, path, drop=('auxiliary_heads',)).kept == (
            'auxiliary_heads.0.conv_seg.bias',
        )

    def test_dropped_tensors_may_be_absent_from_the_model(self, tiny, save):
        path, _ = save({**tiny.model_shapes(), 'auxiliary_heads.0.conv_seg.bias': (5,)})
        module = tiny.Holder(tiny.model_shapes())
        report = load_model(module, path, drop=('auxiliary_heads.',))
        assert set(report.dropped) == {'auxiliary_heads.0.conv_seg.bias'}

    def test_drop_ends_at_a_dot_and_must_hit_something(self, tiny, save):
        path, _ = save(tiny.model_shapes())
        for drop in (('decode_head.conv',), ('decode_head.conv_sge',)):
            _refused(load_model, tiny.Holder(tiny.model_shapes()), path, repr(drop[0]), drop=drop)
        with pytest.raises(ValueError, match='must be a tuple'):
            load_model(tiny.Holder(tiny.model_shapes()), path, drop='decode_head')

    def test_a_backbone_file_is_not_a_model(self, tiny, save):
        path, _ = save(tiny.backbone_shapes())
        _refused(load_model, tiny.Holder(tiny.model_shapes()), path, 'bare backbone')

    def test_batch_statistics_load_as_buffers(self, tiny, save):
        norm = torch.nn.BatchNorm2d(4)
        module = tiny.Holder(tiny.model_shapes())
        module.decode_head.extra = norm
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        path, tensors = save(
            shapes, lambda tensors: tensors.update({'decode_head.extra.num_batches_tracked': torch.tensor(9)})
        )
        load_model(module, path)
        assert norm.num_batches_tracked.item() == 9
        assert norm.running_var is not None
        assert torch.equal(norm.running_var, tensors['decode_head.extra.running_var'])


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
