"""Workloads of a config to benchmark: training steps, predictions, data loading and the metric."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch.utils.data._utils.pin_memory import pin_memory

from dpt.extras.profiling.costs import REST, part_costs, training_flops, watch_parts
from dpt.extras.profiling.timing import PartTimer
from dpt.registry import METRICS, MODELS
from dpt.structures import SegDataSample

Size = tuple[int, int]
RESIZE = 'resize, argmax'  # the time outside the parts of a prediction


@dataclass(frozen=True)
class Workload:
    """A workload to time.

    Attributes:
        name: Name in the report.
        step: Function to time.
        images: Number of images per step.
        watch: Returns a context in which a timer measures the parts of a step.
        flops: Floating-point operations of a step, or ``None``.
        part_flops: Floating-point operations of the forward pass, by part.
        trained: The model, for a training step.
        rest: Name of the time outside the parts.
        part_step: Function to time for the shares of the parts; ``None`` uses ``step``.
    """

    name: str
    step: Callable[[], object]
    images: int
    watch: Callable[[PartTimer], AbstractContextManager]
    flops: int | None = None
    part_flops: dict[str, int] | None = None
    trained: BaseModel | None = None
    rest: str = REST
    part_step: Callable[[], object] | None = None


def build_model(config: Config, device: torch.device) -> BaseModel:
    """Build the model of the config with random weights, which do not affect the speed."""
    torch.manual_seed(0)
    for part in (config.model.backbone, config.model):
        part.pop('init_cfg', None)
    model = MODELS.build(config.model)
    model.init_weights()
    return model.to(device)


def random_batch(size: Size, batch_size: int, num_classes: int | None) -> dict:
    """Return a batch of random images and labels (blocks of 16x16 pixels), as from a data loader.

    They are uint8 and, if there is a GPU, in pinned memory. Without classes, there is depth from 1 to 10
    instead of labels.
    """
    random = np.random.default_rng(0)
    inputs, samples = [], []
    for _ in range(batch_size):
        inputs.append(torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8)))
        highest = 10 if num_classes is None else min(num_classes, 255)
        blocks = random.integers(0, highest, (size[0] // 16 + 1, size[1] // 16 + 1))
        values = np.kron(blocks, np.ones((16, 16), np.int64))[: size[0], : size[1]]
        sample = SegDataSample()
        if num_classes is None:
            sample.gt_depth_map = PixelData(data=torch.from_numpy(values + 1)[None].float())
        else:
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(values.astype(np.uint8))[None])
        sample.set_metainfo(dict(img_path='random.jpg', img_shape=size, ori_shape=size, flip=False))
        samples.append(sample)
    data = dict(inputs=inputs, data_samples=samples)
    return pin_memory(data) if torch.cuda.is_available() else data


def _classes(config: Config) -> int | None:
    """Return the number of classes, or None for depth."""
    return config.model.decode_head.get('num_classes')


def _input_shape(model: BaseModel, data: dict, training: bool) -> tuple[int, int, int, int]:
    """Return the shape BxCxHxW of a batch after preprocessing."""
    return tuple(model.data_preprocessor(data, training)['inputs'].shape)


def training(config: Config, model: BaseModel, size: Size, batch_size: int) -> Workload:
    """Return a training step with the optimiser of the config: transfer, forward, backward, update."""
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    data = random_batch(size, batch_size, _classes(config))

    def step() -> object:
        return model.train().train_step(data, wrapper)

    @contextmanager
    def watch(timer: PartTimer) -> Iterator[None]:
        losses = [*model.loss_decode]
        losses += model.loss_auxiliary if len(getattr(model, 'auxiliary_heads', ())) else []
        with ExitStack() as stack:
            stack.enter_context(watch_parts(model, timer.enter, timer.leave))
            stack.enter_context(timer.method(model.data_preprocessor, 'forward', 'preprocess'))
            for loss in losses:
                stack.enter_context(timer.method(loss, 'forward', 'loss'))
            stack.enter_context(timer.method(wrapper, 'backward', 'backward'))
            for name in ('step', 'zero_grad'):
                stack.enter_context(timer.method(wrapper, name, 'optimizer'))
            yield

    shape = _input_shape(model, data, True)
    return Workload(
        'train',
        step,
        batch_size,
        watch,
        flops=training_flops(config.model, shape),
        part_flops={part.name: part.flops for part in part_costs(config.model, shape)},
        trained=model,
    )


def inference(
    config: Config, model: BaseModel, size: Size, batch_size: int, amp_dtype: torch.dtype | None
) -> Workload:
    """Return a prediction, from uint8 images to label or depth maps of the same size."""
    data = random_batch(size, batch_size, _classes(config))
    shape = _input_shape(model, data, False)
    parts = {part.name: part.flops for part in part_costs(config.model, shape)}
    costs = dict(flops=sum(parts.values()), part_flops=parts, rest=RESIZE)
    return _prediction('infer', model, model, data, amp_dtype, batch_size, **costs)


def test_time_augmentation(
    config: Config, model: BaseModel, pipeline: list[dict], size: Size, amp_dtype: torch.dtype | None
) -> Workload:
    """Return the prediction of one image with test-time augmentation.

    Args:
        config: The config, with ``tta_model``.
        model: The model.
        pipeline: ``tta_pipeline`` of the config, without annotations.
        size: (height, width) of the image on disk.
        amp_dtype: Data type of mixed precision, or ``None``.
    """
    array = random_batch(size, 1, 2)['inputs'][0].permute(1, 2, 0).numpy()
    image = dict(img=array, img_path=None, img_shape=size, ori_shape=size)
    steps = [step for step in pipeline if step['type'] != 'LoadImageFromFile']
    data = pseudo_collate([Compose(steps)(image)])
    views = [
        _input_shape(model, dict(inputs=inputs, data_samples=samples), False)
        for inputs, samples in zip(data['inputs'], data['data_samples'], strict=True)
    ]
    flops = {shape: sum(part.flops for part in part_costs(config.model, shape)) for shape in set(views)}
    merging = MODELS.build(dict(config.tta_model, module=model)).to(model.data_preprocessor.device)
    name = f'tta ({len(views)} views)'
    return _prediction(name, merging, model, data, amp_dtype, flops=sum(flops[view] for view in views))


def _prediction(
    name: str,
    predictor: BaseModel,
    model: BaseModel,
    data: dict,
    amp_dtype: torch.dtype | None,
    images: int = 1,
    **costs: Any,
) -> Workload:
    device = next(model.parameters()).device

    def step() -> object:
        autocast = torch.autocast(device.type, amp_dtype) if amp_dtype else nullcontext()
        with torch.no_grad(), autocast:
            return predictor.eval().test_step(data)

    @contextmanager
    def watch(timer: PartTimer) -> Iterator[None]:
        preprocess = timer.method(model.data_preprocessor, 'forward', 'preprocess')
        with watch_parts(model, timer.enter, timer.leave), preprocess:
            yield

    return Workload(name, step, images, watch, **costs)


def data_loading(loader_config: dict) -> Workload:
    """Return the loading of a training batch, with the number of workers in the config.

    The parts are the transforms of one image, timed in this process.
    """
    loader = Runner.build_dataloader(loader_config, seed=0)
    batches, samples = iter(loader), iter(loader.sampler)
    dataset: Any = loader.dataset
    while not hasattr(dataset, 'pipeline'):  # inside wrappers such as RepeatDataset
        dataset = dataset.dataset if hasattr(dataset, 'dataset') else dataset.datasets[0]

    @contextmanager
    def watch(timer: PartTimer) -> Iterator[None]:
        with ExitStack() as stack:
            for transform in dataset.pipeline.transforms:
                if hasattr(transform, 'transform'):  # mmcv's transforms
                    stack.enter_context(timer.method(transform, 'transform', type(transform).__name__))
            yield

    return Workload(
        'data',
        lambda: next(batches),
        loader.batch_size,
        watch,
        part_step=lambda: loader.dataset[next(samples)],
    )


def metric(config: Config, size: Size, device: torch.device) -> Workload:
    """Return the evaluation of one predicted map on ``device``."""
    evaluator = config.test_evaluator
    evaluator = METRICS.build(evaluator[0] if isinstance(evaluator, list) else evaluator)
    classes = _classes(config)
    name = 'depth_map' if classes is None else 'sem_seg'
    evaluator.dataset_meta = dict(classes=[f'class {i}' for i in range(classes or 0)])
    maps = random_batch(size, 2, classes)['data_samples']
    predicted, truth = (sample.get(f'gt_{name}').data.to(device) for sample in maps)
    both = {f'pred_{name}': dict(data=predicted), f'gt_{name}': dict(data=truth), 'img_path': 'random.jpg'}
    return Workload('metric', lambda: evaluator.process({}, [both]), 1, lambda _: nullcontext())
