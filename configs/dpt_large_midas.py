# DPT-Large of MiDaS 3.0 (arXiv 2103.13413), relative: larger is nearer. Loads
# dpt_large-midas-2f21e586.pt of isl-org/DPT, dpt_large_384.pt of isl-org/MiDaS.
_base_ = [
    '_base_/models/dpt_large_depth.py',
    '_base_/datasets/depth_folder_384x384.py',
    '_base_/depth_runtime.py',
]
test_evaluator = dict(inverse=True, alignment='least_squares_disparity')
