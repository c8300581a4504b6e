"""Write the config for training on a new data set."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from dpt.extras.own_data.annotations import Pairs
from dpt.extras.own_data.classes import Proposal
from dpt.extras.own_data.dataset import MASKS, reads_in_place

LONG_SIDE = 720
"""Longest side of a scaled image in pixels."""
CROP_SIDE = 476
"""Longest side of a crop in pixels."""

TEMPLATE = """\
# {name}: {counts} images, {number} classes. Written by tools/new_dataset.py.
_base_ = [{base!r}]
data_root = {root!r}
classes = (
{classes}
)
num_classes = {number}
# Images are resized to fit (width, height), keeping the aspect ratio; the median image is {width}x{height}
test_scale = {scale}
crop_size = {crop}  # (height, width), multiples of {step}, twice the patch size

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
train_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/training.txt', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/validation.txt', pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(_delete_=True, **data, ann_file='splits/{test}.txt', pipeline=test_pipeline)
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=num_classes),
{of_classes})
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
        name: Name of the data set.
        file: Path of the config.
        base: Base config.
        out: Folder of the split files and converted masks.
        pairs: Images and annotations.
        proposal: Classes.
        lists: Images of each split.
        median: (height, width) of the median image.
    """
    in_place = reads_in_place(pairs, proposal)
    model = Config.fromfile(str(base)).model
    step = 2 * model.backbone.get('patch_size', 16)
    scale, crop = sizes(median, step)
    colours = [list(colour) for colour in proposal.palette or ()]
    palette = ''.join(f'            {colour},\n' for colour in colours)
    coloured = f'\n        classes=classes,\n        palette=[\n{palette}        ],\n    '
    return TEMPLATE.format(
        name=name,
        counts=' + '.join(f'{len(images)} {one}' for one, images in lists.items()),
        number=len(proposal.classes),
        base=path_from(file.parent, base),
        root=out.as_posix(),
        classes='\n'.join(f'    {one!r},' for one in proposal.classes),
        width=median[1],
        height=median[0],
        scale=scale,
        crop=crop,
        step=step,
        images=path_from(out, pairs.images),
        masks=path_from(out, pairs.masks) if in_place else MASKS,
        image_suffix=pairs.image_suffix,
        mask_suffix=pairs.mask_end if in_place else '.png',
        metainfo=coloured if colours else 'classes=classes',
        reduce=in_place and proposal.reduce_zero_label,
        test='test' if 'test' in lists else 'validation',
        of_classes=''.join(f'    {line},\n' for line in settings_of_classes(model)),
    )


def path_from(folder: Path, path: Path) -> str:
    """Return a path relative to a folder, so that both can be moved together.

    The result is absolute if either argument is absolute, or if symbolic links make the relative path wrong.
    """
    if path.is_absolute() or folder.is_absolute():
        return path.resolve().as_posix()
    relative = os.path.relpath(path, folder)
    leads_there = (folder / relative).resolve() == path.resolve()
    return Path(relative).as_posix() if leads_there else path.resolve().as_posix()


def settings_of_classes(model: ConfigDict) -> list[str]:
    """Return config lines that adapt the settings which depend on the number of classes."""
    lines = []
    if model.get('auxiliary_heads'):
        heads = [
            ', '.join(
                f'{key}={"num_classes" if key == "num_classes" else repr(value)}'
                for key, value in head.items()
            )
            for head in model.auxiliary_heads
        ]
        lines.append(f'auxiliary_heads=[{", ".join(f"dict({head})" for head in heads)}]')
    for loss in ('loss', 'auxiliary_loss'):
        given = model.get(loss) or {}
        if isinstance(given, list):
            kept = [{key: value for key, value in one.items() if key != 'class_weight'} for one in given]
            lines += [f'{loss}={kept!r}'] if kept != given else []
        elif given.get('class_weight'):
            lines.append(f'{loss}=dict(class_weight=None)')
    return lines


def sizes(median: tuple[int, int], step: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the test scale (width, height) and the crop (height, width) for a median (height, width).

    Args:
        median: (height, width) of the median image.
        step: The sides of the crop are multiples of this.
    """
    ratio = min(1.0, LONG_SIDE / max(median))
    height, width = (max(round(side * ratio), 1) for side in median)
    crop = [max(min(side, CROP_SIDE) // step, 1) * step for side in (height, width)]
    return (width, height), (crop[0], crop[1])
