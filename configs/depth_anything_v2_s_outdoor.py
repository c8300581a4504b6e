# Depth Anything V2 with ViT-S/14, in metres, outdoor: up to 80 m. Loads
# depth_anything_v2_metric_vkitti_vits.pth of github.com/DepthAnything/Depth-Anything-V2 (Apache-2.0).
_base_ = ['depth_anything_v2_s.py']
model = dict(
    decode_head=dict(output='sigmoid', max_depth=80.0, relative=False),
    loss=dict(_delete_=True, type='SiLogLoss'),
    max_depth=80.0,
)
test_evaluator = dict(_delete_=True, type='DepthMetric', max_depth_eval=80.0)
