"""A small DPT whose costs are told by hand."""

import pytest


@pytest.fixture
def model_config() -> dict:
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3, size=(64, 64)),
        backbone=dict(
            type='VisionTransformer',
            img_size=64,
            patch_size=16,
            embed_dims=32,
            num_layers=4,
            num_heads=2,
            out_indices=(0, 1, 2, 3),
        ),
        neck=dict(type='DPTNeck', in_channels=32, channels=16, post_process_channels=(4, 8, 12, 16)),
        decode_head=dict(type='DPTHead', in_channels=16, num_classes=5),
    )
