"""Published DPT models: where they are, what their authors report, and what of them runs here.

This table makes docs/zoo.md (``python docs/make_zoo.py``) and the names that :func:`dpt.load` accepts.
"""

from dataclasses import dataclass, replace

_ISL = 'https://github.com/intel-isl/DPT/releases/download/1_0'
_MIDAS = 'https://github.com/isl-org/MiDaS/releases/download'
_MMSEG = 'https://download.openmmlab.com/mmsegmentation/v0.5/dpt'
_HUB = 'https://huggingface.co'
_META = 'https://dl.fbaipublicfiles.com/dinov2'


@dataclass(frozen=True)
class Published:
    """A published model.

    Args:
        source: URL of the file or the page, or ``hf://OWNER/NAME``.
        licence: Licence of the weights.
        figures: Figures that the authors report, with the protocol.
        reference: Where the figures are from.
        config: Config of this package to fine-tune it.
        checked: What was checked here.
        missing: Why :func:`dpt.load` cannot load it; ``''`` if it can.
    """

    source: str
    licence: str
    figures: str
    reference: str
    config: str = ''
    checked: str = ''
    missing: str = ''


_SAME_CODE = 'equal to the original code, with random weights'
_SAME_HF = "equal to transformers' model, with random weights"
_EQUAL = "equal to transformers' model and to the original's formulas, with random weights"

SEGMENTATION = {
    'dpt_vit-b16_512x512_160k_ade20k': Published(
        f'{_MMSEG}/dpt_vit-b16_512x512_160k_ade20k/dpt_vit-b16_512x512_160k_ade20k-db31cf52.pth',
        'Apache-2.0',
        'ADE20K validation: 46.97 mIoU at a single scale, 48.34 with 6 scales and flip',
        'MMSegmentation, configs/dpt',
        'dpt_vit-b16_512x512_160k_ade20k.py',
        "equal to MMSegmentation's model, with random weights",
    ),
    'dpt_large-ade20k': Published(
        f'{_ISL}/dpt_large-ade20k-b12dca68.pt',
        'MIT',
        'ADE20K validation: 47.63 mIoU; the card of Intel/dpt-large-ade quotes the 49.02 of the hybrid',
        'DPT paper, table 4, from public notes on it; the original resizes as for the hybrid model',
        'dpt_vit-l16_512x512_160k_ade20k.py',
        _EQUAL,
    ),
    'dpt_hybrid-ade20k': Published(
        f'{_ISL}/dpt_hybrid-ade20k-53898607.pt',
        'MIT',
        'ADE20K validation: 49.02 mIoU, 83.11 pixel accuracy',
        'DPT paper; the original resizes the shorter side to about 480 and upsamples bicubically',
        'dpt_hybrid_512x512_160k_ade20k.py',
        _EQUAL,
    ),
    'Intel/dpt-large-ade': Published(
        'hf://Intel/dpt-large-ade',
        'Apache-2.0',
        'the weights of dpt_large-ade20k for transformers',
        'model card',
        'dpt_vit-l16_512x512_160k_ade20k.py',
        _SAME_HF,
    ),
    'UniMatch-V2': Published(
        f'{_HUB}/LiheYoung/UniMatch-V2',
        'MIT',
        'DINOv2-B trained on some of the labels: ADE20K, 1/8: 49.8 mIoU; Cityscapes, 1/2: 85.1; VOC, 1,464 '
        'images: 90.8; COCO, 1/32: 63.3',
        'README of UniMatch V2; single scale, Cityscapes in windows',
        'dpt_dinov2-b14_518x518_152k_ade20k.py',
        checked=_SAME_CODE,
        missing='there are many files: download one, and load its path',
    ),
}


def _isl(name: str, file: str, figures: str, reference: str) -> tuple[str, Published]:
    config = f'{name.replace("-", "_")}.py'
    return name, Published(f'{_ISL}/{file}', 'MIT', figures, reference, config, _SAME_CODE)


_ZERO_SHOT = (
    'zero-shot: {} KITTI, {} NYU, {} TUM (% of pixels with delta > 1.25), {} ETH3D, {} Sintel (AbsRel)'
)
_LARGE = _ZERO_SHOT.format(8.46, 8.32, 9.97, 0.0888, 0.2697)
_HYBRID = _ZERO_SHOT.format(11.56, 8.69, 10.89, 0.0934, 0.2741)
_MIDAS_31 = {  # KITTI, NYU, TUM, ETH3D, Sintel; KITTI and NYU were in its training data
    'dpt_beit_large_512': (6.28, 2.16, 6.13, 0.0681, 0.2176),
    'dpt_beit_large_384': (9.84, 2.21, 7.17, 0.0667, 0.2545),
    'dpt_beit_base_384': (26.60, 3.91, 9.88, 0.0967, 0.2901),
    'dpt_swin2_large_384': (5.84, 2.92, 8.87, 0.0732, 0.2442),
    'dpt_swin2_base_384': (5.97, 3.28, 8.93, 0.0790, 0.2404),
    'dpt_swin2_tiny_256': (10.13, 5.55, 13.43, 0.1106, 0.2868),
    'dpt_swin_large_384': (6.60, 3.34, 8.74, 0.0853, 0.2428),
    'dpt_next_vit_large_384': (6.89, 3.47, 9.21, 0.0954, 0.2295),
    'dpt_levit_224': (15.27, 8.64, 18.21, 0.1206, 0.3148),
}
_V1 = {  # AbsRel and delta 1 on KITTI and NYU
    'small': (0.080, 0.936, 0.053, 0.972),
    'base': (0.080, 0.939, 0.046, 0.979),
    'large': (0.076, 0.947, 0.043, 0.981),
}
_V2 = {  # AbsRel and delta 1 on KITTI and NYU, accuracy on DA-2K in percent
    'small': (0.078, 0.936, 0.053, 0.973, 95.3),
    'base': (0.078, 0.939, 0.049, 0.976, '97.0 (97.34 in nagadomi/nunif #744)'),
    'large': (0.074, 0.946, 0.045, 0.979, 97.1),
}
_RMSE = {'s': (0.356, 2.34), 'b': (0.317, 2.23), 'l': (0.293, 2.14), 'g': (0.279, 2.11)}


def _depth() -> dict[str, Published]:
    readme = 'README of MiDaS'
    found = dict(
        [
            _isl('dpt_large-midas', 'dpt_large-midas-2f21e586.pt', _LARGE, readme),
            _isl('dpt_hybrid-midas', 'dpt_hybrid-midas-501f0c75.pt', _HYBRID, readme),
            _isl(
                'dpt_hybrid_nyu',
                'dpt_hybrid_nyu-2ce69ec7.pt',
                'NYUv2, Eigen crop, 10 m: d1 0.904, AbsRel 0.109 (0.110 in the paper), RMSE 0.357',
                'EVALUATION.md of isl-org/DPT',
            ),
            _isl(
                'dpt_hybrid_kitti',
                'dpt_hybrid_kitti-cb926ef4.pt',
                'KITTI, KB and Garg crops, 80 m: d1 0.959, AbsRel 0.062, RMSE 2.575 (2.573 in the paper)',
                'EVALUATION.md of isl-org/DPT',
            ),
        ]
    )
    for name, figures in (('dpt_large_384', _LARGE), ('dpt_hybrid_384', _HYBRID)):
        config = f'{name.replace("384", "midas")}.py'
        found[name] = Published(f'{_MIDAS}/v3/{name}.pt', 'MIT', figures, readme, config, _SAME_CODE)
    for name, values in _MIDAS_31.items():
        height = {'256': 256, '224': 224}.get(name[-3:], 384)
        text = f'height {height}, trained on KITTI and NYU, too'
        text = _ZERO_SHOT.format(*values).replace('zero-shot', text)
        source = f'{_MIDAS}/v3_1/{name}.pt'
        found[name] = Published(source, 'MIT', text, readme, missing='its backbones have no key table here')
    return found | _depth_anything() | _dinov2() | _transformers()


def _depth_anything() -> dict[str, Published]:
    found = {}
    for size, (kitti, kitti_d1, nyu, nyu_d1) in _V1.items():
        found[f'depth-anything-{size}'] = Published(
            f'{_HUB}/spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints/depth_anything_vit{size[0]}14.pth',
            'Apache-2.0',
            f'zero-shot, aligned: KITTI AbsRel {kitti:.3f}, d1 {kitti_d1}; NYU {nyu:.3f}, {nyu_d1}',
            'README of Depth Anything',
            f'depth_anything_v1_{size[0]}.py',
            _SAME_CODE,
        )
    for size, (kitti, kitti_d1, nyu, nyu_d1, pairs) in _V2.items():
        owner = f'{_HUB}/depth-anything/Depth-Anything-V2'
        licence = 'Apache-2.0' if size == 'small' else 'CC-BY-NC-4.0'
        file = f'vit{size[0]}.pth'
        found[f'depth-anything-v2-{size}'] = Published(
            f'{owner}-{size.title()}/resolve/main/depth_anything_v2_{file}',
            licence,
            f'zero-shot, aligned: KITTI AbsRel {kitti:.3f}, d1 {kitti_d1}; NYU {nyu:.3f}, {nyu_d1}; '
            f'DA-2K, % of pairs in the right order: {pairs}',
            'Depth Anything V2 paper, tables 2 and 3, from public notes on it',
            f'depth_anything_v2_{size[0]}.py',
            _SAME_CODE,
        )
        for data, place in (('Hypersim', 'indoor'), ('VKITTI', 'outdoor')):
            found[f'depth-anything-v2-metric-{place}-{size}'] = Published(
                f'{owner}-Metric-{data}-{size.title()}/resolve/main/depth_anything_v2_metric_{data.lower()}_{file}',
                licence,
                'not reported',
                'metric_depth of Depth Anything V2',
                f'depth_anything_v2_{size[0]}_{place}.py',
                _SAME_CODE,
            )
    found['depth-anything-metric'] = Published(
        f'{_HUB}/spaces/LiheYoung/Depth-Anything',
        'Apache-2.0',
        'fine-tuned on each, with the bins of ZoeDepth: NYU AbsRel 0.056, d1 0.984; KITTI 0.046, 0.982',
        'metric_depth of Depth Anything',
        missing='the metric bins of ZoeDepth are not part of DPT',
    )
    return found


def _dinov2() -> dict[str, Published]:
    found = {}
    for size, errors in _RMSE.items():
        for data, error in zip(('nyu', 'kitti'), errors, strict=True):
            found[f'dinov2_vit{size}14_{data}_dpt'] = Published(
                f'{_META}/dinov2_vit{size}14/dinov2_vit{size}14_{data}_dpt_head.pth',
                'Apache-2.0',
                f'frozen encoder, {data.upper()}: RMSE {error}',
                'DINOv2 paper, table 11',
                checked='equal to the original formulas, with random weights',
            )
    found['dinov3_vit7b16_dd'] = Published(
        'https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/',
        'DINOv3 License',
        'trained on SYNTHMIX',
        'README of DINOv3',
        missing='its download asks for consent: download the head, and load its path',
    )
    return found


def _transformers() -> dict[str, Published]:
    """Return the same weights under the keys of transformers."""
    names = {
        'Intel/dpt-large': 'dpt_large-midas',
        'Intel/dpt-hybrid-midas': 'dpt_hybrid-midas',
        **{f'LiheYoung/depth-anything-{size}-hf': f'depth-anything-{size}' for size in _V1},
    }
    for size in _V1:
        owner = 'depth-anything/Depth-Anything-V2'
        names[f'{owner}-{size.title()}-hf'] = f'depth-anything-v2-{size}'
        for place in ('indoor', 'outdoor'):
            name = f'{owner}-Metric-{place.title()}-{size.title()}-hf'
            names[name] = f'depth-anything-v2-metric-{place}-{size}'
    for size in ('small', 'base', 'large', 'giant'):
        for data in ('nyu', 'kitti'):
            names[f'facebook/dpt-dinov2-{size}-{data}'] = f'dinov2_vit{size[0]}14_{data}_dpt'
    licences = {'Intel/dpt-large': 'Apache-2.0', 'Intel/dpt-hybrid-midas': 'Apache-2.0'}
    one = Published('', 'as the original', '', 'model card', checked=_SAME_HF)
    return {
        name: replace(
            one,
            source=f'hf://{name}',
            missing=f'load {original}: transformers gives its gated layers other keys'
            if 'giant' in name
            else '',
            licence=licences.get(name, one.licence),
            figures=f'the weights of {original} for transformers',
        )
        for name, original in names.items()
    }


DEPTH = _depth()
ZOO = {**SEGMENTATION, **DEPTH}
"""The models by name."""
