# DPT-Hybrid for depth (arXiv 2103.13413), vitb_rn50_384 of isl-org/DPT and MiDaS 3.0: ViT-B on a ResNet-50
# stem; the rest as in DPT-Large for depth.
_base_ = ['dpt_large_depth.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='HybridVisionTransformer',
        img_size=384,
        stem_channels=64,
        stage_channels=(256, 512, 1024),
        stage_depths=(3, 4, 9),
        embed_dims=768,
        num_layers=12,
        num_heads=12,
        out_indices=(8, 11),
        interpolate_mode='bilinear',
    ),
    # The two finer levels are stages of the stem.
    neck=dict(in_channels=768, post_process_channels=(256, 512, 768, 768), identity_levels=(0, 1)),
)
