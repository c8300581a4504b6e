"""Translation of MMSegmentation 1.x configs; values without an equivalent raise errors with their key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from dpt.config.load import load_config
from dpt.config.mmseg import is_mmseg_config, translate_mmseg_config
from dpt.config.parts import check_parts
from dpt.registry import DATASETS, MODELS

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
TTA = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=ratio, keep_ratio=True) for ratio in (0.5, 1.0)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]


def loader(folder: str) -> dict:
    return dict(
        batch_size=2,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(
            type='ADE20KDataset',
            data_root='data/ade',
            data_prefix=dict(img_path=f'images/{folder}', seg_map_path=f'annotations/{folder}'),
            pipeline=PIPELINE,
        ),
    )


def recipe() -> dict:
    """The values of MMSegmentation's DPT recipe, merged."""
    return dict(
        default_scope='mmseg',
        env_cfg=dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl')),
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
                pad_val=0,
                seg_pad_val=255,
                size=(512, 512),
            ),
            pretrained='pretrain/vit.pth',
            backbone=dict(
                type='VisionTransformer',
                img_size=224,
                embed_dims=768,
                num_layers=12,
                num_heads=12,
                out_indices=(2, 5, 8, 11),
                final_norm=False,
                with_cls_token=True,
                output_cls_token=True,
            ),
            decode_head=dict(
                type='DPTHead',
                in_channels=(768, 768, 768, 768),
                channels=256,
                embed_dims=768,
                post_process_channels=[96, 192, 384, 768],
                num_classes=150,
                readout_type='project',
                input_transform='multiple_select',
                in_index=(0, 1, 2, 3),
                norm_cfg=dict(type='SyncBN', requires_grad=True),
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            ),
            auxiliary_head=None,
            train_cfg={},
            test_cfg=dict(mode='whole'),
        ),
        train_dataloader=loader('training'),
        val_dataloader=loader('validation'),
        test_dataloader=loader('validation'),
        val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        tta_model=dict(type='SegTTAModel'),
        tta_pipeline=TTA,
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
            paramwise_cfg=dict(custom_keys={'norm': dict(decay_mult=0.0)}),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
            dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
        ],
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=16000),
            visualization=dict(type='SegVisualizationHook'),
        ),
        visualizer=dict(
            type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
        ),
        log_processor=dict(by_epoch=False),
    )


def edited(**options: Any) -> Config:
    """The recipe with values set by dotted key (``__`` for a dot)."""
    config = Config(recipe())
    config.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return config


def replaced(key: str, value: Any) -> Config:
    """The recipe with one value replaced, not merged."""
    config = Config(recipe())
    *parents, last = key.split('.')
    target = config
    for name in parents:
        target = target[int(name)] if isinstance(target, list) else target[name]
    target[last] = value
    return config


def tiny(**options: Any) -> Config:
    """The recipe on a small model."""
    return edited(
        model__pretrained=None,
        model__backbone__embed_dims=32,
        model__backbone__num_layers=4,
        model__backbone__num_heads=2,
        model__backbone__out_indices=(0, 1, 2, 3),
        model__decode_head__embed_dims=32,
        model__decode_head__channels=8,
        model__decode_head__post_process_channels=[4, 8, 8, 8],
        **options,
    )


class TestModel:
    def test_the_recipe_equals_the_config_of_dpt(self, repository: Path) -> None:
        ours = load_config(str(repository / 'configs/dpt_vit-b16_512x512_160k_ade20k.py'))
        config, _ = translate_mmseg_config(Config(recipe()))
        with torch.device('meta'):  # only names and shapes
            theirs, own = MODELS.build(config.model), MODELS.build(ours.model)
        assert theirs.backbone.layers[0].ln1.eps == 1e-5
        shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (theirs, own)]
        assert shapes[0] == shapes[1]
        assert config.default_scope == 'dpt'
        assert config.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='pretrain/vit.pth')
        constructor = config.optim_wrapper.pop('constructor')
        assert constructor == 'MMSegOptimWrapperConstructor'
        for name in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'tta_pipeline', 'train_dataloader'):
            assert config[name] == Config(recipe())[name], f'{name} must stay as it is'

    def test_the_source_config_is_not_modified(self) -> None:
        config = edited()
        translate_mmseg_config(config)
        assert config.to_dict() == Config(recipe()).to_dict()

    def test_values_reach_the_parts(self) -> None:
        config, lines = translate_mmseg_config(
            tiny(
                model__decode_head__num_classes=11,
                model__decode_head__readout_type='add',
                model__decode_head__dropout_ratio=0.3,
                model__decode_head__ignore_index=7,
                model__decode_head__loss_decode__loss_weight=0.5,
                model__decode_head__loss_decode__avg_non_ignore=True,
                model__backbone__final_norm=True,
                model__backbone__norm_cfg=dict(type='LN', eps=1e-6),
                model__backbone__drop_path_rate=0.2,
                model__test_cfg=dict(mode='slide', crop_size=(64, 48), stride=(32, 24)),
                model__data_preprocessor__test_cfg=dict(size_divisor=32),
            )
        )
        model = MODELS.build(config.model)
        assert model.decode_head.num_classes == model.decode_head.conv_seg.out_channels == 11
        assert model.neck.reassemble_blocks.readout_type == 'add'
        assert model.decode_head.dropout.p == 0.3
        assert model.ignore_index == 7
        assert model.loss_decode[0].loss_weight == 0.5
        assert model.loss_decode[0].avg_non_ignore
        assert model.backbone.ln1.eps == 1e-6
        assert tuple(model.test_cfg['crop_size']) == (64, 48)
        assert tuple(model.test_cfg['stride']) == (32, 24)
        assert model.data_preprocessor.test_padding == (None, 32)
        assert 'model.backbone.norm_eps=1e-06: from norm_cfg' in lines

    def test_defaults_are_those_of_mmsegmentation(self) -> None:
        source = tiny()
        for key in ('readout_type', 'norm_cfg', 'loss_decode'):
            del source.model.decode_head[key]
        model = MODELS.build(translate_mmseg_config(source)[0].model)
        assert model.neck.reassemble_blocks.readout_type == 'ignore'
        assert model.decode_head.project.bn is not None

    @pytest.mark.parametrize(
        ('given', 'norm'), [(None, None), (dict(type='GN', num_groups=32, requires_grad=True), 'GN')]
    )
    def test_other_norms(self, given: dict | None, norm: str | None) -> None:
        config, _ = translate_mmseg_config(replaced('model.decode_head.norm_cfg', given))
        assert config.model.neck.norm == config.model.decode_head.norm == norm

    @pytest.mark.parametrize(
        'loss',
        [
            dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[1.0] * 150),
            dict(type='DiceLoss', naive_dice=True, ignore_index=255, reduction='mean', eps=1),
            dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, reduction='mean'),
            dict(type='TverskyLoss', smooth=2, alpha=0.6, beta=0.4, ignore_index=255),
            dict(type='LovaszLoss', per_image=False, reduction='none', classes='all'),
            dict(type='OhemCrossEntropy', thres=0.9, min_kept=131072, loss_weight=0.5),
        ],
        ids=lambda loss: loss.get('type'),
    )
    def test_losses_keep_their_arguments(self, loss: dict) -> None:
        config, _ = translate_mmseg_config(
            replaced('model.decode_head.loss_decode', [dict(loss, loss_name='loss_a'), loss])
        )
        kept = {name: value for name, value in loss.items() if name != 'reduction' or value == 'none'}
        assert config.model.loss == [dict(kept, loss_name='loss_a'), kept]
        assert not [*check_parts(config.model.loss, 'model.loss', MODELS)]
        MODELS.build(config.model.loss[0])

    def test_sampler_moves_from_head_to_cross_entropy(self) -> None:
        source = replaced('model.decode_head.sampler', dict(type='OHEMPixelSampler', thresh=0.7, min_kept=9))
        losses = [dict(type='CrossEntropyLoss'), dict(type='LovaszLoss', reduction='none')]
        source.model.decode_head.loss_decode = losses
        config, lines = translate_mmseg_config(source)
        assert config.model.loss[0].sampler == dict(type='OHEMPixelSampler', thresh=0.7, min_kept=9)
        assert config.model.loss[1] == losses[1]
        assert 'model.decode_head.sampler -> model.loss.sampler' in lines
        assert not [*check_parts(config.model.loss, 'model.loss', MODELS)]
        config.model.loss[0].sampler.kept = 9
        assert dict(check_parts(config.model.loss, 'model.loss', MODELS)).keys() == {
            'model.loss.0.sampler.kept'
        }

    @pytest.mark.parametrize(
        ('given', 'bias'), [({}, True), (dict(model__backbone__patch_bias=False), False)]
    )
    def test_the_patch_bias_that_mmsegmentation_dropped(self, given: dict, bias: bool) -> None:
        config, lines = translate_mmseg_config(edited(**given))
        assert config.model.backbone.patch_bias is bias
        assert any('patch_bias' in line for line in lines) is bias

    @pytest.mark.parametrize('name', ['bgr_to_rgb', 'rgb_to_bgr'])
    def test_both_names_reverse_the_channels(self, name: str) -> None:
        source = Config(recipe())
        del source.model.data_preprocessor['bgr_to_rgb']
        assert not translate_mmseg_config(source)[0].model.data_preprocessor.bgr_to_rgb
        source.model.data_preprocessor[name] = True
        assert translate_mmseg_config(source)[0].model.data_preprocessor.bgr_to_rgb

    def test_stochastic_depth_skips_attention_as_in_mmsegmentation(self) -> None:
        config, lines = translate_mmseg_config(tiny(model__backbone__drop_path_rate=0.5))
        layer = MODELS.build(config.model).backbone.layers[-1].train()
        layer.drop_path.drop_prob = 1 - 1e-7  # the feed-forward part is dropped
        tokens = torch.rand(2, 5, 32)
        torch.testing.assert_close(layer(tokens), tokens + layer.attn(layer.ln1(tokens)))
        assert any('drop_path_rate=0.5: only for feed-forward branches' in line for line in lines)
        assert 'drop_path_attn' not in translate_mmseg_config(tiny())[0].model.backbone

    @pytest.mark.parametrize('size', [(64,), 64, (64, 64)])
    def test_the_pretraining_size_as_number_or_tuple(self, size: int | tuple[int, ...]) -> None:
        config, _ = translate_mmseg_config(tiny(model__backbone__img_size=size))
        assert MODELS.build(config.model).backbone.native_grid == (4, 4)

    def test_auxiliary_heads_of_dpt_are_kept(self) -> None:
        heads = [dict(type='FCNHead', in_channels=8, num_classes=150)]
        config, _ = translate_mmseg_config(tiny(model__auxiliary_heads=heads))
        assert len(MODELS.build(config.model).auxiliary_heads) == 1

    def test_weights_for_another_number_of_classes(self) -> None:
        init = dict(type='Pretrained', checkpoint='a.pth', drop=['decode_head.conv_seg'])
        assert translate_mmseg_config(tiny(model__init_cfg=init))[0].model.init_cfg == init

    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('model.type', 'CascadeEncoderDecoder'),
            ('model.neck', dict(type='MultiLevelNeck')),
            ('model.auxiliary_head', dict(type='FCNHead', in_channels=768, channels=256, num_classes=150)),
            ('model.unknown', 1),
            ('model.test_cfg.multi_label', True),
            ('model.test_cfg.mode', 'crops'),
            ('model.backbone.type', 'MAE'),
            ('model.backbone.out_indices', -1),
            ('model.backbone.output_cls_token', False),
            ('model.backbone.with_cls_token', False),
            ('model.backbone.pre_norm', True),
            ('model.backbone.patch_norm', True),
            ('model.backbone.frozen_exclude', ['ln']),
            ('model.backbone.norm_cfg', dict(type='BN')),
            ('model.backbone.act_cfg', dict(type='ReLU')),
            ('model.backbone.embed_dim', 768),
            ('model.backbone.qkv_bias', False),
            ('model.decode_head.type', 'FCNHead'),
            ('model.decode_head.embed_dims', 384),
            ('model.decode_head.in_index', (3, 2, 1, 0)),
            ('model.decode_head.input_transform', 'resize_concat'),
            ('model.decode_head.align_corners', True),
            ('model.decode_head.expand_channels', True),
            ('model.decode_head.out_channels', 1),
            ('model.decode_head.num_classes', 1),
            ('model.decode_head.sampler', dict(type='OtherSampler')),
            ('model.decode_head.sampler', dict(type='OHEMPixelSampler', keep=1)),
            ('model.decode_head.ignore_index', None),
            ('model.decode_head.norm_cfg', dict(type='GN', num_groups=8)),
            ('model.decode_head.norm_cfg', dict(type='BN', momentum=0.01)),
            ('model.decode_head.loss_decode', dict(type='BoundaryLoss')),
            (
                'model.decode_head.loss_decode',
                [dict(type='CrossEntropyLoss'), dict(type='DiceLoss', alpha=1)],
            ),
            ('model.decode_head.loss_decode', dict(type='FocalLoss', reduction='sum')),
            ('model.decode_head.loss_decode.use_mask', True),
            ('model.decode_head.loss_decode.class_weight', 'weights.npy'),
            ('model.data_preprocessor.rgb_to_bgr', True),
            ('model.data_preprocessor.batch_augments', [dict(type='Mixup')]),
            ('model.data_preprocessor.test_cfg', dict(divisor=32)),
        ],
    )
    def test_values_without_an_equivalent_are_rejected_with_their_key(self, key: str, value: Any) -> None:
        with pytest.raises(ValueError, match=rf'^{key}'):
            translate_mmseg_config(replaced(key, value))

    @pytest.mark.parametrize(
        ('key', 'value', 'remedy'),
        [
            ('model.decode_head.type', 'UPerHead', r'_base_/models/dpt_vit-b16\.py'),
            ('model.backbone.type', 'BEiT', 'TimmBackbone'),
        ],
    )
    def test_other_models_are_rejected_with_a_remedy(self, key: str, value: str, remedy: str) -> None:
        with pytest.raises(ValueError, match=f"^{key}='{value}' cannot be translated: .*{remedy}"):
            translate_mmseg_config(replaced(key, value))

    @pytest.mark.parametrize(
        ('losses', 'thresh'),
        [
            ([dict(type='CrossEntropyLoss', use_sigmoid=True)], 0.7),
            ([dict(type='CrossEntropyLoss'), dict(type='DiceLoss')], 0.7),
            ([dict(type='CrossEntropyLoss'), dict(type='LovaszLoss', reduction='none')], None),
            ([dict(type='TverskyLoss')], 0.7),
        ],
    )
    def test_sampler_of_other_losses_is_rejected(self, losses: list, thresh: float | None) -> None:
        source = replaced('model.decode_head.loss_decode', losses)
        source.model.decode_head.sampler = dict(type='OHEMPixelSampler', thresh=thresh)
        with pytest.raises(ValueError, match=r'^model\.decode_head\.sampler.* cannot be translated'):
            translate_mmseg_config(source)

    def test_two_sources_of_weights_are_rejected(self) -> None:
        source = edited(model__backbone__init_cfg=dict(type='Pretrained', checkpoint='other.pth'))
        with pytest.raises(ValueError, match=r'^model\.pretrained and model\.backbone\.init_cfg'):
            translate_mmseg_config(source)


class TestParts:
    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('train_dataloader.dataset.type', 'LEVIRCDDataset'),
            ('train_dataloader.dataset.img_sufix', '.png'),
            ('test_dataloader.dataset.pipeline.1.type', 'SegRescale'),
            ('test_dataloader.dataset.pipeline.2.reduce_zero', True),
            ('tta_pipeline.1.transforms.2.0.with_bbox', True),
            ('test_evaluator.type', 'CityscapesMetric'),
            ('test_evaluator.classwise', True),
            ('default_hooks.checkpoint.type', 'EvalHook'),
            ('default_hooks.visualization.colour', 1),
            ('visualizer.type', 'Seg3DVisualizer'),
            ('optim_wrapper.constructor', 'NoSuchConstructor'),
            ('optim_wrapper.optimizer.type', 'Adan17'),
            ('param_scheduler.1.type', 'PolyLRRatio'),
            ('train_cfg.type', 'OtherLoop'),
            ('runner_type', 'Other'),
        ],
    )
    def test_unknown_parts_and_arguments_are_rejected(self, key: str, value: Any) -> None:
        with pytest.raises(ValueError, match=rf'^{key}'):
            translate_mmseg_config(replaced(key, value))

    def test_keys_without_effect_are_dropped_and_reported(self) -> None:
        config, lines = translate_mmseg_config(
            edited(
                train_dataloader__dataset__filter_cfg=dict(min_size=32),
                visualizer__dataset_name='ade20k',
                model__train_cfg=dict(anything=1),
            )
        )
        assert 'filter_cfg' not in config.train_dataloader.dataset
        for key in ('train_dataloader.dataset.filter_cfg', 'visualizer.dataset_name', 'model.train_cfg'):
            assert any(line.startswith(f'{key}: dropped') for line in lines)

    def test_wrapped_data_sets_are_checked(self) -> None:
        source = Config(recipe())
        source.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=dict(type='Unknown'))
        with pytest.raises(ValueError, match=r'^train_dataloader\.dataset\.type=.Unknown'):
            translate_mmseg_config(source)

    def test_a_list_of_data_sets_is_rejected(self) -> None:
        source = Config(recipe())
        source.train_dataloader['dataset'] = [source.train_dataloader.dataset]
        with pytest.raises(ValueError, match='ConcatDataset'):
            translate_mmseg_config(source)

    def test_the_type_of_a_random_resize_is_checked(self) -> None:
        step = dict(type='RandomChoiceResize', scales=[256, 512], resize_type='SegRescale')
        source = Config(recipe())
        source.train_dataloader.dataset.pipeline[1] = step
        with pytest.raises(ValueError, match=r'^train_dataloader\.dataset\.pipeline\.1\.resize_type'):
            translate_mmseg_config(source)

    def test_scopes_of_names_are_removed(self) -> None:
        source = edited(train_dataloader__dataset__type='mmseg.ADE20KDataset')
        source.test_dataloader.dataset.pipeline[2]['_scope_'] = 'mmseg'
        config, _ = translate_mmseg_config(source)
        assert config.train_dataloader.dataset.type == 'ADE20KDataset'
        assert '_scope_' not in config.test_dataloader.dataset.pipeline[2]

    @pytest.mark.parametrize(
        ('dataset', 'offset'),
        [({}, 1), (dict(type='CamVidDataset'), None), (dict(reduce_zero_label=False), None)],
    )
    def test_written_label_maps_have_the_offset_of_mmsegmentation(
        self, dataset: dict, offset: int | None
    ) -> None:
        source = Config(recipe())
        source.test_dataloader.dataset.update(dataset)
        assert translate_mmseg_config(source)[0].test_evaluator.get('label_offset') == offset

    def test_optimiser_rules_match_parameter_names_of_mmsegmentation(self) -> None:
        """The common key 'head' also matches the neck, which is part of MMSegmentation's head."""
        rules = {'head': dict(lr_mult=10.0), 'neck': dict(lr_mult=3.0), 'fusion_blocks.1': dict(lr_mult=2.0)}
        source = tiny()
        source.optim_wrapper.paramwise_cfg = dict(custom_keys=rules)
        config, lines = translate_mmseg_config(source)
        model = MODELS.build(config.model)
        optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        rates = {names[id(one)]: group['lr'] for group in optimizer.param_groups for one in group['params']}
        assert len(rates) == len(names)
        for name, rate in rates.items():
            factor = 2 if 'fusion_blocks.1' in name else 1 if name.startswith('backbone') else 10
            assert rate == pytest.approx(factor * 6e-5), name
        assert any(line.startswith('optim_wrapper.constructor') for line in lines)
        source.optim_wrapper.paramwise_cfg = None
        assert 'constructor' not in translate_mmseg_config(source)[0].optim_wrapper


class TestLoading:
    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[..., Path]:
        def write(name: str = 'theirs.py', text: str = '', **changes: Any) -> Path:
            body = '\n'.join(f'{key} = {value!r}' for key, value in {**recipe(), **changes}.items())
            (tmp_path / name).write_text(f'{body}\n{text}')
            return tmp_path / name

        return write

    def test_options_use_the_names_of_the_config(self, write: Callable[..., Path]) -> None:
        options = {
            'model.decode_head.num_classes': 11,
            'train_dataloader.dataset.pipeline.1.scale': (480, 360),
        }
        config = load_config(str(write()), options)
        assert config.model.decode_head.num_classes == 11
        assert config.model.neck.type == 'DPTNeck'
        assert config.train_dataloader.dataset.pipeline[1].scale == (480, 360)
        assert config.work_dir == 'work_dirs/theirs'
        assert any('norm_cfg: SyncBN' in line for line in config.translated_from_mmseg)

    def test_data_root_as_an_option(self, write: Callable[..., Path]) -> None:
        path = write(data_root='data/ade')
        config = load_config(str(path), dict(data_root='/elsewhere'))
        assert config.test_dataloader.dataset.data_root == '/elsewhere'

    def test_options_with_names_of_dpt_are_rejected(self, write: Callable[..., Path]) -> None:
        with pytest.raises(ValueError, match=r'^model\.neck'):
            load_config(str(write()), {'model.neck.channels': 64})

    def test_a_dumped_translation_loads_unchanged(self, write: Callable[..., Path], tmp_path: Path) -> None:
        config = load_config(str(write()))
        config.dump(tmp_path / 'dumped.py')
        again = load_config(str(tmp_path / 'dumped.py'))
        assert again.model == config.model

    def test_custom_imports(self, write: Callable[..., Path], tmp_path: Path, monkeypatch) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / 'my_parts_of_test.py').write_text(
            'from dpt.datasets import CamVidDataset\n'
            'from dpt.registry import DATASETS\n'
            "DATASETS.register_module('MyDatasetOfTest', module=CamVidDataset)\n"
        )
        imports = dict(imports=['mmseg.models', 'my_parts_of_test'])
        source = recipe()
        source['train_dataloader']['dataset']['type'] = 'MyDatasetOfTest'
        config = load_config(str(write(**dict(source, custom_imports=imports))))
        assert config.custom_imports.imports == ['my_parts_of_test']
        assert 'custom_imports: dropped mmseg.models' in config.translated_from_mmseg
        DATASETS.module_dict.pop('MyDatasetOfTest')
        imports = dict(imports=['no_such_module_of_test'])
        with pytest.raises(ValueError, match='custom_imports: no_such_module_of_test cannot'):
            load_config(str(write(custom_imports=imports)))


@pytest.mark.parametrize(
    ('scope', 'expected'), [('mmseg', True), (None, True), ('mmengine', True), ('dpt', False)]
)
def test_mmsegmentation_configs_are_recognised(scope: str | None, expected: bool) -> None:
    assert is_mmseg_config(replaced('default_scope', scope)) is expected


def test_configs_of_dpt_are_not_translated(repository: Path) -> None:
    for path in sorted((repository / 'configs').glob('*.py')):
        assert 'translated_from_mmseg' not in load_config(str(path)), path
