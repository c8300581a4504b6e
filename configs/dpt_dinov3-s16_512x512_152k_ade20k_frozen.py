# Only the decoder is trained, as SegDINO does over DINOv3 (arXiv 2509.00833, with another decoder and on
# other data).
_base_ = ['dpt_dinov3-s16_512x512_152k_ade20k.py']
model = dict(backbone=dict(frozen_stages=12))
