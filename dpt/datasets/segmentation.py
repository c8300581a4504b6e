"""Data sets of images whose masks hold one label per pixel, found by folders, suffixes and split files."""

import os.path as osp
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.dataset import BaseDataset, Compose

from dpt.datasets.bad_sample import FILE_ERRORS, BadSampleCount, name_sample
from dpt.datasets.transforms.fused import fuse
from dpt.registry import DATASETS, TRANSFORMS
from dpt.structures import IGNORE_INDEX

PREFIX_KEYS = ('img_path', 'seg_map_path')


@DATASETS.register_module()
class BaseSegDataset(BaseDataset):
    """Images and masks of the same name in two folders, searched with their sub-folders.

    Usable as it is, ``metainfo=dict(classes=..., palette=...)`` names the classes; a subclass may state them
    in ``METAINFO`` instead. Each sample starts as a dict of ``img_path``, ``seg_map_path`` (absent where the
    data set has no annotations), ``label_map``, ``reduce_zero_label``, ``num_classes``, ``ignore_index``,
    ``allow_unlabelled`` and ``seg_fields=[]``.

    Args:
        ann_file: Split file, one image a line, with or without the image suffix, relative to the image
            folder; its order is kept. Empty: all images of the folder, sorted.
        img_suffix: How names of images end.
        seg_map_suffix: How names of masks end, where the image has ``img_suffix``.
        metainfo: ``classes`` (names or a text file, one name a line) and ``palette`` (RGB, 0..255; made up,
            always the same, if missing). Of a class with ``METAINFO``, ``classes`` may select and reorder:
            pixels of classes not selected become 255.
        data_root: Folder that relative paths of ``ann_file`` and ``data_prefix`` start from.
        data_prefix: Folders ``img_path`` and ``seg_map_path``; None means both are ``data_root`` itself.
            Leave ``seg_map_path`` out where there are no masks (in test mode).
        indices: First so many samples, or the samples with these numbers.
        serialize_data: Keep the list of samples as bytes, which loader workers share.
        pipeline: Transforms, as configs or callables. ``RandomResize``, ``RandomCrop`` and ``RandomFlip`` in
            a row become one faster step with the same results.
        test_mode: Whether masks may be missing, and whether a sample that fails is an error rather than
            replaced by another.
        lazy_init: Whether to list the folders only when the first sample is asked for.
        max_refetch: How often a training sample is replaced when it is bad or the pipeline gives None.
        max_bad_samples: How many different bad samples each process may skip in training: another sample,
            which follows from the seed and the place in the order, is taken instead, and the file is named
            in the log. 0: the first is an error. Every start of a run counts anew.
        allow_unlabelled: Whether a mask may have no labelled pixel at all; ``False`` makes that a bad sample.
        ignore_index: Label of pixels that do not count. ``reduce_zero_label`` and a selection of classes
            mark them with 255 and need it to be that.
        reduce_zero_label: Whether label 0 means 'no label' and 1 is the first class. It is decided here
            only; ``LoadAnnotations`` carries it out.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: A folder, the split file, an image of the split file, or the mask of an image
            is missing (masks only outside test mode).
        ValueError: No image has the suffix; classes are missing, unknown or repeated; the palette does not
            fit; an argument contradicts another.
    """

    METAINFO: dict = {}
    _bad_samples: BadSampleCount | None

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
        self.img_suffix = img_suffix
        self.seg_map_suffix = seg_map_suffix
        self.ignore_index = ignore_index
        self.reduce_zero_label = reduce_zero_label
        self.backend_args = dict(backend_args) if backend_args else None
        if max_bad_samples < 0 or (max_bad_samples and test_mode):
            raise ValueError(
                f'max_bad_samples={max_bad_samples}: 0 or more was expected, and 0 in test mode, which '
                'evaluates every image'
            )
        self.max_bad_samples, self._bad_samples = max_bad_samples, None
        self.allow_unlabelled = allow_unlabelled
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=_known_prefixes(data_prefix),
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
        )
        self._complete_metainfo(own_palette='palette' in (metainfo or {}))
        # Through our registry, so that its names win even where no default scope is set.
        self.pipeline = Compose(
            fuse([TRANSFORMS.build(t) if isinstance(t, Mapping) else t for t in pipeline or ()])
        )
        if not lazy_init:
            self.full_init()

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str]) -> dict[int, int] | None:
        """Trained label of each label of ``METAINFO``; None where nothing changes.

        Names are compared without surrounding blanks.

        Raises:
            ValueError: A name is not in ``METAINFO``.
        """
        known = [name.strip() for name in cls.METAINFO.get('classes', ())]
        wanted = [name.strip() for name in new_classes]
        if not known or known == wanted:
            return None
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ValueError(f'{cls.__name__} has no class {unknown}; its classes are {known}')
        return {old: wanted.index(name) if name in wanted else IGNORE_INDEX for old, name in enumerate(known)}

    def load_data_list(self) -> list[dict]:
        """List the folders once, check that everything is there, and describe each sample."""
        images, masks = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        stems = self._find_images(images)
        if not self.test_mode:
            self._require_masks(stems, masks)
        return [self._describe(stem, images, masks) for stem in stems]

    def full_init(self) -> None:
        """List the samples, if that was put off."""
        super().full_init()
        if self.max_bad_samples and self._bad_samples is None:
            self._bad_samples = BadSampleCount(len(self), self.max_bad_samples)

    def prepare_data(self, idx: int) -> Any:
        """Read and transform a sample; None if it is bad and may be skipped, else an error names its file."""
        try:
            return super().prepare_data(idx)
        except (*FILE_ERRORS, ValueError) as error:
            bad = name_sample(error, self.get_data_info(idx))
            if self._bad_samples is None or not isinstance(error, FILE_ERRORS):
                raise bad from error
            self._bad_samples.add(idx, bad)
            return None

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

    def _complete_metainfo(self, own_palette: bool) -> None:
        classes = self._metainfo.get('classes')
        if classes and isinstance(classes, str):  # mmengine found no such file
            raise ValueError(
                f'{type(self).__name__} got classes={classes!r}: the file does not exist; set '
                'metainfo=dict(classes=...) to a text file with one name a line, or to a list of names'
            )
        if not classes:
            raise ValueError(
                f'{type(self).__name__} got classes={classes!r}: set metainfo=dict(classes=(...)) to their '
                'names, or to a text file with one name a line'
            )
        repeated = [name for name, count in Counter(classes).items() if count > 1]
        if repeated:
            raise ValueError(f'{type(self).__name__}: classes hold {repeated} more than once')
        self.label_map = self.get_label_map(classes)
        if self.ignore_index != IGNORE_INDEX and (self.reduce_zero_label or self.label_map):
            raise ValueError(
                f'ignore_index={self.ignore_index} does not go with reduce_zero_label or a selection of '
                f'classes: both mark pixels without a label with {IGNORE_INDEX}'
            )
        self._metainfo.update(
            palette=_fit_palette(self._metainfo.get('palette'), len(classes), self.label_map, own_palette),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            ignore_index=self.ignore_index,
        )

    def _list_files(self, folder: str) -> list[str]:
        """Files of a folder and its sub-folders, relative to it, sorted."""
        if not folder:
            raise ValueError(f'{type(self).__name__} has no folder to look in: set data_root or data_prefix')
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(self.explain_missing(folder))
        files = fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args
        )
        return sorted(files)

    def explain_missing(self, folder: str) -> str:
        """What to tell a user whose folder of images or masks does not exist."""
        return (
            f'folder {osp.abspath(folder)} does not exist: {type(self).__name__} has '
            f'data_root={self.data_root!r} and looks for data_prefix={dict(self.data_prefix)}'
        )

    def _find_images(self, folder: str) -> list[str]:
        """Names of the images without suffix: those of the split file, else all."""
        files = self._list_files(folder)
        end = len(self.img_suffix)
        stems = [name[: len(name) - end] for name in files if name.endswith(self.img_suffix)]
        if not stems:
            present = Counter(osp.splitext(name)[1] or name for name in files).most_common(5)
            there = ', '.join(f'{count} {suffix}' for suffix, count in present) or 'no file at all'
            raise ValueError(
                f'no image in {osp.abspath(folder)} ends in {self.img_suffix!r}: there is {there}; '
                'set img_suffix'
            )
        return self._read_split(set(stems), folder) if self.ann_file else stems

    def _read_split(self, present: set[str], folder: str) -> list[str]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'split file {osp.abspath(self.ann_file)} does not exist')
        try:
            text = fileio.get_text(self.ann_file, backend_args=self.backend_args)
        except UnicodeDecodeError as error:
            raise ValueError(f'split file {osp.abspath(self.ann_file)} is no text: {error}') from error
        names = [line.strip().removesuffix(self.img_suffix) for line in text.splitlines() if line.strip()]
        if not names:
            raise ValueError(f'split file {osp.abspath(self.ann_file)} names no image')
        absent = [name for name in names if name not in present]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(names)} names in the split file {osp.abspath(self.ann_file)} have no '
                f'image in {osp.abspath(folder)}: {_first(absent, self.img_suffix)}'
            )
        return names

    def _require_masks(self, stems: Sequence[str], folder: str | None) -> None:
        if folder is None:
            raise ValueError(
                f"{type(self).__name__} has no data_prefix['seg_map_path']: set it, or test_mode=True where "
                'there are no masks'
            )
        present = set(self._list_files(folder))
        absent = [stem for stem in stems if stem + self.seg_map_suffix not in present]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(stems)} images have no mask in {osp.abspath(folder)}: '
                f'{_first(absent, self.seg_map_suffix)}; set seg_map_suffix if masks end otherwise, or '
                'test_mode=True where there are none'
            )


def _known_prefixes(given: Mapping[str, str | None] | None) -> dict[str, str]:
    if given is None:
        return dict.fromkeys(PREFIX_KEYS, '')
    unknown = sorted(set(given) - set(PREFIX_KEYS))
    if unknown:
        raise ValueError(f'data_prefix has the keys {unknown}: only {PREFIX_KEYS} are known')
    return {'img_path': '', **{key: folder for key, folder in given.items() if folder is not None}}


def _first(stems: Sequence[str], suffix: str) -> str:
    return ', '.join(stem + suffix for stem in stems[:3]) + (', ...' if len(stems) > 3 else '')


def _fit_palette(
    palette: Sequence[Sequence[int]] | None, num_classes: int, label_map: Mapping[int, int] | None, own: bool
) -> list[list[int]]:
    """One RGB colour a trained class.

    Args:
        palette: Colours of the trained classes or, with a ``label_map``, of the classes it starts from.
        num_classes: Number of trained classes.
        label_map: Label of ``METAINFO`` -> trained label.
        own: Whether ``palette`` came with the selection of classes, in whose order it then is.
    """
    if not palette:
        # The colours MMSegmentation gives such data sets, drawn aside from numpy's global state.
        return np.random.RandomState(42).randint(0, 255, size=(num_classes, 3)).tolist()
    rows = [list(colour) for colour in palette]
    if label_map and len(rows) == len(label_map) and not (own and len(rows) == num_classes):
        old_of = {new: old for old, new in label_map.items()}
        rows = [rows[old_of[label]] for label in range(num_classes)]
    if len(rows) != num_classes:
        raise ValueError(f'palette has {len(rows)} colours for {num_classes} classes')
    return rows
