"""Base data set of images and masks in folders, with optional split files."""

import logging
import os.path as osp
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mmengine import fileio
from mmengine.logging import print_log

from dpt.datasets.bad_sample import FILE_ERRORS, name_sample
from dpt.datasets.labels import explain_one_class
from dpt.datasets.pairs import PairDataset
from dpt.datasets.text import text_lines
from dpt.datasets.transforms.loading import LoadAnnotations
from dpt.palette import default_palette
from dpt.registry import DATASETS
from dpt.structures import IGNORE_INDEX

MASKS_LOOKED_AT = 16


@DATASETS.register_module()
class BaseSegDataset(PairDataset):
    """Images and masks with matching names in two folders and their subfolders.

    Set the classes with ``metainfo=dict(classes=..., palette=...)``, or in ``METAINFO`` of a subclass. The
    input of the pipeline is a dict with ``img_path``, ``seg_map_path`` (absent if the data set has no
    annotations), ``label_map``, ``reduce_zero_label``, ``num_classes``, ``ignore_index``,
    ``allow_unlabelled`` and ``seg_fields=[]``.

    Args:
        ann_file: Split file with one image per line, with or without ``img_suffix``, relative to the folder
            of images; its order is kept. If empty, all images in the folder are used, sorted by name.
        img_suffix: Suffix of images.
        seg_map_suffix: Suffix of masks, which replaces ``img_suffix``.
        metainfo: ``classes`` (names, or a text file with one name per line) and ``palette`` (RGB from 0 to
            255, or ``'#RRGGBB'``, or a text file of these; generated if missing). If the class has
            ``METAINFO``, ``classes`` may select and reorder its classes; pixels of the other classes become
            ``ignore_index``.
        data_root: Root folder of ``ann_file`` and ``data_prefix``.
        data_prefix: Folders ``img_path`` and ``seg_map_path``; None means ``data_root`` for both. Omit
            ``seg_map_path`` if there are no masks (in test mode).
        indices: Number of samples to use from the start, or indices of the samples to use.
        serialize_data: Whether to store the list of samples as bytes, which workers share.
        pipeline: Transforms, as configs or callables. Consecutive ``RandomResize``, ``RandomCrop`` and
            ``RandomFlip`` are fused into a faster step with the same results.
        test_mode: Whether masks may be missing. A failing sample raises an error and is not replaced.
        lazy_init: Whether to postpone listing the folders until the first sample is read.
        max_refetch: Maximum number of replacements for a training sample that is bad or for which the
            pipeline returns None.
        max_bad_samples: Maximum number of distinct bad samples that each process may skip in training. They
            are logged and replaced by samples that depend only on the seed and the position. With 0, the
            first one raises. Each start of a run resets the count.
        allow_unlabelled: Whether to accept a mask without any labelled pixel; otherwise it is a bad sample.
        ignore_index: Label of pixels without a class, in the masks and in everything that reads the samples:
            transforms, padding, loss and metric take it from here. It must not be the number of a class.
        reduce_zero_label: Whether label 0 means 'no label' and 1 is the first class. ``LoadAnnotations``
            applies this setting.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: If a folder, the split file, an image of the split file, or (except in test mode)
            a mask does not exist.
        ValueError: If no image has the suffix; if classes are missing, unknown or repeated; if the length of
            the palette is wrong; if there are fewer than two classes; if arguments contradict each other.
    """

    METAINFO: dict = {}
    annotation = 'mask'
    annotation_key = 'seg_map_path'
    suffix_argument = 'seg_map_suffix'

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.jpg',
        *,
        seg_map_suffix: str = '.png',
        metainfo: Mapping | None = None,
        data_root: str | None = None,
        data_prefix: Mapping[str, str | None] | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[Mapping | Callable] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        max_bad_samples: int = 0,
        allow_unlabelled: bool = True,
        ignore_index: int = IGNORE_INDEX,
        reduce_zero_label: bool = False,
        backend_args: Mapping | None = None,
    ) -> None:
        self.seg_map_suffix = seg_map_suffix
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        self.allow_unlabelled = allow_unlabelled
        self._cat_ids: dict[int, list[int]] = {}
        self._own_palette = 'palette' in (metainfo or {})
        super().__init__(
            ann_file,
            img_suffix,
            annotation_suffix=seg_map_suffix,
            metainfo=self._read_metainfo(metainfo),
            data_root=data_root,
            data_prefix=data_prefix,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            max_bad_samples=max_bad_samples,
            backend_args=backend_args,
        )

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str]) -> dict[int, int] | None:
        """Map labels of ``METAINFO`` to new labels, -1 if not selected; return None if nothing changes.

        Names are compared without surrounding whitespace.

        Raises:
            ValueError: If a name is not in ``METAINFO``.
        """
        known = [name.strip() for name in cls.METAINFO.get('classes', ())]
        wanted = [name.strip() for name in new_classes]
        if not known or known == wanted:
            return None
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ValueError(f'{cls.__name__} has no class {unknown}; its classes are {known}')
        return {old: wanted.index(name) if name in wanted else -1 for old, name in enumerate(known)}

    def load_data_list(self) -> list[dict]:
        """List the folders, check that all files exist, and return one dict per sample."""
        images, masks = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        stems = self.find_images(images)
        if not self.test_mode:
            self.require_annotations(stems, masks)
        return [self._describe(stem, images, masks) for stem in stems]

    def look_at_annotations(self) -> None:
        """Warn if the first masks that are looked at have one class only; usually one mask is enough."""
        load = next((one for one in self.pipeline.transforms if isinstance(one, LoadAnnotations)), None)
        if load is None:
            return
        seen: set[int] = set()
        indices = range(0, len(self), -(-len(self) // MASKS_LOOKED_AT) or 1)
        for index in indices:
            try:
                labels = set(np.unique(load.transform(self.get_data_info(index))['gt_seg_map']).tolist())
            except (*FILE_ERRORS, ValueError):  # reported when the sample is used
                return
            seen |= labels
            if self.ignore_index not in labels or len(seen) > 2:
                return
        if len(seen) == 2:
            (label,) = seen - {self.ignore_index}
            path, name = self.get_data_info(0)['seg_map_path'], self._metainfo['classes'][label]
            text = explain_one_class(len(indices), path, label, name, self.reduce_zero_label)
            print_log(text, 'current', logging.WARNING)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of the classes in the mask of a sample, which ``ClassBalancedDataset`` counts.

        Each mask is read once. A mask that cannot be read counts as a bad sample, as in training.
        """
        if idx not in self._cat_ids:
            steps = [step for step in self.pipeline.transforms if isinstance(step, LoadAnnotations)]
            load = steps[0] if steps else LoadAnnotations(backend_args=self.backend_args)
            sample = self.get_data_info(idx)
            try:
                labels = np.unique(load.transform(sample)['gt_seg_map'])
            except FILE_ERRORS as error:
                bad = name_sample(error, sample)
                if self._bad_samples is None:
                    raise bad from error
                self._bad_samples.add(idx, bad)
                labels = np.array([], int)
            self._cat_ids[idx] = [int(label) for label in labels if label != self.ignore_index]
        return self._cat_ids[idx]

    def _describe(self, stem: str, images: str, masks: str | None) -> dict:
        sample = {'img_path': osp.join(images, stem + self.img_suffix)}
        if masks is not None:
            sample['seg_map_path'] = osp.join(masks, stem + self.seg_map_suffix)
        return {
            **sample,
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'num_classes': len(self._metainfo['classes']),
            'ignore_index': self.ignore_index,
            'allow_unlabelled': self.allow_unlabelled,
            'seg_fields': [],
        }

    def _read_metainfo(self, metainfo: Mapping | None) -> dict | None:
        """Read the text files of classes and palette, and write numbers as names."""
        if metainfo is None:
            return None
        found = dict(metainfo)
        for key in ('classes', 'palette'):
            if isinstance(found.get(key), str) and osp.isfile(found[key]):
                file = found[key]
                found[key] = text_lines(fileio.get(file), f'metainfo {key}={file!r}')
        classes = found.get('classes')
        if classes is not None and not isinstance(classes, str):
            whole = not isinstance(classes, Sequence)
            wrong = [classes] if whole else [one for one in classes if type(one) not in (str, int)]
            if wrong:
                raise ValueError(
                    f'{type(self).__name__}: classes contain {wrong[0]!r}: expected a list of strings'
                )
            found['classes'] = type(classes)(map(str, classes))
        return found

    def complete_metainfo(self) -> None:
        classes = self._metainfo.get('classes')
        if classes and isinstance(classes, str):  # mmengine did not find this file
            raise ValueError(
                f'{type(self).__name__} got classes={classes!r}: the file does not exist; set '
                'metainfo=dict(classes=...) to a text file with one name per line, or to a list of names'
            )
        if not classes:
            raise ValueError(
                f'{type(self).__name__} got classes={classes!r}: set metainfo=dict(classes=(...)) to the '
                'names, or to a text file with one name per line'
            )
        repeated = [name for name, count in Counter(classes).items() if count > 1]
        if repeated:
            raise ValueError(f'{type(self).__name__}: classes contain {repeated} more than once')
        self.label_map = self._label_map(classes)
        if len(classes) < 2:
            remedy = (
                "List the background, too, such as metainfo=dict(classes=('background', "
                f'{classes[0]!r})) with reduce_zero_label=False if masks contain 0 for the background'
            )
            if self.METAINFO:
                remedy = 'Select two or more'
            raise ValueError(
                f'{type(self).__name__} got one class, {classes[0]!r}: every pixel would be predicted as it. '
                + remedy
            )
        self._check_ignore_index(len(classes))
        self._metainfo.update(
            palette=_fit_palette(
                self._metainfo.get('palette'), len(classes), self.label_map, self._own_palette
            ),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            ignore_index=self.ignore_index,
        )

    def _label_map(self, classes: Sequence[str]) -> dict[int, int] | None:
        label_map = self.get_label_map(classes)
        if label_map is None:
            return None
        return {old: self.ignore_index if new < 0 else new for old, new in label_map.items()}

    def _check_ignore_index(self, count: int) -> None:
        """Raise ValueError if ``ignore_index`` is also the label of a class, in the masks or in training."""
        highest = max(count, len(self.label_map or ())) - (not self.reduce_zero_label)
        if not highest < self.ignore_index < 1 << 16:
            written = f'{count} classes with the labels 0 to {count - 1}'
            if self.reduce_zero_label or self.label_map:
                written += f', for which masks contain labels up to {highest}'
            raise ValueError(
                f'{type(self).__name__} has ignore_index={self.ignore_index} and {written}: the label of '
                'pixels without a class must be above those and below 65536'
                + (', such as 65535 with 16-bit masks' if highest >= IGNORE_INDEX else '')
            )


def _read_colour(colour: Sequence[int] | str) -> list[int]:
    """Return a colour, given as three numbers, ``'#RRGGBB'`` or ``'R G B'``, as RGB."""
    values: Sequence = colour
    if isinstance(colour, str):
        in_hex = re.fullmatch(r'#?([0-9a-fA-F]{6})', colour.strip())
        values = list(bytes.fromhex(in_hex[1])) if in_hex else re.split(r'[\s,;]+', colour.strip(' ()[]'))
    try:
        red, green, blue = (int(value) for value in values)
        if min(red, green, blue) < 0 or max(red, green, blue) > 255:
            raise ValueError
        if not isinstance(colour, str) and any(int(value) != value for value in colour):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"palette contains {colour!r}: expected [R, G, B] from 0 to 255, or '#RRGGBB'"
        ) from None
    return [red, green, blue]


def _fit_palette(
    palette: Sequence[Sequence[int]] | None, num_classes: int, label_map: Mapping[int, int] | None, own: bool
) -> list[list[int]]:
    """Return one RGB colour per class.

    Args:
        palette: Colours of the classes or, with a ``label_map``, of the classes of ``METAINFO``.
        num_classes: Number of classes.
        label_map: New label by label of ``METAINFO``.
        own: Whether ``palette`` was given together with the selection of classes, in the same order.
    """
    if not palette:
        return default_palette(num_classes).tolist()
    rows = [_read_colour(colour) for colour in palette]
    if label_map and len(rows) == len(label_map) and not (own and len(rows) == num_classes):
        old_of = {new: old for old, new in label_map.items()}
        rows = [rows[old_of[label]] for label in range(num_classes)]
    if len(rows) != num_classes:
        raise ValueError(f'palette has {len(rows)} colours for {num_classes} classes')
    return rows
