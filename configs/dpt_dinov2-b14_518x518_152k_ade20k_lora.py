# LoRA adapters on the attention of every layer; the weights of DINOv2 stay as they are. Rank 8 and twice
# the rank as alpha are usual values (LoRA, arXiv 2106.09685); no figure is published for a DPT. The
# adapters start without effect and use the decoder's learning rate.
_base_ = ['dpt_dinov2-b14_518x518_152k_ade20k.py']
model = dict(backbone=dict(lora=dict(r=8, alpha=16)))
optim_wrapper = dict(paramwise_cfg=None)
