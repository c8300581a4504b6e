# No figure is published for ViT-L.
_base_ = [
    '_base_/models/dpt_dinov2-l14.py',
    '_base_/datasets/cityscapes_798x798.py',
    '_base_/default_runtime.py',
    '_base_/schedules/adamw_finetune_67k.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    loss=dict(_delete_=True, type='OhemCrossEntropy', thres=0.7, min_kept=200000),
    # In UniMatch V2, windows overlap by a third and their probabilities are summed; here their logits are
    # summed.
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(532, 532)),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
