"""The config that trains on a new data set."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dpt.datasets.own.classes import Proposal
from dpt.datasets.own.pairing import Pairs
from dpt.datasets.own.write import MASKS, reads_in_place

LONG_SIDE = 720
"""Images are scaled so that their longer side has at most so many pixels."""
CROP_SIDE = 476
"""Longest side of a crop."""
STEP = 28
"""Sides of crops are multiples of that: twice the patch of 14, so that no grid is odd."""

TEMPLATE = """\
# {name}: {counts} images, {number} classes. Made by tools/new_dataset.py, to be changed at will.
_base_ = [{base!r}]
data_root = {root!r}
classes = (
{classes}
)
num_classes = {number}
# (width, height) that an image is fitted into, aspect kept; the median image is {width}x{height}
test_scale = {scale}
crop_size = {crop}  # (height, width), multiples of 28

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=test_scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_ratios = (0.75, 1.0, 1.25, 1.5, 1.75)
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(int(test_scale[0] * r), int(test_scale[1] * r)), keep_ratio=True)
                for r in tta_ratios
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
data = dict(
    type='BaseSegDataset',
    data_root=data_root,
    data_prefix=dict(
        img_path={images!r},
        seg_map_path={masks!r},
    ),
    img_suffix={image_suffix!r},
    seg_map_suffix={mask_suffix!r},
    metainfo=dict({metainfo}),
    reduce_zero_label={reduce},
)
train_dataloader = dict(dataset=dict(**data, ann_file='splits/training.txt', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, ann_file='splits/validation.txt', pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(**data, ann_file='splits/{test}.txt', pipeline=test_pipeline))
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=num_classes),
    auxiliary_heads=[dict(type='FCNHead', in_channels=256, num_classes=num_classes, in_index=1)],
)
"""


def config_text(
    name: str,
    file: Path,
    base: Path,
    out: Path,
    pairs: Pairs,
    proposal: Proposal,
    lists: Mapping[str, Sequence[str]],
    median: tuple[int, int],
) -> str:
    """Return the text of a config.

    Args:
        name: What the data set is called.
        file: Where the config will be.
        base: The config that it starts from.
        out: Folder of lists and converted masks.
        pairs: Images and annotations.
        proposal: Classes.
        lists: Images of each split.
        median: (height, width) of the median image.
    """
    in_place = reads_in_place(pairs, proposal)
    scale, crop = sizes(median)
    colours = [list(colour) for colour in proposal.palette or ()]
    palette = ''.join(f'        {colour},\n' for colour in colours)
    return TEMPLATE.format(
        name=name,
        counts=' + '.join(f'{len(images)} {one}' for one, images in lists.items()),
        number=len(proposal.classes),
        base=os.path.relpath(base.resolve(), file.resolve().parent),
        root=str(out.resolve()),
        classes='\n'.join(f'    {one!r},' for one in proposal.classes),
        width=median[1],
        height=median[0],
        scale=scale,
        crop=crop,
        images=str(pairs.images.resolve()),
        masks=str(pairs.masks.resolve()) if in_place else MASKS,
        image_suffix=pairs.image_suffix,
        mask_suffix=pairs.mask_end if in_place else '.png',
        metainfo=f'classes=classes, palette=[\n{palette}    ]' if colours else 'classes=classes',
        reduce=in_place and proposal.reduce_zero_label,
        test='test' if 'test' in lists else 'validation',
    )


def sizes(median: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the test scale (width, height) and the crop (height, width) for a median (height, width)."""
    ratio = min(1.0, LONG_SIDE / max(median))
    height, width = (max(round(side * ratio), 1) for side in median)
    crop = [min(max(side // STEP, 1) * STEP, CROP_SIDE) for side in (height, width)]
    return (width, height), (crop[0], crop[1])
