# Depth Anything V2 with DINOv2 ViT-L/14.
_base_ = ['depth_anything_v2-b.py']
model = dict(
    backbone=dict(embed_dims=1024, num_layers=24, num_heads=16, out_indices=(4, 11, 17, 23)),
    neck=dict(in_channels=1024, channels=256, post_process_channels=(256, 512, 1024, 1024)),
    decode_head=dict(in_channels=256),
)
