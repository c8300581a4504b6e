"""What both workers of ``speed_gpu.py`` share: settings, clocks and memory of a GPU, the training step.

Imports neither framework.
"""

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from speed_common import Side, image, measure
from torch.utils.data._utils.pin_memory import pin_memory

RECIPE_SIZE = 512
AMP = dict(type='AmpOptimWrapper', dtype='bfloat16')
MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """What is measured on: the issue's figures are those of the defaults."""

    device: str = 'cuda'
    batch_size: int = 16
    size: int = RECIPE_SIZE
    images: int = 2000
    iterations: int = 50
    warmup: int = 10
    workers: int = 16
    data: str = ''

    def as_json(self) -> str:
        """Return them for a worker's command line."""
        return json.dumps(dataclasses.asdict(self))


def shrunk(part: object, settings: Settings) -> None:
    """Scale all sizes in a config by ``settings.size`` over 512: nothing but in a smoke run."""
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
    """Measure steps of the config's training, from uint8 images of the host to new weights.

    Args:
        side: Whose model and samples.
        loaded: Its config.
        settings: Number and size of the images, number of steps.
        pin: Whether the batch lies in page-locked memory, as from a loader with ``pin_memory=True``.
        change: Told the model before the first step.

    Returns:
        ``seconds`` of a step, ``added_mib`` an image over what is allocated before a step.
    """
    model = side.build(loaded).to(settings.device).train()
    wrapper = build_optim_wrapper(model, loaded.optim_wrapper)
    change(model)
    size = (settings.size, settings.size)
    data = dict(
        inputs=[image(*size, seed=i) for i in range(settings.batch_size)],
        data_samples=[side.sample(size) for _ in range(settings.batch_size)],
    )
    if pin and settings.device == 'cuda':
        data = pin_memory(data)

    def step() -> None:
        model.train_step(data, wrapper)

    for _ in range(settings.warmup):
        step()
    added = added_mib(step, settings)
    return dict(seconds=busy_seconds(step, settings), added_mib=added / settings.batch_size)


def added_mib(step: Callable[[], object], settings: Settings) -> float:
    """Return what a step allocates at its peak over what is allocated before, in MiB."""
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
    """Return the mean time of steps that the device is given one after the other, by its own clock."""
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


def main(measurements: dict[str, Callable[[Settings], dict]]) -> None:
    """Make the measurement named on the command line, with the settings beside it; print one JSON line."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    torch.backends.cudnn.benchmark = True  # as both configs set it
    result = measurements[name](settings)
    gpu = torch.cuda.get_device_name() if settings.device == 'cuda' else 'no GPU'
    print(json.dumps(dict(result, machine=f'{gpu}, torch {torch.__version__}')))
