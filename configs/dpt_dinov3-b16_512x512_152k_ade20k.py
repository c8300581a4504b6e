# The recipe of DINOv2 (UniMatch V2) with DINOv3. No figure of DPT over DINOv3 is published for ADE20K.
_base_ = [
    '_base_/models/dpt_dinov3-b16.py',
    '_base_/datasets/ade20k_512x512_plain.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_finetune_152k.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=_base_.num_classes))
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
