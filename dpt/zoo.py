"""Published DPT models: where they are, what their authors report, and what of them runs here.

This table makes docs/zoo.md (``python docs/make_zoo.py``) and the names that :func:`dpt.load` accepts.
"""

from dataclasses import dataclass

_ISL = 'https://github.com/intel-isl/DPT/releases/download/1_0'
_MMSEG = 'https://download.openmmlab.com/mmsegmentation/v0.5/dpt'
_HUB = 'https://huggingface.co'


@dataclass(frozen=True)
class Published:
    """A published model.

    Args:
        task: ``'segmentation'`` or ``'depth'``.
        source: URL of the file, or ``hf://OWNER/NAME``.
        licence: Licence of the weights.
        figures: Figures that the authors report, with the protocol.
        reference: Where the figures are from.
        config: Config of this package to run and to fine-tune it; ``''`` if it cannot be loaded yet.
        checked: What was checked here.
        note: Why it cannot be loaded, or what to know about it.
    """

    task: str
    source: str
    licence: str
    figures: str
    reference: str
    config: str = ''
    checked: str = 'nothing'
    note: str = ''


_RANDOM = 'random weights with its keys'
_ADE20K = 'ADE20K validation'

SEGMENTATION = {
    'dpt_vit-b16_512x512_160k_ade20k': Published(
        'segmentation',
        f'{_MMSEG}/dpt_vit-b16_512x512_160k_ade20k/dpt_vit-b16_512x512_160k_ade20k-db31cf52.pth',
        'Apache-2.0',
        f'46.97 mIoU single scale, 48.34 with 6 scales and flip; {_ADE20K}',
        "MMSegmentation's configs/dpt",
        'dpt_vit-b16_512x512_160k_ade20k.py',
        f"{_RANDOM}, equal to MMSegmentation's model",
    ),
    'dpt_large-ade20k': Published(
        'segmentation',
        f'{_ISL}/dpt_large-ade20k-b12dca68.pt',
        'MIT',
        f'47.63 mIoU, 82.70 pixel accuracy; {_ADE20K}',
        'DPT paper, table 4',
        'dpt_vit-l16_512x512_160k_ade20k.py',
        f"{_RANDOM}, equal to transformers' model and to the original's formulas",
        'the original resizes the shorter side to about 480 and upsamples bicubically',
    ),
    'dpt_hybrid-ade20k': Published(
        'segmentation',
        f'{_ISL}/dpt_hybrid-ade20k-53898607.pt',
        'MIT',
        f'49.02 mIoU, 83.11 pixel accuracy; {_ADE20K}',
        'DPT paper, table 4',
        'dpt_hybrid_512x512_160k_ade20k.py',
        f"{_RANDOM}, equal to transformers' model and to the original's formulas",
        'the original resizes the shorter side to about 480 and upsamples bicubically',
    ),
}
ZOO = SEGMENTATION
"""The models by name."""
