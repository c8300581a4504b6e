# Depth Anything V2 with ViT-L/14, in metres, indoor: up to 20 m. Loads
# depth_anything_v2_metric_hypersim_vitl.pth of github.com/DepthAnything/Depth-Anything-V2 (CC BY-NC 4.0).
_base_ = ['depth_anything_v2_l.py']
model = dict(
    decode_head=dict(output='sigmoid', max_depth=20.0, relative=False),
    loss=dict(_delete_=True, type='SiLogLoss'),
    max_depth=20.0,
)
test_evaluator = dict(_delete_=True, type='DepthMetric', max_depth_eval=20.0)
