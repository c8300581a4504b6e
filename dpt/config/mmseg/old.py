"""Rewrite configs of MMSegmentation 0.x as configs of 1.x, where each key has one equivalent there.

The two differ in how data, schedule and hooks are written. A value without an equivalent raises an error that
names its key.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from dpt.config.mmseg.keys import Keys, plain

OLD_KEYS = ('lr_config', 'runner', 'optimizer_config', 'checkpoint_config', 'evaluation', 'total_iters')
_UNUSED = ('dist_params', 'gpu_ids', 'auto_resume', 'find_unused_parameters', 'device', 'auto_scale_lr')
"""Keys of 0.x that configure its launcher."""
_HELPERS = ('optimizer', 'data', 'log_config', 'seed', 'cudnn_benchmark', 'workflow', 'resume_from', 'fp16')
OLD_NAMES = (*OLD_KEYS, *_UNUSED, *_HELPERS)
"""Keys of 0.x that are read here, and then removed."""


def rewrite_old_config(config: Config) -> list[str]:
    """Rewrite a merged config of MMSegmentation 0.x in place.

    Args:
        config: The config.

    Returns:
        A line for each change that is more than another way to write the same.

    Raises:
        ValueError: If a value has no equivalent; the message begins with its key.
    """
    lines = ['config of MMSegmentation 0.x: data, schedule and hooks are rewritten as in 1.x']
    by_epoch, length = _loop(config)
    interval = _evaluation(config, by_epoch)
    kind = 'Epoch' if by_epoch else 'Iter'
    config.train_cfg = dict(type=f'{kind}BasedTrainLoop', val_interval=interval)
    config.train_cfg['max_epochs' if by_epoch else 'max_iters'] = length
    config.val_cfg, config.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    config.param_scheduler = _schedule(config.get('lr_config'), by_epoch, length)
    config.optim_wrapper = _optimizer(config)
    _data(config, by_epoch, lines)
    _hooks(config, by_epoch, lines)
    _runtime(config, lines)
    for key in OLD_NAMES:
        config.pop(key, None)
    config.default_scope = 'mmseg'
    return lines


def _loop(config: Config) -> tuple[bool, int]:
    if 'total_iters' in config:
        return False, config.total_iters
    runner = Keys(config.get('runner') or {}, 'runner', [])
    kind = runner.expect('type', 'IterBasedRunner', 'EpochBasedRunner')
    by_epoch = kind == 'EpochBasedRunner'
    length = runner.take('max_epochs' if by_epoch else 'max_iters')
    runner.close()
    return by_epoch, length


def _evaluation(config: Config, by_epoch: bool) -> int:
    keys = Keys(config.get('evaluation') or {}, 'evaluation', [])
    interval = keys.take('interval', 1 if by_epoch else 16000)
    metrics = keys.take('metric', 'mIoU')
    keys.take('pre_eval', None)
    keys.take('by_epoch', None)
    keys.take('efficient_test', None)
    best = keys.take('save_best', None)
    keys.close()
    evaluator = dict(type='IoUMetric', iou_metrics=[metrics] if isinstance(metrics, str) else metrics)
    config.val_evaluator, config.test_evaluator = evaluator, dict(evaluator)
    if best is not None:
        config.setdefault('checkpoint_config', {})['save_best'] = best
    return interval


def _schedule(given: Mapping | None, by_epoch: bool, length: int) -> list[dict]:
    """Return the schedules; the warm-up multiplies the other schedule, as in 0.x."""
    keys = Keys(given or dict(policy='fixed'), 'lr_config', [])
    policy = keys.take('policy')
    schedules = []
    warmup = keys.expect('warmup', None, 'linear')
    ratio, steps = keys.take('warmup_ratio', 0.1), keys.take('warmup_iters', 0)
    keys.expect('warmup_by_epoch', False)
    if warmup:
        # mmengine counts the steps between rates: with one more, the rates are those of 0.x.
        schedules.append(dict(type='LinearLR', start_factor=ratio, by_epoch=False, begin=0, end=steps + 1))
    keys.take('by_epoch', None)  # whether the rate changes each iteration or each epoch
    over = dict(begin=0, end=length + (not by_epoch), by_epoch=by_epoch)
    if by_epoch:
        over['convert_to_iter_based'] = True
    if policy == 'poly':
        power, least = keys.take('power', 1.0), keys.take('min_lr', 0.0)
        schedules.append(dict(type='PolyLR', power=power, eta_min=least, **over))
    elif policy == 'CosineAnnealing':
        least = {name: keys.take(key) for key, name in _LEAST.items() if key in keys.left}
        schedules.append(dict(type='CosineAnnealingLR', **(least or dict(eta_min=0.0)), T_max=length, **over))
    elif policy == 'step':
        step, gamma = keys.take('step'), keys.take('gamma', 0.1)
        if not isinstance(step, list):
            raise ValueError(f'lr_config.step={step!r} cannot be translated: expected a list of steps')
        schedules.append(dict(type='MultiStepLR', milestones=step, gamma=gamma, by_epoch=by_epoch))
    elif policy != 'fixed':
        raise ValueError(
            f'lr_config.policy={policy!r} cannot be translated: expected poly, CosineAnnealing, step or fixed'
        )
    keys.close()
    return schedules


_LEAST = {'min_lr': 'eta_min', 'min_lr_ratio': 'eta_min_ratio'}


def _optimizer(config: Config) -> dict:
    optimizer = plain(config.get('optimizer'))
    if not optimizer:
        raise ValueError('optimizer is missing')
    keys = Keys(config.get('optimizer_config') or {}, 'optimizer_config', [])
    kind = keys.expect('type', None, 'Fp16OptimizerHook', 'OptimizerHook', 'GradientCumulativeOptimizerHook')
    wrapper: dict[str, Any] = dict(type='OptimWrapper')
    scale = keys.take('loss_scale', (config.get('fp16') or {}).get('loss_scale'))
    if kind == 'Fp16OptimizerHook' or config.get('fp16'):
        wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic' if scale is None else scale)
    clip, every = keys.take('grad_clip', None), keys.take('cumulative_iters', None)
    keys.take('distributed', None)
    keys.close()
    for name in ('paramwise_cfg', 'constructor'):
        if name in optimizer:
            wrapper[name] = optimizer.pop(name)
    wrapper |= dict(optimizer=optimizer)
    if clip:
        wrapper['clip_grad'] = clip
    if every:
        wrapper['accumulative_counts'] = every
    return wrapper


def _data(config: Config, by_epoch: bool, lines: list[str]) -> None:
    keys = Keys(config.get('data') or {}, 'data', lines)
    batch, workers = keys.take('samples_per_gpu', 1), keys.take('workers_per_gpu', 2)
    keys.take('persistent_workers', None)
    given = {mode: keys.take(mode) for mode in ('train', 'val', 'test')}
    for mode in given:
        own = keys.take(f'{mode}_dataloader', None) or {}
        if unknown := sorted(own.keys() - {'samples_per_gpu', 'workers_per_gpu'}):
            raise ValueError(f'data.{mode}_dataloader.{unknown[0]} cannot be translated')
        size = own.get('samples_per_gpu', batch if mode == 'train' else 1)
        number = own.get('workers_per_gpu', workers)
        training = mode == 'train'
        sampler = dict(type='DefaultSampler' if by_epoch or not training else 'InfiniteSampler')
        pixels: dict[str, Any] = {}
        config[f'{mode}_dataloader'] = dict(
            batch_size=size,
            num_workers=number,
            persistent_workers=number > 0,
            sampler=dict(sampler, shuffle=training),
            dataset=_dataset(given[mode], f'data.{mode}', pixels, lines),
        )
        _preprocess(config, f'data.{mode}', pixels, training)
    keys.close()


def _preprocess(config: Config, path: str, pixels: dict[str, Any], training: bool) -> None:
    """Set ``model.data_preprocessor`` from ``Normalize`` and ``Pad``, which all pipelines must share."""
    padding = {key: pixels.pop(key) for key in ('size', 'size_divisor') if key in pixels}
    before = config.model.get('data_preprocessor')
    if before is None:
        before = config.model.data_preprocessor = ConfigDict(type='SegDataPreProcessor', **pixels)
    for key in ('mean', 'std', 'bgr_to_rgb'):
        if plain(before.get(key)) != plain(pixels.get(key)):
            raise ValueError(f'{path}.pipeline: its Normalize differs from that of training')
    if training:
        before.update(padding)
    elif padding:
        before.test_cfg = padding


def _dataset(given: Any, path: str, pixels: dict[str, Any], lines: list[str]) -> dict:
    if isinstance(given, list):
        raise ValueError(f'{path}: a list of data sets cannot be translated: use ConcatDataset of 1.x')
    if (given or {}).get('type') == 'RepeatDataset':
        return dict(given, dataset=_dataset(given['dataset'], f'{path}.dataset', pixels, lines))
    keys = Keys(given, path, lines)
    kind = keys.take('type')
    dataset: dict[str, Any] = dict(type='BaseSegDataset' if kind == 'CustomDataset' else kind)
    folders = {
        name: keys.take(key, None) for key, name in (('img_dir', 'img_path'), ('ann_dir', 'seg_map_path'))
    }
    names = {name: keys.take(name) for name in ('classes', 'palette') if name in keys.left}
    split = keys.take('split', None)
    for key, value in (*folders.items(), ('split', split)):
        if isinstance(value, list) and len(value) > 1:
            raise ValueError(f'{path}.{key}={value!r}: several folders or splits cannot be translated')
    dataset['data_prefix'] = {key: _only(value) for key, value in folders.items() if value is not None}
    if split is not None:
        dataset['ann_file'] = _only(split)
    if names:
        dataset['metainfo'] = names
    keys.take('gt_seg_map_loader_cfg', None)
    if keys.left.get('test_mode') is not None:
        keys.take('test_mode')
    pipeline = keys.take('pipeline')
    steps = _pipeline(pipeline, f'{path}.pipeline', pixels, dataset)
    if dict(type='LoadAnnotations') not in [dict(type=step['type']) for step in steps]:
        # 0.x loads the labels of validation and test apart from the pipeline.
        steps.insert(-1, dict(type='LoadAnnotations'))
    dataset['pipeline'] = steps
    return {**dataset, **{key: keys.take(key) for key in [*keys.left]}}


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _pipeline(steps: list[dict], path: str, pixels: dict[str, Any], dataset: dict[str, Any]) -> list[dict]:
    """Return the transforms of 1.x; normalisation and padding go to ``pixels``."""
    made: list[dict] = []
    for number, step in enumerate(steps):
        keys = Keys(step, f'{path}.{number}', [])
        kind = keys.take('type')
        if kind == 'MultiScaleFlipAug':
            keys.expect('flip', False, why='; test-time augmentation is tools/test.py --aug-test')
            keys.expect('img_ratios', None, [1.0], why='; test-time augmentation is tools/test.py --aug-test')
            scale = keys.take('img_scale')
            inner = [dict(one) for one in keys.take('transforms')]
            for one in inner:
                if one['type'] == 'Resize':
                    one['img_scale'] = scale
            made += _pipeline(inner, f'{path}.{number}.transforms', pixels, dataset)
        elif kind == 'Normalize':
            mean, std = keys.take('mean'), keys.take('std')
            pixels |= dict(mean=mean, std=std, bgr_to_rgb=keys.take('to_rgb', True))
        elif kind == 'Pad':
            pixels |= {key: keys.take(key) for key in [*keys.left]}
        elif kind == 'Resize':
            made.append(_resize(keys))
        elif kind == 'LoadAnnotations':
            if keys.take('reduce_zero_label', False):
                dataset['reduce_zero_label'] = True
            made.append(dict(type=kind, **{key: keys.take(key) for key in [*keys.left]}))
        elif kind in ('DefaultFormatBundle', 'ImageToTensor', 'Collect'):
            continue
        elif kind == 'RandomFlip' and not keys.left:
            continue  # of MultiScaleFlipAug without flip
        else:
            made.append(dict(type=kind, **{key: keys.take(key) for key in [*keys.left]}))
        keys.close()
    return [*made, dict(type='PackSegInputs')] if steps[-1].get('type') == 'Collect' else made


def _resize(keys: Keys) -> dict:
    scale, ratios = keys.take('img_scale', None), keys.take('ratio_range', None)
    keep = keys.take('keep_ratio', True)
    keys.expect('multiscale_mode', 'range')
    if scale is None or (isinstance(scale[0], list) and len(scale) > 1):
        raise ValueError(f'{keys.path}.img_scale={scale!r} cannot be translated: expected one scale')
    scale = tuple(scale[0] if isinstance(scale[0], list) else scale)
    if ratios is None:
        return dict(type='Resize', scale=scale, keep_ratio=keep)
    return dict(type='RandomResize', scale=scale, ratio_range=tuple(ratios), keep_ratio=keep)


def _hooks(config: Config, by_epoch: bool, lines: list[str]) -> None:
    saving = dict(plain(config.get('checkpoint_config') or {}))
    every = saving.pop('interval', 1)
    saving.pop('meta', None)
    saving.pop('by_epoch', None)
    if unknown := sorted(saving.keys() - {'max_keep_ckpts', 'save_best', 'save_optimizer', 'save_last'}):
        lines.append(f'checkpoint_config.{unknown[0]}: dropped, CheckpointHook does not have this argument')
        saving = {key: value for key, value in saving.items() if key not in unknown}
    log = plain(config.get('log_config') or {})
    config.default_hooks = dict(
        checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=every, **saving),
        logger=dict(type='LoggerHook', interval=log.get('interval', 10), log_metric_by_epoch=False),
    )
    for number, hook in enumerate(log.get('hooks') or []):
        if hook.get('type') != 'TextLoggerHook':
            lines.append(
                f'log_config.hooks.{number}={hook.get("type")}: dropped, set visualizer.vis_backends instead'
            )


def _runtime(config: Config, lines: list[str]) -> None:
    if config.get('workflow') and plain(config.workflow) != [['train', 1]]:
        raise ValueError(f"workflow={plain(config.workflow)!r} cannot be translated: expected [('train', 1)]")
    if config.get('resume_from'):
        lines.append('resume_from: dropped, set load_from or use --resume with a checkpoint of dpt')
    if config.get('seed') is not None:
        config.randomness = dict(seed=config.seed)
    if config.get('cudnn_benchmark') is not None:
        config.env_cfg = dict(cudnn_benchmark=config.cudnn_benchmark)
