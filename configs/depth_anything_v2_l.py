# Depth Anything V2 with ViT-L/14 (arXiv 2406.09414), relative: larger is nearer. Loads
# depth_anything_v2_vitl.pth of github.com/DepthAnything/Depth-Anything-V2 (CC BY-NC 4.0).
_base_ = [
    '_base_/models/depth_anything_v2-l.py',
    '_base_/datasets/depth_folder_518x518.py',
    '_base_/depth_runtime.py',
]
test_evaluator = dict(inverse=True, alignment='least_squares_disparity')
