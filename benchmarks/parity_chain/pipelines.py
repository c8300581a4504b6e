"""Link 3: both sides create the same network inputs and labels from the same images and random draws."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .job import Arrays, Job
from .side import Side
from .table import Row, absolute_difference, count_unequal

SPLITS = ('training', 'validation')
TEST_IMAGES = 20
BATCH = 4


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Run the data sets and pipelines of the config on each folder of images."""
    for name, root in side.job.data_roots.items():
        split = next((one for one in SPLITS if (Path(root) / 'images' / one).is_dir()), None)
        if split is None:
            raise FileNotFoundError(f'{root} has no images/training or images/validation: use another folder')
        yield f'train_{name}', _train(side, root, split)
        yield f'test_{name}', _test(side, root, split)


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
