"""Our side of ``speed.py``."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import speed_common
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from speed_common import CLASSES, CLOCKS, SIZE, Nothing, Side, main, measure, prediction_and_truth, regions

from dpt.datasets import BaseSegDataset
from dpt.engine import build_runner
from dpt.models.inference import Geometry, label_map
from dpt.registry import DATASETS, METRICS, MODELS
from dpt.structures import SegDataSample

OPENCV = ('LUT', 'add', 'addWeighted', 'cvtColor', 'flip', 'imdecode', 'merge', 'resize', 'split')
CONFIG = Path(__file__).resolve().parent.parent / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'


def config() -> Config:
    loaded = Config.fromfile(CONFIG)
    loaded.model.backbone.init_cfg = None
    return loaded


def sample(size: tuple[int, int]) -> SegDataSample:
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(regions(*size, seed=0))[None]))
    data_sample.set_metainfo(dict(img_shape=size, ori_shape=size, flip=False, img_path='x.jpg'))
    return data_sample


def restore(_: Path) -> dict:
    logits = torch.randn(1, CLASSES, 256, 342, generator=torch.Generator().manual_seed(0))
    geometry = Geometry(input_shape=SIZE, img_shape=SIZE, ori_shape=SIZE)
    return measure(lambda: label_map(logits, geometry.restore, SIZE), warmup=2, repeats=7)


def metric(_: Path) -> dict:
    evaluator = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=[f'c{i}' for i in range(CLASSES)])
    predicted, truth = prediction_and_truth()
    # Bytes, as predictions and labels come out of our model and pipeline.
    both = dict(pred_sem_seg=dict(data=predicted.byte()[None]), gt_sem_seg=dict(data=truth.byte()[None]))
    return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)


def pipeline(data: Path, side: Side) -> dict:
    result = side.pipeline(data)
    with opencv_timed() as calls:
        side.pipeline(data)
    images = len(calls['imdecode']) / 2  # and as many label maps
    return dict(result, opencv_seconds=sum(map(sum, calls.values())) / images)


@contextmanager
def opencv_timed() -> Iterator[dict[str, list[float]]]:
    """Time all that the pipeline calls of OpenCV, which no change of the Python around it makes faster."""
    calls: dict[str, list[float]] = {name: [] for name in OPENCV}
    functions = {name: getattr(cv2, name) for name in OPENCV}

    def timed(name: str) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            began = CLOCKS[speed_common.clock]()
            result = functions[name](*args, **kwargs)
            calls[name].append(CLOCKS[speed_common.clock]() - began)
            return result

        return call

    for name in OPENCV:
        setattr(cv2, name, timed(name))
    try:
        yield calls
    finally:
        for name, function in functions.items():
            setattr(cv2, name, function)


def resume(data: Path, side: Side, iteration: int = 100_000) -> dict:
    """Measure a start at an iteration, from the built runner to the first step, of batches of 16 images."""
    MODELS.register_module(module=Nothing)
    dataset = dict(config().train_dataloader.dataset, data_root=str(data))

    def runner(work_dir: str, iterations: int) -> Runner:
        loaded = side.nothing(work_dir, iterations)
        loaded.train_dataloader.update(batch_size=16, dataset=dataset)
        return build_runner(loaded)

    stamps: list[float] = []
    Nothing.on_step = lambda: stamps.append(time.perf_counter())
    with tempfile.TemporaryDirectory(dir=data) as work_dir:
        before = runner(work_dir, iteration)
        before._train_loop = before.build_train_loop(before._train_loop)
        before.train_loop._iter = iteration - 1
        before.train()
        resumed = runner(work_dir, iteration + 1)
        resumed._resume, resumed._load_from = True, f'{work_dir}/iter_{iteration}.pth'
        loaded = []
        load = BaseSegDataset.__getitem__
        BaseSegDataset.__getitem__ = lambda dataset, index: loaded.append(index) or load(dataset, index)
        began = time.perf_counter()
        resumed.train()
    if resumed.iter != iteration + 1 or len(loaded) != 16:
        raise RuntimeError(f'{len(loaded)} images were loaded up to iteration {resumed.iter}: 16 are needed')
    return dict(seconds=stamps[-1] - began, added_mib=0.0)


if __name__ == '__main__':
    init_default_scope('dpt')
    side = Side(MODELS, DATASETS, config, sample, build_runner)
    own = {
        'restore': restore,
        'metric': metric,
        'pipeline': lambda data: pipeline(data, side),
        'kept-cp': lambda data: side.kept(data, with_cp=True),
        'resume': lambda data: resume(data, side),
    }
    main({**side.rows(), **own})
