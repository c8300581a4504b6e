# The same for 360 epochs of 187 iterations on Cityscapes.
_base_ = ['adamw_finetune_152k.py']
max_iters = 67320
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 12)
