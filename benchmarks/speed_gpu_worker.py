"""Run one measurement of ``speed_gpu.py`` in the environment of the measured framework."""

import dataclasses
import functools
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from speed_worker import DPTSide, MMSegSide, Side, measure, only_train
from torch.utils.data._utils.pin_memory import pin_memory

RECIPE_SIZE = 512
AMP = dict(type='AmpOptimWrapper', dtype='bfloat16')
MIB = 1 << 20
LOG_INTERVAL = 20
"""Twice the window of a log line, because reading values from the GPU delays the next iterations."""


@dataclass(frozen=True)
class Settings:
    """Sizes and counts of all measurements; the limits apply to the defaults."""

    device: str = 'cuda'
    batch_size: int = 16
    size: int = RECIPE_SIZE
    images: int = 2000
    iterations: int = 50
    warmup: int = 10
    workers: int = 16
    data: str = ''

    def as_json(self) -> str:
        """Return the settings for the command line of a worker."""
        return json.dumps(dataclasses.asdict(self))


def shrunk(part: object, settings: Settings) -> None:
    """Scale all sizes in a config in place by ``settings.size / 512``, which is 1 except in a smoke run."""
    if isinstance(part, dict):
        for key in {'scale', 'crop_size', 'size', 'test_scale'} & set(part):
            if isinstance(part[key], (list, tuple)):
                part[key] = tuple(int(length * settings.size / RECIPE_SIZE) for length in part[key])
    if isinstance(part, (dict, list, tuple)):
        for value in part.values() if isinstance(part, dict) else part:
            shrunk(value, settings)


def train(
    side: Side, loaded: Config, settings: Settings, *, pin: bool, change: Callable = lambda model: None
) -> dict:
    """Measure training steps, from uint8 images on the host to updated weights.

    Args:
        side: The framework.
        loaded: Its config.
        settings: Number and size of the images, number of steps.
        pin: Whether the batch is in pinned memory, as from a loader with ``pin_memory=True``.
        change: Called with the model before the first step.

    Returns:
        ``seconds`` per step, and ``added_mib``, the added peak memory per image.
    """
    model = side.build(loaded).to(settings.device).train()
    wrapper = build_optim_wrapper(model, loaded.optim_wrapper)
    change(model)
    data = side.batch((settings.size, settings.size), settings.batch_size)
    if pin and settings.device == 'cuda':
        data = pin_memory(data)

    def step() -> None:
        model.train_step(data, wrapper)

    for _ in range(settings.warmup):
        step()
    added = added_mib(step, settings)
    return dict(seconds=busy_seconds(step, settings), added_mib=added / settings.batch_size)


def added_mib(step: Callable[[], object], settings: Settings) -> float:
    """Return the peak memory of a step relative to that before it, in MiB."""
    if settings.device == 'cpu':
        return measure(step, warmup=0, repeats=1)['added_mib']
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def busy_seconds(step: Callable[[], object], settings: Settings) -> float:
    """Return the mean time of consecutive steps on the device, in seconds."""
    if settings.device == 'cpu':
        start = time.perf_counter()
        for _ in range(settings.iterations):
            step()
        return (time.perf_counter() - start) / settings.iterations
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    for _ in range(settings.iterations):
        step()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3 / settings.iterations


def config(settings: Settings, side: Side) -> Config:
    """Return the config of the side, with all sizes scaled in a smoke run."""
    loaded = side.config()
    shrunk(loaded._cfg_dict, settings)
    return loaded


def training(settings: Settings, side: Side, change: Callable = lambda model: None) -> dict:
    """Measure dpt's training in bf16, its FLOPs and the matrix multiplication rate of the device."""
    from dpt.extras.profiling import matrix_rate, training_flops

    loaded = config(settings, side)
    loaded.optim_wrapper.update(AMP)
    result = train(side, loaded, settings, pin=True, change=change)
    shape = (settings.batch_size, 3, settings.size, settings.size)
    rate = matrix_rate(torch.device(settings.device), torch.bfloat16)
    return dict(result, flops=training_flops(loaded.model, shape), matrix_rate=rate)


def compiled_training(settings: Settings, side: Side, **options: object) -> dict:
    """Measure dpt's training with compiled losses."""
    # On a CPU, the C++ code that inductor of torch 2.13 generates for bf16 does not compile.
    options = options if settings.device == 'cuda' else dict(backend='eager')
    return training(settings, side, change=lambda model: model.compile_losses(**options))


def of_two(measure: Callable[[Settings, Side], dict]) -> Callable[[Settings, Side], dict]:
    """Return the measurement with two images a batch."""
    return lambda settings, side: measure(dataclasses.replace(settings, batch_size=2), side)


def loss(settings: Settings, side: Side, kernel: str) -> dict:
    """Measure forward and backward pass of the cross-entropy of 150 classes, and compare with float64."""
    from dpt.models.losses import CrossEntropyLoss

    size, generator = settings.size, torch.Generator().manual_seed(0)
    logits = torch.randn(settings.batch_size, 150, size // 2, size // 2, generator=generator)
    target = torch.randint(0, 150, (settings.batch_size, size, size), generator=generator)
    criterion = CrossEntropyLoss(kernel=kernel if settings.device == 'cuda' else 'torch')

    def step(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(criterion(logits, target), logits)
        return gradient

    small, labels = logits[:1, :, :32, :32].contiguous(), target[:1, :64, :64].contiguous()
    exact = small.double().requires_grad_()
    fine = torch.nn.functional.interpolate(exact, scale_factor=2, mode='bilinear')
    torch.nn.functional.cross_entropy(fine, labels).backward()
    found = step(small.to(settings.device).requires_grad_(), labels.to(settings.device)).cpu().double()
    error = ((found - exact.grad).abs().max() / exact.grad.abs().max()).item()
    given = logits.bfloat16().to(settings.device).to(memory_format=torch.channels_last).requires_grad_()
    labels = target.to(settings.device)
    for _ in range(settings.warmup):
        step(given, labels)
    return dict(seconds=busy_seconds(lambda: step(given, labels), settings), error=error)


def reference_training(settings: Settings, side: Side, **optim_wrapper: object) -> dict:
    """Measure MMSegmentation's training."""
    loaded = side.config()
    shrunk(loaded.model, settings)
    if settings.device == 'cuda':  # its mixed precision requires a GPU
        loaded.optim_wrapper.update(optim_wrapper)
    # Its config does not set pin_memory.
    return train(side, loaded, settings, pin=False)


def predicting(settings: Settings, side: Side, batch_size: int) -> Any:
    """Time predictions in bf16."""
    from dpt.extras.profiling import workloads
    from dpt.extras.profiling.timing import time_step

    loaded, device = config(settings, side), torch.device(settings.device)
    model, size = workloads.build_model(loaded, device), (settings.size, settings.size)
    work = workloads.inference(loaded, model, size, batch_size, torch.bfloat16)
    return time_step(work.step, device, warmup=settings.warmup, iters=settings.iterations)


def evaluation(settings: Settings, side: Side, *, views: bool = False, amp: bool = False) -> dict:
    """Measure a test from files, including the start of the loader processes and the table of scores."""
    from dpt.config.testing import use_test_time_augmentation

    loaded = config(settings, side)
    loaded.test_dataloader.dataset.data_root = settings.data
    loaded.test_dataloader.num_workers = settings.workers
    loaded.test_cfg.fp16 = amp
    loaded.total_batch_size = None
    if views:
        use_test_time_augmentation(loaded)
    with tempfile.TemporaryDirectory(dir=settings.data) as work_dir:
        loaded.work_dir, loaded.log_level = work_dir, 'ERROR'
        runner = side.build_runner(loaded)
        began = time.perf_counter()
        runner.test()
        return dict(seconds=time.perf_counter() - began)


def data(settings: Settings, side: Side) -> dict:
    """Return the logged share of time that a training waits for data, and its speed."""
    loaded = config(settings, side)
    loaded.optim_wrapper.update(AMP)
    loader = loaded.train_dataloader
    loader.update(num_workers=settings.workers, batch_size=settings.batch_size)
    loader.dataset.data_root = settings.data
    interval = loaded.default_hooks.logger.interval = min(LOG_INTERVAL, 2 * settings.iterations)
    loaded.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, save_last=False)
    loaded.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    with tempfile.TemporaryDirectory(dir=settings.data) as work_dir:
        only_train(loaded, work_dir, interval + 6 * settings.iterations)
        side.build_runner(loaded).train()
        (log,) = Path(work_dir).rglob('scalars.json')
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines = [line for line in lines if 'data_wait' in line][1:]  # the first line includes the startup
    return {key: sum(line[key] for line in lines) / len(lines) for key in ('data_wait', 'images_per_s')}


MEASUREMENTS: dict[str, Callable[[Settings, Side], dict]] = {
    'train': training,
    'train-compiled': compiled_training,
    'train-2': of_two(training),
    'train-2-compiled': of_two(compiled_training),
    'train-2-graphs': of_two(functools.partial(compiled_training, mode='reduce-overhead')),
    'loss-torch': functools.partial(loss, kernel='torch'),
    'loss-triton': functools.partial(loss, kernel='triton'),
    'reference-fp32': reference_training,
    'reference-amp': functools.partial(reference_training, **AMP),
    'infer': lambda settings, side: dict(seconds=predicting(settings, side, settings.batch_size).seconds),
    'latency': lambda settings, side: dict(seconds=predicting(settings, side, 1).median),
    'evaluate': evaluation,
    'evaluate-amp': functools.partial(evaluation, amp=True),
    'evaluate-views': functools.partial(evaluation, views=True),
    'evaluate-views-amp': functools.partial(evaluation, views=True, amp=True),
    'data': data,
}


def main() -> None:
    """Run the measurement named on the command line with the given settings and print one JSON line."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    side = (MMSegSide if name.startswith('reference') else DPTSide)()
    torch.backends.cudnn.benchmark = True  # as in both configs
    result = MEASUREMENTS[name](settings, side)
    gpu = torch.cuda.get_device_name() if settings.device == 'cuda' else 'no GPU'
    print(json.dumps(dict(result, machine=f'{gpu}, torch {torch.__version__}')))


if __name__ == '__main__':
    main()
