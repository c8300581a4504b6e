"""The tiny models that ``published_reference.npz`` is about."""

WIDTH, CHANNELS, CLASSES = 64, 16, 3
LEVELS = (8, 12, 16, 20)
STEM, STAGES = 32, (128, 128, 256)
SIZES = {14: ((56, 56), (42, 70)), 16: ((64, 64), (32, 96))}
"""By patch size; odd patch grids among them."""
FILES = {
    'depth_anything_v2': ('depth_anything_v2_vits.pth', 14),
    'depth_anything_v2_metric': ('depth_anything_v2_metric_hypersim_vits.pth', 14),
    'unimatch_v2': ('best.pth', 14),
    'dinov2_head': ('dinov2_vits14_nyu_dpt_head.pth', 14),
    'isl_vit': ('dpt_large_384.pt', 16),
    'isl_hybrid': ('dpt_hybrid_kitti-cb926ef4.pt', 16),
}
"""Name of the file, which tells the variant, and patch size."""
