# Depth Anything V1 with ViT-B/14 (arXiv 2401.10891), relative: larger is nearer. Loads
# depth_anything_vitb14.pth of github.com/LiheYoung/Depth-Anything (Apache-2.0). It takes the last four
# layers, V2 every fourth part, and resizes its output with align_corners=False (run.py).
_base_ = ['depth_anything_v2_b.py']
model = dict(backbone=dict(out_indices=(8, 9, 10, 11)), align_corners=False)
