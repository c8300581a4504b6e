"""Every config that trains depth builds, trains when shrunken, and states the published recipe."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.registry import MODELS
from dpt.structures import SegDataSample

ROOT = Path(__file__).resolve().parent.parent / 'configs'
PARSED = {path.name: Config.fromfile(str(path)) for path in sorted(ROOT.glob('*.py'))}
CONFIGS = [
    name
    for name, config in PARSED.items()
    if config.model.type == 'DepthEstimator' and config.get('train_dataloader')
]
NYU, KITTI = 'dpt_depth_vit-b16_416x544_36k_nyu.py', 'dpt_depth_vit-b16_352x704_35k_kitti.py'
FROZEN = 'dpt_depth_dinov2-b14_416x544_38k_nyu_frozen.py'
METRIC, OWN = 'depth_anything_v2_s_518x518_91k_nyu.py', 'depth_anything_v2_s_518x518_own_metric.py'
RELATIVE = 'depth_anything_v2_s_518x518_own_relative.py'


def shrunken(name: str) -> Config:
    config = load_config(str(ROOT / name))
    model, heads = config.model, 2
    if model.backbone.type == 'TimmBackbone':
        model.backbone.update(model_args=dict(embed_dim=16 * heads, num_heads=heads), init_cfg=None)
    else:
        model.backbone.update(embed_dims=16 * heads, num_heads=heads, init_cfg=None)
    model.neck.update(in_channels=16 * heads, channels=8, post_process_channels=(4, 8, 8, 8))
    model.decode_head.update(in_channels=8)
    return config


@pytest.mark.parametrize('name', CONFIGS)
def test_config_passes_the_checks_but_for_weights_and_data(name: str) -> None:
    config = load_config(str(ROOT / name))
    config.load_from = config.model.backbone.init_cfg = None
    for task in ('train', 'test'):
        check_config(config, task)


@pytest.mark.parametrize('name', CONFIGS)
def test_config_trains_a_shrunken_copy(name: str) -> None:
    torch.manual_seed(0)
    config = shrunken(name)
    model = MODELS.build(config.model)
    model.init_weights()
    side = 56 if '14' in str(config.model.backbone) else 64
    inputs = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    samples = [
        SegDataSample(gt_depth_map=PixelData(data=torch.rand(1, side, side) * 5 + 0.5)) for _ in inputs
    ]
    wrapper = build_optim_wrapper(model.train(), config.optim_wrapper)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    logs = model.train_step(dict(inputs=inputs, data_samples=samples), wrapper)
    assert torch.isfinite(logs['loss'])
    changed = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert any(key.startswith('decode_head') for key in changed)
    frozen = 'frozen' in name
    assert any(key.startswith('backbone') for key in changed) != frozen


def schedule(config: Config, steps: dict[int, str]) -> dict[int, tuple[float, float]]:
    """Rate and momentum of a part at some iterations."""
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    names = {id(p): key for key, p in model.named_parameters()}
    schedulers = [
        PARAM_SCHEDULERS.build(dict(one), default_args=dict(optimizer=wrapper))
        for one in config.param_scheduler
    ]
    found = {}
    for step in range(max(steps) + 1):
        if step in steps:
            group = next(
                group
                for group in wrapper.optimizer.param_groups
                if any(names[id(p)].startswith(steps[step]) for p in group['params'])
            )
            found[step] = (group['lr'], group['betas'][0])
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ('name', 'expected'),
    [(NYU, False), (KITTI, False), (FROZEN, False), (METRIC, True), ('depth_anything_v1_l.py', False)],
)
def test_predictions_are_resized_as_in_the_source(name: str, expected: bool) -> None:
    assert PARSED[name].model.get('align_corners', True) is expected


@pytest.mark.parametrize(('name', 'total'), [(NYU, 36360), (KITTI, 34752)])
def test_toolbox_cycle_is_as_logged(name: str, total: int) -> None:
    config = shrunken(name)
    assert (config.train_cfg.max_iters, config.total_batch_size) == (total, 16)
    assert total == 24 * -(-{NYU: 24231, KITTI: 23158}[name] // 16)
    peak = round(0.3 * total)
    head = 'decode_head.conv1'
    # As published, the backbone has the same rate.
    found = schedule(config, {0: head, 49: head, peak - 1: head, total - 1: 'backbone.layers.0'})
    rates = [rate for rate, _ in found.values()]
    assert rates == pytest.approx([4e-6, 4.005e-6, 1e-4, 4e-8], rel=1e-3)
    momenta = [momentum for _, momentum in found.values()]
    assert momenta == pytest.approx([0.95, 0.95, 0.85, 0.95], abs=1e-4)
    assert config.optim_wrapper.clip_grad.max_norm == 35


def test_toolbox_pipelines_are_as_published() -> None:
    for name, crop, size, brightness, cap in (
        (NYU, 'NYUCrop', (416, 544), (0.75, 1.25), 10),
        (KITTI, 'KBCrop', (352, 704), (0.9, 1.1), 80),
    ):
        config = load_config(str(ROOT / name))
        _, _, fixed, rotate, flip, window, colours, _ = config.train_pipeline
        assert fixed.type == crop
        assert (rotate.prob, rotate.degree, flip.prob, colours.prob) == (0.5, 2.5, 0.5, 0.5)
        assert tuple(window.crop_size) == size
        assert tuple(colours.brightness_range) == brightness
        assert tuple(colours.gamma_range) == tuple(colours.color_range) == (0.9, 1.1)
        metric = config.val_evaluator
        assert (metric.min_depth_eval, metric.max_depth_eval, metric.depth_clamp) == (1e-3, cap, True)


def test_frozen_schedule_is_as_published() -> None:
    found = schedule(shrunken(FROZEN), dict.fromkeys((0, 6400, 12799, 38399), 'decode_head.conv1'))
    cosine = [0.5 * (1 + torch.tensor(step / 38400 * torch.pi).cos().item()) for step in found]
    warm_up = [1e-3, 1e-3 + 0.999 * 6400 / 12799, 1.0, 1.0]
    expected = [1e-4 * a * b for a, b in zip(cosine, warm_up, strict=True)]
    assert [rate for rate, _ in found.values()] == pytest.approx(expected, rel=1e-3, abs=1e-11)


@pytest.mark.parametrize('name', [METRIC, OWN, RELATIVE])
def test_depth_anything_rates_are_as_published(name: str) -> None:
    config = shrunken(name)
    encoder = schedule(config, {0: 'backbone.layers.0'})[0][0]
    assert (encoder, schedule(config, {0: 'decode_head.conv1'})[0][0]) == pytest.approx((5e-6, 5e-5))
    (poly,) = config.param_scheduler
    assert (poly.type, poly.power, poly.end) == ('PolyLR', 0.9, config.train_cfg.max_iters)
    steps = [step.type for step in config.train_pipeline]
    assert steps[2:] == ['ResizeToBound', 'RandomCrop', 'RandomFlip', 'PackSegInputs']
    if name == METRIC:
        assert (config.total_batch_size, config.train_cfg.max_iters) == (32, 120 * (24231 // 32))
        assert config.model.loss == dict(type='SiLogLoss', variance_focus=0.5, per_image=False)
        assert config.model.decode_head.output == 'sigmoid'
