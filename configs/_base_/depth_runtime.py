_base_ = ['default_runtime.py']
default_hooks = dict(checkpoint=dict(save_best='abs_rel', rule='less'))
tta_model = dict(type='DepthTTAModel')
