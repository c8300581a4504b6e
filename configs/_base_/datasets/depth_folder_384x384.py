# Images and depth in any folders, resized as in MiDaS and the original DPT: the side that changes less
# becomes 384, both are multiples of 32. `depth_rescale_factor` converts the numbers in the files to metres:
# 0.001 for millimetres.
_base_ = ['depth_folder_518x518.py']
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeToBound', scale=384, method='minimal', size_divisor=32, interpolation='bicubic'),
    *_base_.test_pipeline[2:],
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_pipeline[-1]]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
