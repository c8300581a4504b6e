"""Measure one row of ``speed.py`` in the environment of the measured framework."""

import argparse
import copy
import gc
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import Runner
from parity_chain.inputs import CLASSES, IGNORE_INDEX, labels, raw_image, sample
from parity_chain.side import PEER_CONFIG

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
clock = 'wall'
SIZE = (512, 683)
OPENCV = ('LUT', 'add', 'addWeighted', 'cvtColor', 'flip', 'imdecode', 'merge', 'resize', 'split')
CONFIG = Path(__file__).resolve().parent.parent / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'


def resident_mib(key: str = 'VmRSS') -> float:
    """Return the resident memory of this process, or its peak for ``'VmHWM'``, in MiB (Linux only)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f'{key} is not in /proc/self/status')


def measure(step: Callable[[], object], *, warmup: int, repeats: int) -> dict:
    """Return the median time of ``step`` in seconds and its added peak memory in MiB."""
    gc.collect()
    base = resident_mib()
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    times = []
    for _ in range(warmup + repeats):
        began = CLOCKS[clock]()
        step()
        times.append(CLOCKS[clock]() - began)
    return dict(
        seconds=statistics.median(times[warmup:]),
        added_mib=resident_mib('VmHWM') - base,
        all_seconds=times,
    )


def prediction_and_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a predicted and a true int64 label map of shape HxW that agree in about half of the pixels."""
    truth, other = labels('truth', SIZE, ignored=0.05), labels('other', SIZE, ignored=0.0)
    wrong = (truth == IGNORE_INDEX) | (np.random.default_rng(3).random(SIZE) < 0.4)
    return torch.from_numpy(np.where(wrong, other, truth)), torch.from_numpy(truth)


def only_train(loaded: Config, work_dir: str, iterations: int) -> None:
    """Change a config to train for a number of iterations without validation and log output."""
    loaded.train_cfg.update(max_iters=iterations, val_interval=iterations + 1)
    for phase in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            loaded[f'{phase}_{key}'] = None
    loaded.log_level = 'ERROR'
    loaded.experiment_name = loaded.visualizer.name = Path(work_dir).name
    loaded.work_dir = work_dir


def head_logits() -> torch.Tensor:
    """Draw the logits of a head for an image of ``SIZE``."""
    return torch.randn(1, CLASSES, 256, 342, generator=torch.Generator().manual_seed(0))


class Side:
    """One framework and the rows that are measured for both.

    A subclass defines ``config()`` (for one process, without pretrained weights), ``label(size)`` (a label
    map as its pipeline packs them), ``build_runner(config)``, and the rows ``restore`` and ``metric``.
    """

    samples: type
    models: Registry
    datasets: Registry

    def batch(self, size: tuple[int, int], count: int = 1) -> dict:
        """Draw a batch as a data loader returns it."""
        names = [str(i) for i in range(count)]
        return dict(
            inputs=[raw_image(name, size) for name in names],
            data_samples=[sample(self.samples, self.label(size)) for _ in names],
        )

    def label(self, size: tuple[int, int]) -> np.ndarray:
        """Draw a label map, as uint8."""
        return labels('label', size, ignored=0.05).astype(np.uint8)

    def build(self, loaded: Config) -> torch.nn.Module:
        """Build the model with random weights from a fixed seed."""
        torch.manual_seed(0)
        model = self.models.build(loaded.model)
        model.init_weights()
        return model

    def train_step(self, _: Path) -> dict:
        """Measure a training step of the config at 512x512, batch 1."""
        loaded = self.config()
        model = self.build(loaded).train()
        wrapper = build_optim_wrapper(model, loaded.optim_wrapper)
        data = self.batch((512, 512))
        return measure(lambda: model.train_step(copy.deepcopy(data), wrapper), warmup=1, repeats=3)

    def kept(self, _: Path, **backbone: object) -> dict:
        """Return the memory that autograd saves per additional 512x512 image in bf16, on any device.

        Counts each storage once and excludes parameters. ``backbone`` updates the backbone config.
        """
        loaded = self.config()
        loaded.model.backbone.update(backbone)
        model = self.build(loaded).train()
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        totals = []
        for batch in (1, 2):
            data = model.data_preprocessor(self.batch((512, 512), batch), True)
            kept: dict[int, torch.UntypedStorage] = {}  # keeps the addresses from being reused

            def note(tensor: torch.Tensor, kept: dict = kept) -> torch.Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in own:
                    kept[storage.data_ptr()] = storage
                return tensor

            hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
            with hooks, torch.autocast('cpu', torch.bfloat16):
                losses = model(**data, mode='loss')
            totals.append(sum(storage.nbytes() for storage in kept.values()))
            del losses
        return dict(seconds=0.0, added_mib=(totals[1] - totals[0]) / (1 << 20))

    def predict(self, _: Path) -> dict:
        """Measure the prediction of one image."""
        model = self.build(self.config()).eval()
        data = self.batch(SIZE)
        with torch.no_grad():
            return measure(lambda: model.test_step(copy.deepcopy(data)), warmup=1, repeats=3)

    def tta(self, data: Path) -> dict:
        """Measure the prediction of one image with the ``tta_pipeline`` of the config."""
        loaded = self.config()
        pipeline = copy.deepcopy(loaded.tta_pipeline)
        views = next(step for step in pipeline if step['type'] == 'TestTimeAug')
        views['transforms'] = [
            group for group in views['transforms'] if group[0]['type'] != 'LoadAnnotations'
        ]
        model = self.models.build(dict(loaded.tta_model, module=self.build(loaded))).eval()
        paths = sorted((data / 'images/training').iterdir())
        path = next(path for path in paths if cv2.imread(str(path)).shape[:2] == SIZE)
        batch = pseudo_collate([Compose(pipeline)(dict(img_path=str(path)))])
        with torch.no_grad():
            return measure(lambda: model.test_step(copy.deepcopy(batch)), warmup=0, repeats=1)

    def pipeline(self, data: Path) -> dict:
        """Measure the training pipeline of the config, per image."""
        cv2.setNumThreads(0)  # as in the workers of both frameworks
        dataset_config = self.config().train_dataloader.dataset
        dataset_config.data_root = str(data)
        dataset = self.datasets.build(dataset_config)
        np.random.seed(0)
        result = measure(lambda: [dataset[i] for i in range(len(dataset))], warmup=1, repeats=5)
        return dict(result, seconds=result['seconds'] / len(dataset))

    def loop(self, folder: Path) -> dict:
        """Measure an iteration with a trivial model: loop, hooks and log."""
        self.models.register_module(module=Nothing)
        self.datasets.register_module(module=Numbers)
        first, last = 500, 2500  # excludes the start and the end
        stamps: list[float] = []
        Nothing.on_step = lambda: stamps.append(CLOCKS[clock]())
        with tempfile.TemporaryDirectory(dir=folder) as work_dir:
            self.build_runner(self.nothing(work_dir, last + 1)).train()
        return dict(seconds=(stamps[last] - stamps[first]) / (last - first), added_mib=0.0)

    def nothing(self, work_dir: str, iterations: int) -> Config:
        """Return the config with a trivial model and data set, without validation."""
        loaded = self.config()
        loaded.model = dict(type='Nothing')
        loaded.train_dataloader = dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(type='Numbers'),
        )
        only_train(loaded, work_dir, iterations)
        return loaded

    def rows(self) -> dict[str, Callable[[Path], dict]]:
        """Return the rows by name."""
        return {
            'train-step': self.train_step,
            'predict': self.predict,
            'kept': self.kept,
            'tta': self.tta,
            'pipeline': self.pipeline,
            'loop': self.loop,
            'restore': self.restore,
            'metric': self.metric,
        }


class Nothing(BaseModel):
    """A model with one parameter that calls ``on_step`` in each step; it uses the real optimiser."""

    on_step: Callable[[], None]

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict:
        type(self).on_step()
        with optim_wrapper.optim_context(self):
            loss = self.weight.sum()
        optim_wrapper.update_params(loss)
        return dict(loss=loss.detach())

    def forward(self, *_: object) -> None:
        raise NotImplementedError


class Numbers(torch.utils.data.Dataset):
    """A trivial data set."""

    metainfo: dict = dict(classes=['a'], palette=[[0, 0, 0]])

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.zeros(1), data_samples=index)


class DPTSide(Side):
    """``dpt`` with its own config."""

    def __init__(self) -> None:
        import dpt  # noqa: F401 (registers the parts)
        from dpt.registry import DATASETS, MODELS
        from dpt.structures import SegDataSample

        init_default_scope('dpt')
        self.samples, self.models, self.datasets = SegDataSample, MODELS, DATASETS

    def config(self) -> Config:
        loaded = Config.fromfile(CONFIG)
        loaded.model.backbone.init_cfg = None
        return loaded

    def build_runner(self, loaded: Config) -> Runner:
        from dpt.engine import build_runner

        return build_runner(loaded)

    def restore(self, _: Path) -> dict:
        from dpt.models.inference import Geometry, label_map

        logits, geometry = head_logits(), Geometry(input_shape=SIZE, img_shape=SIZE, ori_shape=SIZE)
        return measure(lambda: label_map(logits, geometry.restore, SIZE), warmup=2, repeats=7)

    def metric(self, _: Path) -> dict:
        from dpt.registry import METRICS

        evaluator = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
        evaluator.dataset_meta = dict(classes=[f'c{i}' for i in range(CLASSES)])
        predicted, truth = prediction_and_truth()
        # uint8, as returned by the model and the pipeline of dpt
        both = dict(pred_sem_seg=dict(data=predicted.byte()[None]), gt_sem_seg=dict(data=truth.byte()[None]))
        return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)

    def pipeline(self, data: Path) -> dict:
        """Measure the pipeline, and the time it spends in OpenCV."""
        result = super().pipeline(data)
        with opencv_timed() as calls:
            super().pipeline(data)
        images = len(calls['imdecode']) / 2  # the other half are label maps
        return dict(result, opencv_seconds=sum(map(sum, calls.values())) / images)

    def resume(self, data: Path, iteration: int = 100_000) -> dict:
        """Measure a resume at an iteration, from a built runner to the first step of 16 images."""
        from dpt.datasets import BaseSegDataset

        self.models.register_module(module=Nothing)
        dataset = dict(self.config().train_dataloader.dataset, data_root=str(data))

        def runner(work_dir: str, iterations: int) -> Runner:
            loaded = self.nothing(work_dir, iterations)
            loaded.train_dataloader.update(batch_size=16, dataset=dataset)
            return self.build_runner(loaded)

        stamps: list[float] = []
        Nothing.on_step = lambda: stamps.append(time.perf_counter())
        with tempfile.TemporaryDirectory(dir=data) as work_dir:
            before = runner(work_dir, iteration)
            before._train_loop = before.build_train_loop(before._train_loop)
            before.train_loop._iter = iteration - 1
            before.train()
            resumed = runner(work_dir, iteration + 1)
            resumed._resume, resumed._load_from = True, f'{work_dir}/iter_{iteration}.pth'
            read = []
            load = BaseSegDataset.__getitem__
            BaseSegDataset.__getitem__ = lambda dataset, index: read.append(index) or load(dataset, index)
            began = time.perf_counter()
            resumed.train()
        if resumed.iter != iteration + 1 or len(read) != 16:
            raise RuntimeError(f'{len(read)} images were loaded up to iteration {resumed.iter}, expected 16')
        return dict(seconds=stamps[-1] - began, added_mib=0.0)

    def rows(self) -> dict[str, Callable[[Path], dict]]:
        own = {'kept-cp': lambda data: self.kept(data, with_cp=True), 'resume': self.resume}
        return {**super().rows(), **own}


@contextmanager
def opencv_timed() -> Iterator[dict[str, list[float]]]:
    """Time the OpenCV functions of the pipeline, which changes of the Python code cannot speed up."""
    calls: dict[str, list[float]] = {name: [] for name in OPENCV}
    functions = {name: getattr(cv2, name) for name in OPENCV}

    def timed(name: str) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            began = CLOCKS[clock]()
            result = functions[name](*args, **kwargs)
            calls[name].append(CLOCKS[clock]() - began)
            return result

        return call

    for name in OPENCV:
        setattr(cv2, name, timed(name))
    try:
        yield calls
    finally:
        for name, function in functions.items():
            setattr(cv2, name, function)


class MMSegSide(Side):
    """MMSegmentation with the config in its wheel."""

    def __init__(self) -> None:
        from mmseg.registry import DATASETS, MODELS
        from mmseg.structures import SegDataSample
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=True)
        self.samples, self.models, self.datasets = SegDataSample, MODELS, DATASETS

    def config(self) -> Config:
        import mmseg

        loaded = Config.fromfile(Path(mmseg.__file__).parent / PEER_CONFIG)
        loaded.model.pretrained = None
        _one_process(loaded.model)
        return loaded

    def label(self, size: tuple[int, int]) -> np.ndarray:
        """Draw a label map, as int64."""
        return super().label(size).astype(np.int64)

    def build_runner(self, loaded: Config) -> Runner:
        return Runner.from_cfg(loaded)

    def restore(self, _: Path) -> dict:
        from mmseg.models.utils import resize

        logits = head_logits()

        def step() -> torch.Tensor:
            at_input = resize(logits, size=SIZE, mode='bilinear', align_corners=False, warning=False)
            at_original = resize(at_input, size=SIZE, mode='bilinear', align_corners=False, warning=False)
            return at_original.squeeze(0).argmax(dim=0, keepdim=True)

        return measure(step, warmup=2, repeats=7)

    def metric(self, _: Path) -> dict:
        from mmseg.evaluation import IoUMetric

        logging.disable(logging.CRITICAL)
        evaluator = IoUMetric(iou_metrics=['mIoU'])
        evaluator.dataset_meta = dict(classes=tuple(f'c{i}' for i in range(CLASSES)))
        predicted, truth = prediction_and_truth()
        both = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))
        return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)

    def rows(self) -> dict[str, Callable[[Path], dict]]:
        return {**super().rows(), 'kept-cp': self.kept}


def _one_process(part: object) -> None:
    """Replace SyncBN with BN in a config."""
    if isinstance(part, dict):
        if part.get('type') == 'SyncBN':
            part['type'] = 'BN'
        for value in part.values():
            _one_process(value)


SIDES: dict[str, type[Side]] = {'dpt': DPTSide, 'mmseg': MMSegSide}


def main() -> None:
    """Measure the row named on the command line and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('side', choices=SIDES)
    parser.add_argument('row')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=CLOCKS, default='wall')
    parser.add_argument('--data', type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    global clock
    clock = args.clock
    print(json.dumps(SIDES[args.side]().rows()[args.row](args.data)))


if __name__ == '__main__':
    main()
