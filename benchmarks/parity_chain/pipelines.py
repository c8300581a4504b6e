"""Link 3: both sides create the same network inputs and labels from the same images and random draws.

Transforms outside the recipe run on made images.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .inputs import labels, raw_image
from .job import Arrays, Job
from .side import Side
from .table import Row, absolute_difference, count_unequal

SPLITS = ('training', 'validation')
TEST_IMAGES = 20
BATCH = 4
SIZES = ((64, 96), (97, 61), (50, 50), (40, 160))
ALBU = [
    dict(type='Affine', rotate=(-30, 30), scale=(0.8, 1.2), fill_mask=255, p=0.8),
    dict(type='RandomBrightnessContrast', p=0.5),
    dict(type='OneOf', transforms=[dict(type='Blur', p=1.0), dict(type='HueSaturationValue', p=1.0)], p=0.5),
]
TRANSFORMS = (
    dict(type='RandomRotate', prob=0.7, degree=20.0),
    dict(type='RandomRotate', prob=1.0, degree=(10.0, 80.0), seg_pad_val=255, auto_bound=True),
    dict(type='RandomRotate', prob=1.0, degree=45.0, center=(20.0, 5.0), seg_pad_val=3),
    dict(type='RandomCutOut', prob=0.7, n_holes=(1, 4), cutout_shape=[(10, 8), (30, 4)]),
    dict(
        type='RandomCutOut', prob=1.0, n_holes=3, cutout_ratio=(0.3, 0.6), fill_in=(9, 8, 7), seg_fill_in=255
    ),
    dict(type='ResizeShortestEdge', scale=45, max_size=100),
    dict(type='ResizeShortestEdge', scale=(70, 80), max_size=2000),
    dict(type='RandomChoiceResize', scales=[30, 90], resize_type='ResizeShortestEdge', max_size=150),
    dict(type='CLAHE'),
    dict(type='CLAHE', clip_limit=2.5, tile_grid_size=(4, 6)),
    dict(type='AdjustGamma', gamma=0.6),
    dict(type='AdjustGamma', gamma=1.0),
    dict(type='AdjustGamma', gamma=2.2),
    dict(type='RGB2Gray'),
    dict(type='RGB2Gray', out_channels=1, weights=(0.2, 0.3, 0.5)),
    dict(type='Rerange', min_value=-1, max_value=1.5),
    dict(type='Albu', transforms=ALBU),
)


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Run the data sets and pipelines of the config on each folder of images."""
    for name, root in side.job.data_roots.items():
        split = next((one for one in SPLITS if (Path(root) / 'images' / one).is_dir()), None)
        if split is None:
            raise FileNotFoundError(f'{root} has no images/training or images/validation: use another folder')
        yield f'train_{name}', _train(side, root, split)
        yield f'test_{name}', _test(side, root, split)
    for i, config in enumerate(TRANSFORMS):
        yield f'transform_{i}', _transform(side, config)


def _transform(side: Side, config: dict) -> dict[str, np.ndarray]:
    """Apply a transform to made images with the seeds 0, 1, ..."""
    step, images, maps = side.transforms.build(config), [], []
    for seed in range(side.job.draws):
        size = SIZES[seed % len(SIZES)]
        image = np.ascontiguousarray(raw_image(f'transform{seed}', size).numpy().transpose(1, 2, 0))
        label = labels(f'transform{seed}', size).astype(np.uint8)
        random.seed(seed)
        np.random.seed(seed)
        sample = dict(
            img=image, gt_seg_map=label, seg_fields=['gt_seg_map'], img_shape=size, img_path='image.jpg'
        )
        found = side.apply(step, sample)
        # The preprocessor converts to float32.
        images.append(found['img'] if found['img'].dtype == np.uint8 else found['img'].astype(np.float32))
        maps.append(found['gt_seg_map'])
    shapes = np.array([str(image.shape) for image in images])
    return {'images': _stacked(images), 'labels': _stacked(maps), 'shapes': shapes}


def _train(side: Side, root: str, split: str) -> dict[str, np.ndarray]:
    dataset = side.dataset('train_dataloader', root, split)
    packed = []
    for draw in range(side.job.draws):
        random.seed(draw)
        np.random.seed(draw)  # both pipelines use these generators
        packed.append(dataset[draw % len(dataset)])
    arrays = {
        'images': _stacked([one['inputs'].numpy() for one in packed]),
        'labels': _stacked([one['data_samples'].gt_sem_seg.data.numpy() for one in packed]),
        'meta': np.array([_described(one['data_samples'], packed=one['inputs']) for one in packed]),
        'dataset': np.array(_dataset_description(dataset)),
    }
    preprocess = side.build_model(f'preprocess_{Path(root).name}', small=True).data_preprocessor
    batch = packed[:BATCH]
    made = preprocess(
        dict(inputs=[one['inputs'] for one in batch], data_samples=[one['data_samples'] for one in batch]),
        True,
    )
    arrays['batch'] = made['inputs'].numpy()
    arrays['batch_labels'] = np.stack([one.gt_sem_seg.data.numpy() for one in made['data_samples']])
    return arrays


def _test(side: Side, root: str, split: str) -> dict[str, np.ndarray]:
    dataset = side.dataset('test_dataloader', root, split)
    preprocess = side.build_model(f'preprocess_{Path(root).name}_test', small=True).data_preprocessor
    images, labels, meta, inputs = [], [], [], []
    for index in range(min(TEST_IMAGES, len(dataset))):
        one = dataset[index]
        images.append(one['inputs'].numpy())
        labels.append(one['data_samples'].gt_sem_seg.data.numpy())
        meta.append(_described(one['data_samples'], packed=one['inputs']))
        made = preprocess(dict(inputs=[one['inputs']], data_samples=[one['data_samples']]), False)
        inputs.append(made['inputs'].numpy()[0])
    return {
        'images': _stacked(images),
        'labels': _stacked(labels),
        'batch': _stacked(inputs),
        'meta': np.array(meta),
    }


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenate arrays into one vector; ``meta`` contains their shapes."""
    kind = arrays[0].dtype if arrays[0].dtype.kind == 'f' else np.uint8
    return np.concatenate([array.astype(kind).ravel() for array in arrays])


def _described(data_sample: object, packed: object) -> str:
    meta = data_sample.metainfo
    known = {
        key: meta.get(key)
        for key in ('img_shape', 'ori_shape', 'scale_factor', 'flip', 'flip_direction', 'reduce_zero_label')
    }
    known['shape'] = list(packed.shape)
    known['img_path'] = Path(meta['img_path']).name
    return json.dumps(known, default=list)


def _dataset_description(dataset: object) -> list[str]:
    meta = dataset.metainfo
    files = [Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))]
    listing = hashlib.sha256('\n'.join(files).encode()).hexdigest()
    return [f'{len(files)} {listing}', *meta['classes'], *map(str, meta['palette'])]


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    kind, name = case.split('_', 1)
    if kind == 'transform':
        return [_row_of_transform(TRANSFORMS[int(name)], theirs, ours)]
    count = len(theirs['meta'])
    what = f'{name}, {count} {"random draws" if kind == "train" else "test images"}'

    def row(measure: str, difference: float) -> Row:
        return Row('pipelines', f'{what}: {measure}', difference, 0)

    rows = [
        row('grey levels', absolute_difference(theirs['images'], ours['images'])),
        row('label maps, pixels that differ', _unequal(theirs['labels'], ours['labels'])),
        row('sizes, scales, flips and names that differ', count_unequal(theirs['meta'], ours['meta'])),
        row('normalised and padded inputs', absolute_difference(theirs['batch'], ours['batch'])),
    ]
    if kind == 'train':
        labels = _unequal(theirs['batch_labels'], ours['batch_labels'])
        rows.append(row(f'padded labels of {BATCH}, pixels that differ', labels))
        listing = count_unequal(theirs['dataset'], ours['dataset'])
        rows.append(row('list of files, class names and palette, entries that differ', listing))
    return rows


def _unequal(theirs: np.ndarray, ours: np.ndarray) -> float:
    return float((theirs != ours).sum()) if theirs.shape == ours.shape else float('nan')


def _row_of_transform(config: dict, theirs: Arrays, ours: Arrays) -> Row:
    given = ', '.join(f'{key}={value}' for key, value in config.items() if key not in ('type', 'transforms'))
    differences = (
        absolute_difference(theirs['images'], ours['images']),
        _unequal(theirs['labels'], ours['labels']),
        count_unequal(theirs['shapes'], ours['shapes']),
    )
    what = f'{config["type"]}({given}), {len(theirs["shapes"])} draws: grey levels, labels, sizes'
    return Row('pipelines', what, sum(differences), 0)
