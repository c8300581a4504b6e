"""Loading is all or nothing, and a refusal says what to set."""

import logging

import pytest
import torch
from tiny_checkpoints import (
    Holder,
    assert_holds,
    backbone_shapes,
    mmseg_shapes,
    model_shapes,
    random_tensors,
    refused,
    under,
)

from dpt.checkpoints import load_backbone, load_model

PATCH_BIAS = 'patch_embed.projection.bias'
QKV_BIAS = 'layers.0.attn.attn.in_proj_bias'
CLASSIFIER = 'decode_head.conv_seg.weight'
NORM = {'ln1.weight': (4,), 'ln1.bias': (4,)}
OWN_BACKBONE = {'stem.weight': (4, 3, 2, 2), 'block1.conv.weight': (4, 4, 3, 3), 'block1.scale': (4,)}
OWN_HEAD = under('decode_head.', {'classify.weight': (5, 4, 1, 1), 'classify.bias': (5,)})
OWN_MODEL = {**under('backbone.', backbone_shapes()), **OWN_HEAD}


@pytest.fixture
def logged(caplog):
    """Load with a logger; return the report and its one line."""

    def load(function, *args, **kwargs):
        with caplog.at_level(logging.INFO, 'test_load'):
            report = function(*args, logger=logging.getLogger('test_load'), **kwargs)
        (record,) = caplog.records
        return report, record.getMessage()

    return load


def changed(shapes, changes):
    return {key: value for key, value in {**shapes, **changes}.items() if value is not None}


class TestModel:
    def test_patch_bias_missing_in_mmseg_1_2_is_zero(self, save, logged):
        path, source = save(mmseg_shapes(), lambda tensors: tensors.pop(f'backbone.{PATCH_BIAS}'))
        module, backbone = Holder(model_shapes()), Holder(backbone_shapes())
        report, line = logged(load_model, module, path)
        zeros = {f'backbone.{PATCH_BIAS}': torch.zeros(4)}
        assert_holds(module, {report.mapped[key]: value for key, value in source.items()} | zeros)
        assert f'loaded {len(source)}/{len(source) + 1} tensors' in line
        assert '(MMSegmentation DPT keys; patch bias missing: set to zero)' in line
        load_backbone(backbone, path)
        assert bool((backbone.state_dict()[PATCH_BIAS] == 0).all())

    @pytest.mark.parametrize(
        ('in_file', 'in_model', 'words'),
        [
            # a patch bias is neither invented for other files nor dropped
            ({f'backbone.{PATCH_BIAS}': None}, {}, (f'file: backbone.{PATCH_BIAS}', 'patch_bias=False')),
            ({}, {f'backbone.{PATCH_BIAS}': None}, ('model.backbone.patch_bias=True',)),
            ({'backbone.ln1.weight': (4,)}, {}, ('model.backbone.final_norm=True',)),
            (
                {CLASSIFIER: (150, 4, 1, 1)},
                {},
                ('150 classes, the model has 5', "drop=('decode_head.conv_seg'"),
            ),
        ],
    )
    def test_refusal_names_key_and_setting(self, save, in_file, in_model, words):
        path, _ = save(changed(model_shapes(), in_file))
        refused(load_model, Holder(changed(model_shapes(), in_model)), path, *words)

    def test_backbone_file_is_not_a_model(self, save):
        path, _ = save(backbone_shapes())
        refused(load_model, Holder(model_shapes()), path, 'bare backbone')

    def test_batch_statistics_load_as_buffers(self, save):
        module = torch.nn.ModuleDict({'decode_head': torch.nn.BatchNorm2d(4)})
        shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        counted = {'decode_head.num_batches_tracked': torch.tensor(9)}
        path, tensors = save(shapes, lambda tensors: tensors.update(counted))
        load_model(module, path)
        assert_holds(module, tensors)


class TestDrop:
    def test_dropped_prefixes_keep_the_models_own_tensors(self, save, logged):
        path, source = save(mmseg_shapes(classes=150))
        module = Holder(model_shapes(classes=11))
        report, line = logged(load_model, module, path, drop=('decode_head.conv_seg',))
        state, own = module.state_dict(), {CLASSIFIER, 'decode_head.conv_seg.bias'}
        assert set(report.kept) == set(report.dropped) == own
        assert all(bool((state[key] == -1).all()) for key in own)
        assert set(report.mapped.values()) == set(state) - own
        assert all(torch.equal(state[target], source[key]) for key, target in report.mapped.items())
        assert f'loaded {len(state) - 2}/{len(state)} tensors' in line
        assert f"kept the model's own: {CLASSIFIER}, decode_head.conv_seg.bias" in line

    @pytest.mark.parametrize(
        ('in_file', 'in_model', 'loaded', 'kept'),
        [
            # prefixes mean the model's names: in the file the neck's begin with 'decode_head', too
            (mmseg_shapes(), model_shapes(), 'neck.convs.0.conv.weight', 'decode_head.project.conv.weight'),
            # own parts may differ
            (
                {**OWN_MODEL, 'decode_head.classify.weight': (7, 4, 1, 1)},
                OWN_MODEL,
                'backbone.pos_embed',
                'decode_head.classify.weight',
            ),
        ],
    )
    def test_whole_head_can_be_dropped(self, save, in_file, in_model, loaded, kept):
        path, tensors = save(in_file)
        module = Holder(in_model)
        report = load_model(module, path, drop=('decode_head',))
        state = module.state_dict()
        (source,) = [key for key, target in report.mapped.items() if target == loaded]
        assert torch.equal(state[loaded], tensors[source])
        assert bool((state[kept] == -1).all())
        assert set(report.kept) == {key for key in in_model if key.startswith('decode_head.')}

    def test_dropped_tensors_may_be_absent_on_either_side(self, save):
        key = 'auxiliary_heads.0.conv_seg.bias'
        more = {**model_shapes(), key: (5,)}
        path, _ = save(model_shapes())
        refused(load_model, Holder(more), path, key)
        assert load_model(Holder(more), path, drop=('auxiliary_heads',)).kept == (key,)
        path, _ = save(more)
        assert set(load_model(Holder(model_shapes()), path, drop=('auxiliary_heads.',)).dropped) == {key}

    def test_prefix_ends_at_a_dot_and_must_match(self, save):
        path, _ = save(model_shapes())
        for drop in (('decode_head.conv',), ('decode_head.conv_sge',)):
            refused(load_model, Holder(model_shapes()), path, repr(drop[0]), drop=drop)
        with pytest.raises(ValueError, match='must be a tuple'):
            load_model(Holder(model_shapes()), path, drop='decode_head')


class TestBackbone:
    def test_one_line_says_what_was_loaded(self, tmp_path, logged):
        timm = pytest.importorskip('timm')
        sizes = dict(embed_dim=12, depth=2, mlp_ratio=2, init_values=1.0)
        theirs = timm.create_model('vit_tiny_patch16_224', **sizes).state_dict()
        tensors = {key: torch.rand_like(value).half() for key, value in theirs.items()}
        torch.save({'model': tensors}, tmp_path / 'timm.pth')
        module = Holder(backbone_shapes(width=12, patch=16, grid=14, layer_scale=True))
        report, line = logged(load_backbone, module, tmp_path / 'timm.pth')
        assert_holds(module, {target: tensors[key] for key, target in report.mapped.items()})
        assert line == (
            f'loaded 32/32 tensors from {tmp_path / "timm.pth"} '
            '(timm keys; unwrapped: model; dropped: head.weight, head.bias, norm.weight, norm.bias)'
        )

    @pytest.mark.parametrize('shapes', [model_shapes(), mmseg_shapes()], ids=['own', 'mmseg'])
    def test_trained_model_gives_its_backbone(self, save, logged, shapes):
        path, tensors = save(shapes)
        module = Holder(backbone_shapes())
        _, line = logged(load_backbone, module, path)
        assert_holds(module, {key.removeprefix('backbone.'): value for key, value in tensors.items()})
        others = sum(not key.startswith('backbone.') for key in tensors)
        assert line.endswith(f'dropped: {others} keys (not part of the backbone))')

    @pytest.mark.parametrize('norm', [NORM, {}], ids=['with', 'without'])
    def test_final_norm_loads_only_where_the_module_has_one(self, save, norm):
        path, tensors = save({**backbone_shapes(), **NORM}, suffix='.safetensors')
        module = Holder({**backbone_shapes(), **norm})
        assert load_backbone(module, path).dropped.keys() == NORM.keys() - norm.keys()
        assert_holds(module, tensors)

    def test_missing_unexpected_and_misshapen_keys_are_listed(self, save):
        def edit(tensors):
            del tensors['layers.1.ln2.bias']
            tensors['layers.1.ls1.gamma'] = torch.rand(4)
            tensors['layers.0.ffn.layers.1.bias'] = torch.rand(7)
            tensors['cls_token'] = torch.ones(1, 1, 4, dtype=torch.int8)

        path, _ = save(backbone_shapes(), edit)
        refused(
            load_backbone,
            Holder(backbone_shapes()),
            path,
            '1 missing in the file: layers.1.ln2.bias',
            '1 not in the model: layers.1.ls1.gamma',
            'layers.0.ffn.layers.1.bias: 7 float32 in the file, 4 float32 in the model',
            '1x1x4 int8 in the file',
        )

    @pytest.mark.parametrize(
        ('in_file', 'in_model', 'settings'),
        [
            ({'grid': 5}, {'grid': 3}, ['img_size=10']),
            ({'grid': 3, 'patch': 4}, {'grid': 6, 'patch': 2}, ['patch_size=4', 'img_size=12']),
            ({'patch': 4}, {'patch': 2}, ['patch_size=4']),
            ({'width': 8}, {'width': 4}, ['embed_dims=8']),
            ({'layers': 3}, {'layers': 2}, ['num_layers=3']),
            ({'layers': 1}, {'layers': 2}, ['num_layers=1']),
            ({'layer_scale': True}, {}, ['layer_scale_init=1e-5']),
            ({}, {'layer_scale': True}, ['layer_scale_init=None']),
        ],
    )
    def test_setting_that_fits_is_named(self, save, in_file, in_model, settings):
        path, _ = save(backbone_shapes(**in_file))
        words = [f'model.backbone.{setting} ' for setting in settings]
        message = refused(load_backbone, Holder(backbone_shapes(**in_model)), path, *words)
        assert message.count('-> ') == len(settings)

    @pytest.mark.parametrize(
        ('in_file', 'in_model', 'words'),
        [
            ({PATCH_BIAS: None}, {}, (PATCH_BIAS, 'model.backbone.patch_bias=False ')),
            ({}, {PATCH_BIAS: None}, (PATCH_BIAS, 'model.backbone.patch_bias=True ')),
            ({QKV_BIAS: None}, {}, (QKV_BIAS, 'model.backbone.qkv_bias=False ')),
            ({}, {QKV_BIAS: None}, (QKV_BIAS, 'model.backbone.qkv_bias=True ')),
            ({'ln1.bias': (4,)}, NORM, ('ln1.weight', 'model.backbone.final_norm=False ')),
            ({'dist_token': (1, 1, 4)}, {}, ('dist_token',)),
        ],
    )
    def test_switch_that_differs_is_named(self, save, in_file, in_model, words):
        path, _ = save(changed(backbone_shapes(), in_file))
        refused(load_backbone, Holder(changed(backbone_shapes(), in_model)), path, *words)

    def test_positions_without_a_square_grid(self, save):
        path, _ = save({**backbone_shapes(), 'pos_embed': (1, 12, 4)})
        assert 'img_size' not in refused(load_backbone, Holder(backbone_shapes()), path, 'has 12 positions')

    def test_unknown_source_is_refused_by_key(self, save):
        path, _ = save({'conv1.weight': (3, 3)})
        words = 'looked for the keys of', 'found 1 keys', 'conv1.weight', 'vit2mmseg.py'
        refused(load_backbone, Holder(backbone_shapes()), path, *words)


class TestOwnParts:
    """Models with parts that this package does not know."""

    @pytest.mark.parametrize(
        'shapes',
        [OWN_MODEL, {**under('backbone.', OWN_BACKBONE), CLASSIFIER: (5, 4, 1, 1)}, mmseg_shapes()],
        ids=['head', 'backbone', 'names of MMSegmentation'],
    )
    def test_own_names_load_as_they_are(self, save, shapes):
        path, tensors = save(shapes)
        module = Holder(shapes)
        assert load_model(module, path).mapped == {key: key for key in tensors}
        assert_holds(module, tensors)

    @pytest.mark.parametrize(('prefix', 'more'), [('', {}), ('backbone.', {}), ('backbone.', OWN_HEAD)])
    def test_own_backbone_loads_alone_or_from_a_model(self, save, prefix, more):
        path, tensors = save({**under(prefix, OWN_BACKBONE), **more})
        module = Holder(OWN_BACKBONE)
        assert set(load_backbone(module, path).dropped) == set(more)
        assert_holds(module, {key.removeprefix('backbone.'): value for key, value in tensors.items()})

    def test_differences_of_an_own_head_are_listed(self, save):
        def edit(tensors):
            del tensors['decode_head.classify.bias']
            tensors['decode_head.temperature'] = tensors['backbone.cls_token']
            tensors['decode_head.classify.weight'] = torch.rand(7)

        path, _ = save(OWN_MODEL, edit)
        message = refused(
            load_model,
            Holder(OWN_MODEL),
            path,
            'looked for the keys of',
            '1 missing in the file: decode_head.classify.bias',
            '1 not in the model: decode_head.temperature',
            '1 with another shape: decode_head.classify.weight: 7 float32 in the file',
        )
        looked_for, found = message.split('; found ')
        assert 'backbone.patch_embed.projection.weight' not in looked_for  # it is in the file
        assert 'dpt (decode_head.conv_seg.weight)' in looked_for
        assert 'backbone.cls_token' in found

    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_differences_of_an_own_backbone_are_listed(self, save, prefix):
        shapes = {**OWN_BACKBONE, 'block2.scale': (4,)}
        del shapes['block1.scale']
        path, _ = save(under(prefix, shapes))
        words = '1 missing in the file: block1.scale', '1 not in the model: block2.scale'
        refused(load_backbone, Holder(OWN_BACKBONE), path, *words)

    @pytest.mark.parametrize(('more', 'lines'), [(OWN_BACKBONE, 3), ({}, 1)], ids=['beside', 'alone'])
    def test_other_keys_are_refused(self, save, more, lines):
        path, _ = save({**under('backbone.', more), 'student.weight': (4,)})
        message = refused(load_backbone, Holder(OWN_BACKBONE), path, 'student.weight')
        assert len(message.splitlines()) == lines


class TestNotFinite:
    @pytest.mark.parametrize(
        ('value', 'kind'), [('nan', 'NaN'), ('inf', 'infinite values'), ('-inf', 'infinite')]
    )
    def test_weights_that_diverged_are_refused(self, save, value, kind):
        def edit(tensors):
            tensors[CLASSIFIER].view(-1)[3] = float(value)
            tensors['backbone.layers.1.ln2.bias'][0] = float(value)

        path, _ = save(model_shapes(), edit)
        words = f'layers.1.ln2.bias contains {kind}', '(1 of 4 values', 'use an earlier checkpoint'
        assert '\n' not in refused(load_model, Holder(model_shapes()), path, *words)
        refused(load_backbone, Holder(backbone_shapes()), path, *words)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
    def test_low_precision_is_checked(self, save, dtype):
        nan = torch.full((5, 4, 1, 1), float('nan')).to(dtype)
        path, _ = save(model_shapes(), lambda tensors: tensors.update({CLASSIFIER: nan}))
        refused(load_model, Holder(model_shapes()), path, f'{CLASSIFIER} contains NaN (20 of 20')

    def test_tensors_that_are_not_loaded_may_be_nan(self, save):
        path, _ = save(model_shapes(), lambda tensors: tensors[CLASSIFIER].fill_(float('nan')))
        load_model(Holder(model_shapes()), path, drop=('decode_head.conv_seg',))
        load_backbone(Holder(backbone_shapes()), path)

    def test_infinite_constants_of_the_model_load(self, save):
        mask = torch.tensor([0.0, -float('inf')])
        module = Holder(backbone_shapes())
        module.register_buffer('mask', mask.clone())
        path, tensors = save(backbone_shapes(), lambda tensors: tensors.update(mask=mask))
        load_backbone(module, path)
        assert_holds(module, tensors)


def averaged(tensors, prefix='module.'):
    return {'n_averaged': torch.tensor(3), **under(prefix, tensors)}


WRAPPED = {
    '_orig_mod.': lambda tensors: under('_orig_mod.', tensors),
    'module.': lambda tensors: under('module.', tensors),
    '_orig_mod., module.': lambda tensors: under('_orig_mod.module.', tensors),
    'module., _orig_mod.': lambda tensors: under('module._orig_mod.', tensors),
    'model.': lambda tensors: {'state_dict': under('model.', tensors), 'epoch': 1},
    'model., _orig_mod.': lambda tensors: {'state_dict': under('model._orig_mod.', tensors)},
    'model_state_dict': lambda tensors: {'model_state_dict': tensors, 'optimizer_state_dict': {}, 'epoch': 1},
    'model_state_dict, module.': lambda tensors: {'model_state_dict': under('module.', tensors)},
    'n_averaged, module.': averaged,
    '_orig_mod., n_averaged, module.': lambda tensors: under('_orig_mod.', averaged(tensors)),
    'n_averaged, module., module.': lambda tensors: averaged(tensors, 'module.module.'),
    'model': lambda tensors: {'model': tensors},
    'teacher': lambda tensors: {'teacher': tensors, 'student': {}},
}


class TestWrappers:
    @pytest.mark.parametrize('unwrapped', WRAPPED)
    @pytest.mark.parametrize('shapes', [model_shapes(), mmseg_shapes()], ids=['own', 'mmseg'])
    def test_wrapped_weights_load_and_the_log_says_so(self, tmp_path, logged, shapes, unwrapped):
        tensors, path = random_tensors(shapes), tmp_path / 'x.pth'
        torch.save(WRAPPED[unwrapped](tensors), path)
        module = Holder(model_shapes())
        report, line = logged(load_model, module, path)
        assert_holds(module, {report.mapped[key]: value for key, value in tensors.items()})
        assert line.endswith(f' keys; unwrapped: {unwrapped})')

    @pytest.mark.parametrize('load', [load_model, load_backbone])
    @pytest.mark.parametrize('prefix', ['model.', 'module.'])
    def test_part_named_like_a_wrapper_stays(self, save, load, prefix):
        path, tensors = save(under(prefix, {'a.weight': (2, 3), 'a.bias': (2,)}))
        module = Holder({key: tuple(value.shape) for key, value in tensors.items()})
        load(module, path)
        assert_holds(module, tensors)
