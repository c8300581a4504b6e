# All of the pretrained ViT-S/14 is trained, with 1/200 of the decoder's learning rate, which is 1e-5: with
# 6e-5, the loss was 1.5 after 80 iterations, and 1.1 with LoRA.
_base_ = ['dpt_vit-s14_252x336_camvid_cpu.py']
max_iters = 1500
model = dict(backbone=dict(drop_path_rate=0.1, frozen_stages=-1))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'backbone.pos_embed': dict(lr_mult=0.005, decay_mult=0.0),
            'backbone.cls_token': dict(lr_mult=0.005, decay_mult=0.0),
            'backbone': dict(lr_mult=0.005),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=_base_.warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=_base_.warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=500))
