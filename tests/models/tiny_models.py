"""Tiny models, images and samples."""

import torch
from mmengine.structures import PixelData
from torch import Tensor

from dpt.models import EncoderDecoder
from dpt.registry import MODELS
from dpt.structures import SegDataSample

CLASSES = 5
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3)
VIT = dict(embed_dims=24, num_layers=4, num_heads=3)
BACKBONES = {
    'vit': dict(VIT, type='VisionTransformer', img_size=32, patch_size=8, out_indices=(0, 1, 2, 3)),
    'hybrid': dict(
        VIT,
        type='HybridVisionTransformer',
        img_size=64,
        out_indices=(1, 3),
        stem_channels=32,
        stage_channels=(128, 128, 128),
        stage_depths=(1, 1, 2),
    ),
}
NECKS = {
    'vit': dict(post_process_channels=(4, 6, 8, 12)),
    'hybrid': dict(post_process_channels=(128, 128, 8, 12), identity_levels=(0, 1)),
}
WINDOWS = dict(mode='slide', crop_size=(32, 32), stride=(16, 24))


def config(kind: str = 'vit', **arguments: object) -> dict:
    return dict(
        dict(
            type='EncoderDecoder',
            data_preprocessor=PREPROCESSOR,
            backbone=BACKBONES[kind],
            neck=dict(NECKS[kind], type='DPTNeck', in_channels=24, channels=8),
            decode_head=dict(type='DPTHead', in_channels=8, num_classes=CLASSES, dropout_ratio=0.0),
        ),
        **arguments,
    )


def build(kind: str = 'vit', **arguments: object) -> EncoderDecoder:
    """A model in evaluation mode whose weights let every part count."""
    torch.manual_seed(0)
    model = MODELS.build(config(kind, **arguments))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def sample(size: tuple[int, int], **meta: object) -> SegDataSample:
    """A sample labelled 0, with img_shape and ori_shape of ``size`` unless given."""
    made = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *size, dtype=torch.uint8)))
    made.set_metainfo(dict(dict(img_path='a.jpg', img_shape=size, ori_shape=size), **meta))
    return made


def image(size: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def labels(model: EncoderDecoder, inputs: Tensor) -> Tensor:
    """Predicted labels of shape HxW of a single image of shape 1x3xHxW."""
    with torch.no_grad():
        return model.predict(inputs)[0].pred_sem_seg.data[0]


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    """Compare with the largest value: a tolerance for each value would be too strict near zero."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
