"""Every config builds, runs forward and backward when shrunken, and the recipe is stated exactly."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData

from dpt.checkpoints.meta import config_values
from dpt.config.load import load_config
from dpt.config.walk import innermost_datasets
from dpt.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from dpt.structures import SegDataSample

ROOT = Path(__file__).resolve().parent.parent / 'configs'
ALL = sorted(path.name for path in ROOT.glob('*.py'))
# tests/test_depth_configs.py has the others.
CONFIGS = [name for name in ALL if Config.fromfile(str(ROOT / name)).model.type == 'EncoderDecoder']
RECIPE = 'dpt_vit-b16_512x512_160k_ade20k.py'
IMPROVED = 'dpt_vit-b16_512x512_160k_ade20k_improved.py'


def stride(config: Config) -> int:
    """Pixels a side of what one token stands for."""
    if config.model.backbone.type == 'TimmBackbone':
        return int(re.search(r'patch(\d+)', config.model.backbone.model_name)[1])
    return config.model.backbone.get('patch_size', 16)  # a hybrid's stem has a stride of 16


def shrink(config: Config) -> Config:
    """The same architecture with fewer channels, on fewer pixels."""
    model = config.model
    side = stride(config) * 4
    heads = 2
    levels = [4, 8, 8, 8]
    if model.backbone.type == 'TimmBackbone':
        model.backbone.update(model_args=dict(embed_dim=16 * heads, num_heads=heads), init_cfg=None)
    else:
        model.backbone.update(embed_dims=16 * heads, num_heads=heads, init_cfg=None)
    if model.backbone.type == 'HybridVisionTransformer':
        stages = (128, 256, 512)
        model.backbone.update(stem_channels=32, stage_channels=stages, stage_depths=(1, 2, 1))
        levels[:2] = stages[:2]
    model.neck.update(in_channels=16 * heads, channels=8, post_process_channels=levels)
    model.decode_head.update(in_channels=8, channels=8)
    for head in model.get('auxiliary_heads') or []:
        head.update(in_channels=8)
    model.data_preprocessor.size = (side, side)
    return config


@pytest.mark.parametrize('name', ALL)
def test_the_config_text_of_checkpoints_is_read_back(name: str) -> None:
    config = Config.fromfile(str(ROOT / name))
    assert config_values(config.pretty_text) == config.to_dict()


@pytest.mark.parametrize('name', CONFIGS)
def test_config_builds_and_trains_a_shrunken_copy(name: str) -> None:
    config = shrink(load_config(str(ROOT / name)))
    model = MODELS.build(config.model)
    model.init_weights()
    size = tuple(config.model.data_preprocessor.size)
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(2)]
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size, dtype=torch.uint8))) for _ in inputs
    ]
    optim_wrapper = build_optim_wrapper(model.train(), config.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    logs = model.train_step(dict(inputs=inputs, data_samples=samples), optim_wrapper)
    assert torch.isfinite(logs['loss'])
    # Biases that a norm follows get no gradient, so they may stay.
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed >= {name for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}
    assert not changed & {name for name, p in model.named_parameters() if not p.requires_grad}


@pytest.mark.parametrize('name', CONFIGS)
def test_parts_build_and_fit_each_other(name: str) -> None:
    config = load_config(str(ROOT / name))
    for pipeline in ('train_pipeline', 'test_pipeline', 'tta_pipeline'):
        for transform in config[pipeline]:
            TRANSFORMS.build(transform)
    METRICS.build(config.val_evaluator)
    heads = [config.model.decode_head, *(config.model.get('auxiliary_heads') or [])]
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in innermost_datasets(config[loader].dataset):
            classes = DATASETS.build(dict(dataset, lazy_init=True)).metainfo['classes']
            assert [head.num_classes for head in heads] == [len(classes)] * len(heads)
    crop = next(t for t in config.train_pipeline if t['type'] == 'RandomCrop').crop_size
    assert tuple(config.model.data_preprocessor.size) == tuple(crop)
    # An odd grid would be rounded up at the coarsest level; the recipe's test pads to the patch alone. The
    # grids of UniMatch V2 over DINOv2 are odd.
    padding = (config.model.data_preprocessor.get('test_cfg') or {}).get('size_divisor', 0)
    multiple = stride(config) * (1 if 'dinov2' in name else 2)
    assert not any(side % multiple for side in (*crop, padding))


@pytest.mark.parametrize(
    ('name', 'taps', 'channels', 'tokens', 'parameters'),
    [
        ('dpt_vit-l16', (5, 11, 17, 23), (256, 512, 1024, 1024), 1024, 342_777_644),
        ('dpt_hybrid', (8, 11), (256, 512, 768, 768), 768, 122_125_676),
    ],
)
def test_the_original_s_models_are_stated_as_built_there(
    name: str, taps: tuple, channels: tuple, tokens: int, parameters: int
) -> None:
    model = load_config(str(ROOT / f'{name}_512x512_160k_ade20k.py')).model
    assert list(model.data_preprocessor.mean) == list(model.data_preprocessor.std) == [127.5] * 3
    assert model.data_preprocessor.test_cfg.size_divisor == 32
    assert (model.backbone.img_size, model.backbone.norm_eps) == (384, 1e-6)
    assert (model.backbone.embed_dims, tuple(model.backbone.out_indices)) == (tokens, taps)
    assert model.backbone.interpolate_mode == 'bilinear'
    assert tuple(model.neck.post_process_channels) == channels
    assert (model.decode_head.upsample_factor, model.decode_head.channel_dropout) == (2, False)
    (auxiliary,) = model.auxiliary_heads
    assert (auxiliary.type, auxiliary.channel_dropout) == ('FCNHead', False)
    assert model.auxiliary_loss.loss_weight == 0.2
    # The originals' parameters without final norm, pretraining classifier and the unit that is never called.
    with torch.device('meta'):
        built = MODELS.build(model)
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters


@pytest.mark.parametrize(
    ('letter', 'millions', 'channels'),
    [('s', 24.8, (48, 96, 192, 384)), ('b', 97.5, (96, 192, 384, 768)), ('l', 335.6, (256, 512, 1024, 1024))],
)
def test_dinov2_configs_have_the_published_sizes(letter: str, millions: float, channels: tuple) -> None:
    """Parameters as in the training logs of UniMatch V2, rounded there to 0.1 million."""
    config = load_config(str(ROOT / f'dpt_dinov2-{letter}14_518x518_152k_ade20k.py'))
    assert tuple(config.model.neck.post_process_channels) == channels
    with torch.device('meta'):
        model = MODELS.build(config.model)
    # There are also a mask token, biases in 7 residual units, and an eighth unit that is never called.
    width, dims = config.model.neck.channels, model.backbone.channels[0]
    count = sum(parameter.numel() for parameter in model.parameters())
    count += dims + 7 * 2 * width + 2 * (9 * width * width + width)
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ('data', 'iterations'), [('518x518_152k_ade20k', 151560), ('798x798_67k_cityscapes', 67320)]
)
def test_dinov2_configs_have_the_published_rates(data: str, iterations: int) -> None:
    config = shrink(load_config(str(ROOT / f'dpt_dinov2-s14_{data}.py')))
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert {rates[id(p)] for p in model.backbone.parameters()} == {5e-6}
    assert {rates[id(p)] for p in [*model.neck.parameters(), *model.decode_head.parameters()]} == {2e-4}
    assert {group['weight_decay'] for group in wrapper.optimizer.param_groups} == {0.01}
    (schedule,) = config.param_scheduler
    assert (schedule.type, schedule.power, schedule.end) == ('PolyLR', 0.9, iterations)
    assert (config.train_cfg.max_iters, config.total_batch_size) == (iterations, 16)
    loss = dict(config.model.loss)
    if 'cityscapes' in data:
        assert loss == dict(type='OhemCrossEntropy', thres=0.7, min_kept=200000)
    else:
        assert loss == dict(type='CrossEntropyLoss', avg_non_ignore=True)
    steps = [step.type for step in config.train_pipeline]
    assert steps[2:] == ['RandomResizeByRatio', 'RandomCrop', 'RandomFlip', 'PackSegInputs']


def test_the_recipe_s_model_has_its_size() -> None:
    model = MODELS.build(load_config(str(ROOT / RECIPE)).model)
    # 109,704,278 without the patch projection's bias, as MMSegmentation 1.x builds it, and 768 with it.
    assert sum(parameter.numel() for parameter in model.parameters()) == 109_704_278 + 768
    assert len(model.state_dict()) == 274


def test_the_recipe_s_schedule() -> None:
    config = load_config(str(ROOT / RECIPE))
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=config.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s), default_args=dict(optimizer=optimizer))
        for s in config.param_scheduler
    ]
    rates = []
    for _ in range(3000):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(6e-11)
    # Linear from 1e-6 of the rate at the first iteration to all of it at the 1,500th.
    assert rates[750] == pytest.approx(6e-5 * (1e-6 + (1 - 1e-6) * 750 / 1499), rel=1e-9)
    assert rates[1499] == pytest.approx(6e-5, rel=1e-6)
    # Then linear to zero at the 160,000th.
    assert rates[2500] == pytest.approx(6e-5 * (1 - (2500 - 1500) / (160000 - 1 - 1500)), rel=1e-4)


def test_the_recipe_s_numbers() -> None:
    config = load_config(str(ROOT / RECIPE))
    assert config.total_batch_size == 16
    assert (config.train_cfg.max_iters, config.train_cfg.val_interval) == (160000, 16000)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, tuple(optimizer.betas)) == ('AdamW', 6e-5, (0.9, 0.999))
    assert optimizer.weight_decay == 0.01
    assert config.model.loss.avg_non_ignore is False
    assert config.model.auxiliary_heads is None
    assert tuple(config.model.backbone.out_indices) == (2, 5, 8, 11)
    assert tuple(config.model.neck.post_process_channels) == (96, 192, 384, 768)
    resize, crop = config.train_pipeline[2], config.train_pipeline[3]
    assert (tuple(resize.scale), tuple(resize.ratio_range)) == ((2048, 512), (0.5, 2.0))
    assert (tuple(crop.crop_size), crop.cat_max_ratio) == ((512, 512), 0.75)
    scales = [tuple(t.scale) for t in config.tta_pipeline[1].transforms[0]]
    assert scales == [(int(2048 * r), int(512 * r)) for r in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)]
    for loader in ('train_dataloader', 'val_dataloader'):
        assert config[loader].dataset.type == 'ADE20KDataset'


def decay_of_each_parameter(name: str, *exempt: str) -> tuple[dict[str, float], torch.nn.Module]:
    config = shrink(load_config(str(ROOT / name)))
    for key in exempt:
        config.optim_wrapper.paramwise_cfg.custom_keys[key] = dict(decay_mult=0.0)
    model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    assert len(decay) == len(names)
    return decay, model


def test_the_improved_recipe_decays_weights_of_layers_alone() -> None:
    decay, model = decay_of_each_parameter(IMPROVED)
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    weights = {f'{name}.weight' for name, module in model.named_modules() if isinstance(module, layers)}
    weights |= {name for name, _ in model.named_parameters() if name.endswith('in_proj_weight')}
    assert {name for name, value in decay.items() if value} == weights
    assert set(decay.values()) == {0.0, 0.01}


def test_the_recipe_decays_all_but_position_embedding_and_class_token() -> None:
    decay, _ = decay_of_each_parameter(RECIPE)
    assert decay_of_each_parameter(RECIPE, 'norm')[0] == decay, "the reference's key 'norm' matches nothing"
    assert decay_of_each_parameter(RECIPE, 'ln', 'bn')[0] != decay
    assert {name for name, value in decay.items() if value == 0} == {
        'backbone.pos_embed',
        'backbone.cls_token',
    }
    assert set(decay.values()) == {0.0, 0.01}
