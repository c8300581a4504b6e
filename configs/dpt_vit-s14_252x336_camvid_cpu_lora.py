# LoRA adapters of rank 8 on the attention of the pretrained ViT-S/14, whose own weights stay as they are. The
# adapters have a quarter of the decoder's learning rate: 5e-4, a usual value for LoRA (arXiv 2106.09685).
_base_ = ['dpt_vit-s14_252x336_camvid_cpu_full.py']
model = dict(backbone=dict(drop_path_rate=0.0, lora=dict(r=8, alpha=16)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True, backbone=dict(lr_mult=0.25))))
