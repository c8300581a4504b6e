"""Our side of ``speed.py``."""

import copy
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from speed_common import CLASSES, SIZE, image, main, measure, prediction_and_truth, regions

from dpt.engine.launch import build_runner
from dpt.registry import DATASETS, METRICS, MODELS
from dpt.structures import SegDataSample

CONFIG = Path(__file__).resolve().parent.parent / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'


def config() -> Config:
    init_default_scope('dpt')
    loaded = Config.fromfile(CONFIG)
    loaded.model.backbone.init_cfg = None
    return loaded


def build(loaded: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(loaded.model)
    model.init_weights()
    return model


def sample(size: tuple[int, int]) -> SegDataSample:
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(regions(*size, seed=0))[None]))
    data_sample.set_metainfo(dict(img_shape=size, ori_shape=size, flip=False, img_path='x.jpg'))
    return data_sample


def train_step(_: Path) -> dict:
    loaded = config()
    model = build(loaded).train()
    wrapper = build_optim_wrapper(model, loaded.optim_wrapper)
    data = dict(inputs=[image(512, 512)], data_samples=[sample((512, 512))])
    return measure(lambda: model.train_step(copy.deepcopy(data), wrapper), warmup=1, repeats=3)


def predict(_: Path) -> dict:
    model = build(config()).eval()
    data = dict(inputs=[image(*SIZE)], data_samples=[sample(SIZE)])
    with torch.no_grad():
        return measure(lambda: model.test_step(copy.deepcopy(data)), warmup=1, repeats=3)


def tta(data: Path) -> dict:
    loaded = config()
    pipeline = copy.deepcopy(loaded.tta_pipeline)
    views = next(step for step in pipeline if step['type'] == 'TestTimeAug')
    views['transforms'] = [group for group in views['transforms'] if group[0]['type'] != 'LoadAnnotations']
    model = MODELS.build(dict(loaded.tta_model, module=build(loaded))).eval()
    path = next(path for path in sorted((data / 'images/training').iterdir()) if _size(path) == SIZE)
    batch = pseudo_collate([Compose(pipeline)(dict(img_path=str(path)))])
    with torch.no_grad():
        return measure(lambda: model.test_step(copy.deepcopy(batch)), warmup=0, repeats=1)


def _size(path: Path) -> tuple[int, int]:
    import cv2

    height, width = cv2.imread(str(path)).shape[:2]
    return height, width


def restore(_: Path) -> dict:
    from dpt.models.inference import label_map, restored_rows
    from dpt.models.layers import bands, rows_of

    size = (256, 342)
    logits = torch.randn(1, CLASSES, *size, generator=torch.Generator().manual_seed(0))

    def step() -> torch.Tensor:
        rows = restored_rows(rows_of(logits), size, input_shape=SIZE, img_shape=SIZE, ori_shape=SIZE)
        edges = bands(SIZE[0], 4 * CLASSES * SIZE[1], logits.device)
        return torch.cat([label_map(rows(top, bottom)[0]) for top, bottom in edges], dim=-2)

    return measure(step, warmup=2, repeats=7)


def pipeline(data: Path) -> dict:
    import cv2

    cv2.setNumThreads(0)
    dataset_config = config().train_dataloader.dataset
    dataset_config.data_root = str(data)
    dataset = DATASETS.build(dataset_config)
    np.random.seed(0)

    def step() -> None:
        for i in range(len(dataset)):
            dataset[i]

    result = measure(step, warmup=1, repeats=5)
    result['seconds'] /= len(dataset)
    return result


def metric(_: Path) -> dict:
    evaluator = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=[f'c{i}' for i in range(CLASSES)])
    predicted, truth = prediction_and_truth()
    # As predictions and labels come out of our model and pipeline.
    both = dict(pred_sem_seg=dict(data=predicted.byte()[None]), gt_sem_seg=dict(data=truth.byte()[None]))
    return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)


@MODELS.register_module()
class Nothing(BaseModel):
    """A model whose step costs nothing, so that what is measured is the loop and its hooks."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def train_step(self, data: dict, optim_wrapper: object) -> dict:
        return dict(loss=torch.zeros(()))

    def forward(self, *_: object) -> None:
        raise NotImplementedError


@DATASETS.register_module()
class Numbers(torch.utils.data.Dataset):
    metainfo: dict = dict(classes=['a'], palette=[[0, 0, 0]])

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.zeros(1), data_samples=index)


def loop(folder: Path) -> dict:
    # The difference leaves out what happens once: the start, the checkpoint at the end.
    return dict(seconds=(_loop(folder, 2500) - _loop(folder, 500)) / 2000, added_mib=0.0)


def _loop(folder: Path, iterations: int) -> float:
    """Return the seconds of a training of so many iterations."""
    loaded = config()
    loaded.model = dict(type='Nothing')
    loaded.train_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dict(type='Numbers'),
    )
    loaded.train_cfg.update(max_iters=iterations, val_interval=iterations + 1)
    for key in (
        'val_cfg',
        'val_dataloader',
        'val_evaluator',
        'test_cfg',
        'test_dataloader',
        'test_evaluator',
    ):
        loaded[key] = None
    loaded.log_level = 'ERROR'
    loaded.experiment_name = loaded.visualizer.name = f'loop_{iterations}'
    with tempfile.TemporaryDirectory(dir=folder) as loaded.work_dir:
        runner = build_runner(loaded)
        began = time.perf_counter()
        runner.train()
        return time.perf_counter() - began


if __name__ == '__main__':
    init_default_scope('dpt')
    main(
        {
            'train-step': train_step,
            'predict': predict,
            'tta': tta,
            'restore': restore,
            'pipeline': pipeline,
            'metric': metric,
            'loop': loop,
        }
    )
