"""What both workers of ``speed.py`` share: clocks, memory, samples, rows that differ only in whose parts run.

Imports neither framework.
"""

import argparse
import copy
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import Registry

CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
clock = 'wall'
SIZE = (512, 683)
CLASSES = 150


def resident_mib(key: str = 'VmRSS') -> float:
    """Return the resident memory of this process, or with ``'VmHWM'`` its peak, in MiB (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f'{key} is not in /proc/self/status')


def measure(step: Callable[[], object], *, warmup: int, repeats: int) -> dict:
    """Return the median seconds of ``step`` and the memory that it adds at its peak, in MiB."""
    gc.collect()
    base = resident_mib()
    Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
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


def regions(height: int, width: int, seed: int, void: float = 0.05) -> np.ndarray:
    """Draw a label map of blocks of 16x16 pixels, some of them without a label (255)."""
    random = np.random.default_rng(seed)
    small = random.integers(0, CLASSES, (height // 16 + 1, width // 16 + 1))
    small[random.random(small.shape) < void] = 255
    return np.kron(small, np.ones((16, 16), np.int64))[:height, :width].astype(np.uint8)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Draw a uint8 image of shape 3xHxW."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def prediction_and_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a predicted and a true label map of shape HxW, int64, that agree on about half the pixels."""
    truth = torch.from_numpy(regions(*SIZE, seed=1)).long()
    predicted = truth.clone()
    predicted[truth == 255] = 0
    other = torch.from_numpy(regions(*SIZE, seed=2, void=0)).long()
    wrong = torch.from_numpy(np.random.default_rng(3).random(SIZE) < 0.4)
    predicted[wrong] = other[wrong]
    return predicted, truth


def only_train(loaded: Config, work_dir: str, iterations: int) -> None:
    """Let a config train so many iterations, without validation and silently."""
    loaded.train_cfg.update(max_iters=iterations, val_interval=iterations + 1)
    for phase in ('val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            loaded[f'{phase}_{key}'] = None
    loaded.log_level = 'ERROR'
    loaded.experiment_name = loaded.visualizer.name = Path(work_dir).name
    loaded.work_dir = work_dir


@dataclass(frozen=True)
class Side:
    """One framework: its registries, its config, and how it makes a sample and a runner."""

    models: Registry
    datasets: Registry
    config: Callable[[], Config]
    sample: Callable[[tuple[int, int]], object]
    build_runner: Callable[[Config], object]

    def build(self, loaded: Config) -> torch.nn.Module:
        """Build the model with seeded random weights."""
        torch.manual_seed(0)
        model = self.models.build(loaded.model)
        model.init_weights()
        return model

    def train_step(self, _: Path) -> dict:
        """Measure a step of the config's training at 512x512, batch 1."""
        loaded = self.config()
        model = self.build(loaded).train()
        wrapper = build_optim_wrapper(model, loaded.optim_wrapper)
        data = dict(inputs=[image(512, 512)], data_samples=[self.sample((512, 512))])
        return measure(lambda: model.train_step(copy.deepcopy(data), wrapper), warmup=1, repeats=3)

    def kept(self, _: Path, **backbone: object) -> dict:
        """Count what autograd keeps for one more image of 512x512 in bf16; ``backbone`` is set in the config.

        Storages are counted once, and parameters not at all: independent of the device.
        """
        loaded = self.config()
        loaded.model.backbone.update(backbone)
        model = self.build(loaded).train()
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        totals = []
        for batch in (1, 2):
            inputs = [image(512, 512, seed) for seed in range(batch)]
            data = dict(inputs=inputs, data_samples=[self.sample((512, 512)) for _ in inputs])
            data = model.data_preprocessor(data, True)
            kept: dict[int, torch.UntypedStorage] = {}  # holding them keeps addresses from being used again

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
        data = dict(inputs=[image(*SIZE)], data_samples=[self.sample(SIZE)])
        with torch.no_grad():
            return measure(lambda: model.test_step(copy.deepcopy(data)), warmup=1, repeats=3)

    def tta(self, data: Path) -> dict:
        """Measure the prediction of one image by the config's ``tta_pipeline``."""
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
        """Measure the config's training pipeline, an image."""
        cv2.setNumThreads(0)  # as both configs set it for the workers
        dataset_config = self.config().train_dataloader.dataset
        dataset_config.data_root = str(data)
        dataset = self.datasets.build(dataset_config)
        np.random.seed(0)
        result = measure(lambda: [dataset[i] for i in range(len(dataset))], warmup=1, repeats=5)
        return dict(result, seconds=result['seconds'] / len(dataset))

    def loop(self, folder: Path) -> dict:
        """Measure an iteration of a model that does nothing: the loop, its hooks and its log."""
        self.models.register_module(module=Nothing)
        self.datasets.register_module(module=Numbers)
        first, last = 500, 2500  # what happens once, at the start and at the end, is left out
        stamps: list[float] = []
        Nothing.on_step = lambda: stamps.append(CLOCKS[clock]())
        with tempfile.TemporaryDirectory(dir=folder) as work_dir:
            self.build_runner(self.nothing(work_dir, last + 1)).train()
        return dict(seconds=(stamps[last] - stamps[first]) / (last - first), added_mib=0.0)

    def nothing(self, work_dir: str, iterations: int) -> Config:
        """Return the config with a model and data that cost nothing, and no validation."""
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
        """Return the rows that both sides have in common."""
        return {
            'train-step': self.train_step,
            'predict': self.predict,
            'kept': self.kept,
            'tta': self.tta,
            'pipeline': self.pipeline,
            'loop': self.loop,
        }


class Nothing(BaseModel):
    """A model of one parameter, told of each step to ``on_step``; the optimiser and its checks are real."""

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
    """Samples that cost nothing."""

    metainfo: dict = dict(classes=['a'], palette=[[0, 0, 0]])

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.zeros(1), data_samples=index)


def main(rows: dict[str, Callable[[Path], dict]]) -> None:
    """Run the row named on the command line and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('row', choices=rows)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=CLOCKS, default='wall')
    parser.add_argument('--data', type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    global clock
    clock = args.clock
    result = rows[args.row](args.data)
    print(json.dumps(result))
