"""Link 6: both sides predict the same label maps in the modes whole, slide, and multiple scales and flips."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from torch import nn

from .job import Arrays, Job
from .model import LOGITS_TOLERANCE
from .pipelines import SPLITS
from .side import Side
from .table import Row

SLIDE = dict(mode='slide', crop_size=(384, 384), stride=(256, 256))
MODES = {
    'whole_vit_b': 'ViT-B, whole',
    'whole': 'small model, whole',
    'slide': f'small model, slide {SLIDE["crop_size"][0]} by {SLIDE["stride"][0]}',
    'tta_test_scale': 'small model, 6 ratios of the test scale (0.x), flips',
    'tta_image': 'small model, 6 ratios of the image (1.x), flips',
}
MARGIN = 2 * LOGITS_TOLERANCE
"""Two classes whose logits differ by less than this share of the largest logit may swap if link 1 holds."""

SHARE = 1e-4
"""Maximum share of differing pixels. Random weights give many near ties, which rounding may decide."""


def produce(side: Side) -> Iterator[tuple[str, Arrays]]:
    """Predict images of each folder with the test pipeline and ``test_step``."""
    for mode in MODES:
        if mode == 'whole_vit_b' and side.job.quick:
            continue
        tta = mode.removeprefix('tta_') if mode.startswith('tta_') else None
        model = side.build_model(
            f'predictions_{mode}',
            small=mode != 'whole_vit_b',
            test_cfg=SLIDE if mode == 'slide' else None,
        )
        if tta:
            model = side.models.build(ConfigDict(**side.config.tta_model, module=model)).eval()
        arrays = {}
        for name, root in side.job.data_roots.items():
            split = next(one for one in reversed(SPLITS) if (Path(root) / 'images' / one).is_dir())
            dataset = side.dataset('test_dataloader', root, split, side.tta_pipeline(tta) if tta else None)
            for index in range(1 if tta or side.job.quick or mode == 'whole_vit_b' else 2):
                arrays |= {
                    f'{name}.{index}.{key}': array for key, array in _predict(side, model, dataset[index])
                }
        yield mode, arrays


@torch.no_grad()
def _predict(side: Side, model: nn.Module, packed: dict) -> Iterator[tuple[str, np.ndarray]]:
    batch = pseudo_collate([packed])
    if side.scope == 'dpt':
        yield 'margin', _margins(model, pseudo_collate([packed]))
    predicted = model.test_step(batch)[0].pred_sem_seg.data
    yield 'labels', predicted.squeeze().numpy().astype(np.uint8)


def _margins(model: nn.Module, batch: dict) -> np.ndarray:
    """Return dpt's margin between the two best classes of each pixel, as a share of the largest logit.

    If each logit has an error of at most t, two classes that swap differ by at most 2t. The probabilities of
    a view then have an error factor of at most exp(2t), so two sums of probabilities that swap have a ratio
    of at most exp(4t). Half the logarithm of this ratio is used for test-time augmentation.
    """
    tta = hasattr(model, 'module')
    segmentor = model.module if tta else model
    views = zip(batch['inputs'], batch['data_samples'], strict=True)
    total: torch.Tensor | float = 0.0
    largest = 0.0
    for inputs, samples in views if tta else [(batch['inputs'], batch['data_samples'])]:
        view = segmentor.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)
        logits = segmentor.predict(**view, with_logits=True)[0].seg_logits.data
        largest = max(largest, float(logits.abs().max()))
        total = total + (logits.softmax(dim=0) if tta else logits)
    best, second = total.topk(2, dim=0).values
    return ((best / second).log() / 2 if tta else best - second).div(largest).numpy()


def compare(case: str, theirs: Arrays, ours: Arrays, job: Job) -> list[Row]:
    """Return the rows of one case."""
    images = [name.removesuffix('.labels') for name in theirs if name.endswith('.labels')]
    pixels = differing = 0
    widest = 0.0 if images else float('nan')
    classes = set()
    for image in images:
        known, found = theirs[f'{image}.labels'], ours[f'{image}.labels']
        if known.shape != found.shape:
            return [Row('predictions', f'{MODES[case]}: sizes {known.shape}, {found.shape}', float('nan'), 0)]
        unequal = known != found
        pixels += known.size
        differing += int(unequal.sum())
        widest = max(widest, float(ours[f'{image}.margin'][unequal].max(initial=0)))
        classes |= set(np.unique(known).tolist())
    note = f'{differing} of {pixels} pixels differ, {len(classes)} classes predicted'
    note += '; their two best classes are within this margin, so rounding decides' if differing else ''
    what = f'{MODES[case]}, {len(images)} images'
    share = differing / pixels if pixels else float('nan')
    return [
        Row('predictions', f'{what}: share of pixels that differ', share, SHARE),
        Row('predictions', f'{what}: margin, of the largest logit, where they do', widest, MARGIN, note),
    ]
