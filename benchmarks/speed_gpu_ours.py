"""Our side of ``speed_gpu.py``."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import speed_ours
import torch
from dpt.engine.exit import ends_for_sure
from mmengine.config import Config
from mmengine.registry import init_default_scope
from speed_common import Side, only_train
from speed_gpu_common import AMP, Settings, main, shrunk, train

from dpt.config.testing import use_test_time_augmentation
from dpt.engine import build_runner
from dpt.extras.profiling import matrix_rate, training_flops, workloads
from dpt.extras.profiling.timing import Timing, time_step
from dpt.registry import DATASETS, MODELS

SIDE = Side(MODELS, DATASETS, speed_ours.config, speed_ours.sample, build_runner)
LOG_INTERVAL = 20
"""Twice what a line averages over: the first iterations after a line wait for what it reads of the GPU."""


def config(settings: Settings) -> Config:
    loaded = speed_ours.config()
    shrunk(loaded._cfg_dict, settings)
    return loaded


def training(settings: Settings, change: Callable = lambda model: None) -> dict:
    loaded = config(settings)
    loaded.optim_wrapper.update(AMP)
    result = train(SIDE, loaded, settings, pin=True, change=change)
    shape = (settings.batch_size, 3, settings.size, settings.size)
    rate = matrix_rate(torch.device(settings.device), torch.bfloat16)
    return dict(result, flops=training_flops(loaded.model, shape), matrix_rate=rate)


def compiled(settings: Settings) -> Callable:
    # torch 2.13's compiler writes C++ for bf16 that no compiler takes: a smoke run does without it.
    backend = 'inductor' if settings.device == 'cuda' else 'aot_eager'
    return lambda model: model.compile_losses(backend=backend)


def predicting(settings: Settings, batch_size: int) -> Timing:
    loaded, device = config(settings), torch.device(settings.device)
    model, size = workloads.build_model(loaded, device), (settings.size, settings.size)
    work = workloads.inference(loaded, model, size, batch_size, torch.bfloat16)
    return time_step(work.step, device, warmup=settings.warmup, iters=settings.iterations)


def evaluation(settings: Settings, *, views: bool = False, amp: bool = False) -> dict:
    """Measure a test from files, the start of the loader's processes and the table of scores included."""
    loaded = config(settings)
    loaded.test_dataloader.dataset.data_root = settings.data
    loaded.test_dataloader.num_workers = settings.workers
    loaded.test_cfg.fp16 = amp
    loaded.total_batch_size = None
    if views:
        use_test_time_augmentation(loaded)
    with tempfile.TemporaryDirectory(dir=settings.data) as work_dir:
        loaded.work_dir, loaded.log_level = work_dir, 'ERROR'
        runner = build_runner(loaded)
        began = time.perf_counter()
        runner.test()
        return dict(seconds=time.perf_counter() - began)


def data(settings: Settings) -> dict:
    """Measure the share of time that a training waits for its data, by the figure that it logs itself."""
    loaded = config(settings)
    loaded.optim_wrapper.update(AMP)
    loader = loaded.train_dataloader
    loader.update(num_workers=settings.workers, batch_size=settings.batch_size)
    loader.dataset.data_root = settings.data
    interval = loaded.default_hooks.logger.interval = min(LOG_INTERVAL, 2 * settings.iterations)
    loaded.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, save_last=False)
    loaded.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    with tempfile.TemporaryDirectory(dir=settings.data) as work_dir:
        only_train(loaded, work_dir, interval + 6 * settings.iterations)
        build_runner(loaded).train()
        (log,) = Path(work_dir).rglob('scalars.json')
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [line for line in lines if 'data_wait' in line][1:]  # the first is of the start
    return {key: sum(line[key] for line in lines) / len(lines) for key in ('data_wait', 'images_per_s')}


if __name__ == '__main__':
    init_default_scope('dpt')
    measurements = {
        'train': training,
        'train-compiled': lambda s: training(s, compiled(s)),
        'infer': lambda s: dict(seconds=predicting(s, s.batch_size).seconds),
        'latency': lambda s: dict(seconds=predicting(s, 1).median),
        'evaluate': evaluation,
        'evaluate-amp': lambda s: evaluation(s, amp=True),
        'evaluate-views': lambda s: evaluation(s, views=True),
        'evaluate-views-amp': lambda s: evaluation(s, views=True, amp=True),
        'data': data,
    }
    with ends_for_sure():  # the workers of a training's loader listen to no signal
        main(measurements)
