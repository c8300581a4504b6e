# UniMatch V2 trained on all labels: 48.95 mIoU (last: 48.74), the best of its validations, single scale
# (training log; 4 GPUs x 4 images).
_base_ = [
    '_base_/models/dpt_dinov2-s14.py',
    '_base_/datasets/ade20k_518x518.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_finetune_152k.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=_base_.num_classes))
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
