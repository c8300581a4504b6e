# Depth Anything V2 ViT-S/14 fine-tuned to metric depth on pairs of your own: the published recipe with fewer
# iterations and a smaller batch. Set data_root, depth_rescale_factor of the data sets, and max_depth in the
# three places to the largest depth in metres.
_base_ = [
    '_base_/models/depth_anything_v2-s.py',
    '_base_/datasets/depth_own_518x518.py',
    '_base_/schedules/depth_finetune.py',
    '_base_/depth_runtime.py',
]
total_batch_size = 8
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/depth_anything_v2_vits.pth')),
    decode_head=dict(output='sigmoid', max_depth=20.0, relative=False),
    loss=dict(_delete_=True, type='SiLogLoss', variance_focus=0.5, per_image=False),
    min_depth=1e-3,
    max_depth=20.0,
)
val_evaluator = dict(type='DepthMetric', min_depth_eval=1e-3, max_depth_eval=20.0, depth_clamp=True)
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
