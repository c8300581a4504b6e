# The recipe of DINOv2 (UniMatch V2) with DINOv3. No figure of DPT over DINOv3 is published for Cityscapes.
_base_ = [
    '_base_/models/dpt_dinov3-b16.py',
    '_base_/datasets/cityscapes_800x800.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_finetune_67k.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    loss=dict(_delete_=True, type='OhemCrossEntropy', thres=0.7, min_kept=200000),
    # Windows overlap by a third.
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(533, 533)),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
