"""Transforms of the package albumentations."""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from dpt.datasets.transforms.maps import DEPTH
from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX

MAX_SEED = 2**32


@TRANSFORMS.register_module()
class Albu(BaseTransform):
    """Apply transforms of albumentations 2 to the image and its labels together.

    The random numbers of albumentations are seeded from numpy's global state for each image, so that a
    training can be reproduced and resumed. The image has 3 channels and is RGB inside. Writes ``img``,
    every map in ``seg_fields`` and ``img_shape``. Needs the package albumentations, of the extra ``data``.

    Args:
        transforms: Configs such as ``dict(type='RandomBrightnessContrast', p=0.2)``, with the names and
            arguments of albumentations; ``OneOf`` and others take ``transforms`` in turn. If a transform
            creates pixels, they are labelled ``fill_mask=255`` unless set otherwise; the default of
            albumentations is 0, the label of a class. The depth of new pixels is 0.
        keymap: Name in albumentations of each key of the sample; None means ``dict(img='image',
            gt_seg_map='mask')``.
        update_pad_shape: Whether to write ``pad_shape``, too.

    Raises:
        ImportError: If albumentations is not installed.
        ValueError: If it lacks a transform or an argument, or an item of ``transforms`` is not a dict with
            ``type``.
    """

    foreign_arguments = ('transforms',)  # configs of another package

    def __init__(
        self,
        transforms: Sequence[Mapping],
        keymap: Mapping[str, str] | None = None,
        update_pad_shape: bool = False,
    ) -> None:
        os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')  # do not check online for a newer version
        try:
            import albumentations
        except ImportError as error:
            raise ImportError(
                'Albu needs the package albumentations, which is not installed: pip install albumentations'
            ) from error
        self.transforms = list(transforms)
        self.keymap = dict(keymap or dict(img='image', gt_seg_map='mask'))
        self.update_pad_shape = update_pad_shape
        self.aug = albumentations.Compose([_build(one, albumentations) for one in transforms])

    def transform(self, results: dict) -> dict:
        # Negated, so that the pixels that a transform creates, which get the label of void, become 0 below.
        depth = {DEPTH: -results[DEPTH]} if DEPTH in results else {}
        sources = {**results, **depth}
        given = {theirs: sources[ours] for ours, theirs in self.keymap.items() if ours in results}
        shape = given['image'].shape
        if len(shape) != 3 or shape[2] != 3:
            channels = shape[2] if len(shape) == 3 else 1
            raise ValueError(f'Albu needs RGB images: {results.get("img_path")} has {channels} channels')
        others = [name for name in results.get('seg_fields', []) if name not in self.keymap]
        if others:
            given['masks'] = [sources[name] for name in others]
        given['image'] = cv2.cvtColor(given['image'], cv2.COLOR_BGR2RGB)
        self.aug.set_random_seed(int(np.random.randint(MAX_SEED, dtype=np.int64)))
        found = self.aug(**given)
        found['image'] = cv2.cvtColor(found['image'], cv2.COLOR_RGB2BGR)
        results.update({ours: found[theirs] for ours, theirs in self.keymap.items() if theirs in given})
        results.update(zip(others, found.get('masks', ()), strict=True))
        if DEPTH in others or DEPTH in self.keymap:
            results[DEPTH] = np.maximum(-results[DEPTH], 0)
        results['img_shape'] = results['img'].shape[:2]
        if self.update_pad_shape:
            results['pad_shape'] = results['img_shape']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


def _build(config: Mapping, albumentations: Any) -> Any:
    """Build a transform of albumentations, and those inside it."""
    if not isinstance(config, Mapping) or 'type' not in config:
        raise ValueError(f"a transform of Albu is {config!r}: expected a dict with 'type'")
    arguments = dict(config)
    kind = arguments.pop('type')
    cls = getattr(albumentations, kind, None) if isinstance(kind, str) else kind
    if cls is None:
        raise ValueError(f'albumentations {albumentations.__version__} has no transform {kind!r}')
    if 'transforms' in arguments:
        arguments['transforms'] = [_build(one, albumentations) for one in arguments['transforms']]
    known = inspect.signature(cls).parameters
    unknown = [name for name in arguments if name not in known]
    if unknown:  # albumentations would only warn
        raise ValueError(f'{kind} of albumentations has no argument {unknown[0]!r}, only {", ".join(known)}')
    if 'fill_mask' in known and known['fill_mask'].default == 0:
        arguments.setdefault('fill_mask', IGNORE_INDEX)
    return cls(**arguments)
