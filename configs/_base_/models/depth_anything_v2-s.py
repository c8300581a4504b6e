# Depth Anything V2 with DINOv2 ViT-S/14.
_base_ = ['depth_anything_v2-b.py']
model = dict(
    backbone=dict(embed_dims=384, num_heads=6),
    neck=dict(in_channels=384, channels=64, post_process_channels=(48, 96, 192, 384)),
    decode_head=dict(in_channels=64),
)
