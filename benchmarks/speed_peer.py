"""MMSegmentation's side of ``speed.py``: its own config and code; run by the Python of its environment."""

import copy
import logging
import tempfile
import time
from pathlib import Path

import mmseg
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.models.utils import resize
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from speed_common import CLASSES, SIZE, image, main, measure, prediction_and_truth, regions

CONFIG = Path(mmseg.__file__).parent / '.mim/configs/dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py'


def config() -> Config:
    loaded = Config.fromfile(CONFIG)
    loaded.model.pretrained = None
    _one_process(loaded.model)
    return loaded


def _one_process(part: object) -> None:
    if isinstance(part, dict):
        if part.get('type') == 'SyncBN':
            part['type'] = 'BN'
        for value in part.values():
            _one_process(value)


def build(loaded: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(loaded.model)
    model.init_weights()
    return model


def sample(size: tuple[int, int]) -> SegDataSample:
    labels = torch.from_numpy(regions(*size, seed=0)).long()  # as its pipeline packs them
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=labels[None]))
    data_sample.set_metainfo(
        dict(
            img_shape=size, ori_shape=size, pad_shape=size, flip=False, img_path='x.jpg', scale_factor=(1, 1)
        )
    )
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
    logits = torch.randn(1, CLASSES, 256, 342, generator=torch.Generator().manual_seed(0))

    def step() -> torch.Tensor:
        at_input = resize(logits, size=SIZE, mode='bilinear', align_corners=False, warning=False)
        at_original = resize(at_input, size=SIZE, mode='bilinear', align_corners=False, warning=False)
        return at_original.squeeze(0).argmax(dim=0, keepdim=True)

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
    logging.disable(logging.CRITICAL)
    evaluator = IoUMetric(iou_metrics=['mIoU'])
    evaluator.dataset_meta = dict(classes=tuple(f'c{i}' for i in range(CLASSES)))
    predicted, truth = prediction_and_truth()
    both = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))
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
        runner = Runner.from_cfg(loaded)
        began = time.perf_counter()
        runner.train()
        return time.perf_counter() - began


if __name__ == '__main__':
    register_all_modules(init_default_scope=True)
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
