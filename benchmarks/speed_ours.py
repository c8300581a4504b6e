"""Our side of ``speed.py``."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from speed_common import CLASSES, SIZE, Side, main, measure, prediction_and_truth, regions

from dpt.engine.launch import build_runner
from dpt.models.inference import label_map, restored_rows
from dpt.models.layers import bands, rows_of
from dpt.registry import DATASETS, METRICS, MODELS
from dpt.structures import SegDataSample

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
    size = (256, 342)
    logits = torch.randn(1, CLASSES, *size, generator=torch.Generator().manual_seed(0))
    logits = logits.contiguous(memory_format=torch.channels_last)  # as our head leaves them

    def step() -> torch.Tensor:
        rows = restored_rows(rows_of(logits), size, input_shape=SIZE, img_shape=SIZE, ori_shape=SIZE)
        edges = bands(SIZE[0], 4 * CLASSES * SIZE[1], logits.device)
        return torch.cat([label_map(rows(top, bottom)[0]) for top, bottom in edges], dim=-2)

    return measure(step, warmup=2, repeats=7)


def metric(_: Path) -> dict:
    evaluator = METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU']))
    evaluator.dataset_meta = dict(classes=[f'c{i}' for i in range(CLASSES)])
    predicted, truth = prediction_and_truth()
    # Bytes, as predictions and labels come out of our model and pipeline.
    both = dict(pred_sem_seg=dict(data=predicted.byte()[None]), gt_sem_seg=dict(data=truth.byte()[None]))
    return measure(lambda: evaluator.process({}, [both]), warmup=5, repeats=40)


if __name__ == '__main__':
    init_default_scope('dpt')
    side = Side(MODELS, DATASETS, config, sample, build_runner)
    main({**side.rows(), 'restore': restore, 'metric': metric})
