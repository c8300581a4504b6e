"""MMSegmentation's side of ``speed.py``: its own config and code; run by the Python of its environment."""

import logging
from pathlib import Path

import mmseg
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.models.utils import resize
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from speed_common import CLASSES, SIZE, Side, main, measure, prediction_and_truth, regions

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


def sample(size: tuple[int, int]) -> SegDataSample:
    labels = torch.from_numpy(regions(*size, seed=0)).long()  # as its pipeline packs them
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=labels[None]))
    shapes = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1, 1))
    data_sample.set_metainfo(dict(shapes, flip=False, img_path='x.jpg'))
    return data_sample


def restore(_: Path) -> dict:
    logits = torch.randn(1, CLASSES, 256, 342, generator=torch.Generator().manual_seed(0))

    def step() -> torch.Tensor:
        at_input = resize(logits, size=SIZE, mode='bilinear', align_corners=False, warning=False)
        at_original = resize(at_input, size=SIZE, mode='bilinear', align_corners=False, warning=False)
        return at_original.squeeze(0).argmax(dim=0, keepdim=True)

    return measure(step, warmup=2, repeats=7)


def metric(_: Path) -> dict:
    logging.disable(logging.CRITICAL)
    evaluator = IoUMetric(iou_metrics=['mIoU'])
    evaluator.dataset_meta = dict(classes=tuple(f'c{i}' for i in range(CLASSES)))
    predicted, truth = prediction_and_truth()
    both = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=truth[None]))
    return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)


if __name__ == '__main__':
    register_all_modules(init_default_scope=True)
    side = Side(MODELS, DATASETS, config, sample, Runner.from_cfg)
    own = {'restore': restore, 'metric': metric, 'kept-cp': side.kept}
    main({**side.rows(), **own})
