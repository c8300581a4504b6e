"""What ablation.py takes back is another way to the same result."""

import ablation
import pytest
import torch

from dpt.evaluation import iou
from dpt.profiling.workloads import random_batch
from dpt.registry import MODELS

SIDE, CLASSES = 64, 7
CONFIG = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='VisionTransformer', embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)
    ),
    neck=dict(type='DPTNeck', in_channels=16, channels=8, post_process_channels=(8, 8, 8, 8)),
    decode_head=dict(type='DPTHead', in_channels=8, num_classes=CLASSES, dropout_ratio=0.0),
)


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize('name', [name for name, one in ablation.CHANGES.items() if 'train' in one.steps])
def test_the_loss_is_the_same(model: torch.nn.Module, name: str) -> None:
    batch = model.data_preprocessor(random_batch((SIDE, SIDE), 2, CLASSES), True)

    def loss() -> dict:
        return {key: value.item() for key, value in model.train()(**batch, mode='loss').items()}

    plain = loss()
    with ablation.CHANGES[name].without():
        assert loss() == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize('name', [name for name, one in ablation.CHANGES.items() if 'infer' in one.steps])
def test_the_prediction_is_the_same(model: torch.nn.Module, name: str) -> None:
    data = random_batch((SIDE, SIDE), 1, CLASSES)

    def labels() -> torch.Tensor:
        with torch.no_grad():
            return model.eval().test_step(data)[0].pred_sem_seg.data.long()

    plain = labels()
    assert plain.unique().numel() > 1
    with ablation.CHANGES[name].without():
        assert (labels() == plain).float().mean() > 0.999


def test_three_histograms_count_the_areas_of_the_matrix() -> None:
    one, other = (
        sample.gt_sem_seg.data[0] for sample in random_batch((SIDE, SIDE), 2, CLASSES)['data_samples']
    )
    truth = other.clone()
    truth[:20] = 255
    matrix = iou.confusion_matrix(one, truth, CLASSES, 255)
    areas = ablation.three_histograms(one, truth, CLASSES, 255)
    assert areas[0].tolist() == matrix.diagonal().tolist()
    assert sorted([areas[1].tolist(), areas[2].tolist()]) == sorted(
        [matrix.sum(0).tolist(), matrix.sum(1).tolist()]
    )
    assert areas.shape == matrix.shape
