"""Base class of data sets of images and annotations in folders, with optional split files."""

import logging
import os.path as osp
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from mmengine import fileio
from mmengine.dataset import BaseDataset, Compose
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from dpt.datasets.bad_sample import FILE_ERRORS, BadSampleCount, name_sample
from dpt.datasets.files import list_files
from dpt.datasets.text import explain_absent, text_lines
from dpt.datasets.transforms.geometry import fuse
from dpt.datasets.transforms.loading import LoadImageFromFile
from dpt.registry import TRANSFORMS

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


class PairDataset(BaseDataset):
    """Images and annotations with matching names in two folders and their subfolders.

    For the arguments see :class:`BaseSegDataset` and :class:`BaseDepthDataset`.

    Attributes:
        annotation: What the annotations are called in messages.
        annotation_key: Key of ``data_prefix`` and of a sample for them.
        suffix_argument: Name of the argument for their suffix.
    """

    annotation: str
    annotation_key: str
    suffix_argument: str
    _bad_samples: BadSampleCount | None

    def __init__(
        self,
        ann_file: str,
        img_suffix: str,
        *,
        annotation_suffix: str,
        metainfo: Mapping | None,
        data_root: str | None,
        data_prefix: Mapping[str, str | None] | None,
        indices: int | Sequence[int] | None,
        serialize_data: bool,
        pipeline: Sequence[Mapping | Callable] | None,
        test_mode: bool,
        lazy_init: bool,
        max_refetch: int,
        max_bad_samples: int,
        backend_args: Mapping | None,
    ) -> None:
        self.img_suffix = img_suffix
        self.annotation_suffix = annotation_suffix
        self.backend_args = dict(backend_args) if backend_args else None
        if max_bad_samples < 0 or (max_bad_samples and test_mode):
            raise ValueError(
                f'max_bad_samples={max_bad_samples}: must be 0 or more, and 0 in test mode, which evaluates '
                'every image'
            )
        self.max_bad_samples, self._bad_samples = max_bad_samples, None
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=data_root,
            data_prefix=_known_prefixes(data_prefix, self.annotation_key),
            indices=indices,
            serialize_data=serialize_data,
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
        )
        self.complete_metainfo()
        # The names of dpt take precedence, also inside mmcv's wrappers and without a default scope.
        scope = DefaultScope.get_current_instance()
        with DefaultScope.overwrite_default_scope(scope.scope_name if scope else 'dpt'):
            steps = [TRANSFORMS.build(t) if isinstance(t, Mapping) else t for t in pipeline or ()]
        self.pipeline = Compose(fuse(steps))
        if not lazy_init:
            self.full_init()

    def complete_metainfo(self) -> None:
        """Check and complete ``_metainfo`` before files are read."""

    def full_init(self) -> None:
        """List the samples if ``lazy_init`` postponed it."""
        starts = not self._fully_initialized
        super().full_init()
        if starts and not self.test_mode:
            self._look_at_first()
            self.look_at_annotations()
        if self.max_bad_samples and self._bad_samples is None:
            self._bad_samples = BadSampleCount(len(self), self.max_bad_samples)

    def _look_at_first(self) -> None:
        """Load the first image once, before workers start, so that a warning about it appears once."""
        loading = next((one for one in self.pipeline.transforms if isinstance(one, LoadImageFromFile)), None)
        if loading is not None and len(self):
            with suppress(*FILE_ERRORS):  # reported when the sample is used
                loading.transform(self.get_data_info(0))

    def look_at_annotations(self) -> None:
        """Warn about annotations that are likely to be misunderstood."""

    def prepare_data(self, idx: int) -> Any:
        """Return the transformed sample, or None if it is bad and skipped; errors name its file."""
        try:
            return super().prepare_data(idx)
        except (*FILE_ERRORS, ValueError) as error:
            bad = name_sample(error, self.get_data_info(idx))
            if self._bad_samples is None or not isinstance(error, FILE_ERRORS):
                raise bad from error
            self._bad_samples.add(idx, bad)
            return None

    def list_folder(self, folder: str) -> list[str]:
        """Return the sorted files of a folder and its subfolders, relative to it."""
        if not folder:
            raise ValueError(f'{type(self).__name__} has no folder: set data_root or data_prefix')
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(self.explain_missing(folder))
        return list_files(folder, self.backend_args)

    def explain_missing(self, folder: str) -> str:
        """Return the error message for a folder of images or annotations that does not exist."""
        return (
            f'folder {osp.abspath(folder)} does not exist: {type(self).__name__} has '
            f'data_root={self.data_root!r} and looks for data_prefix={dict(self.data_prefix)}'
        )

    def find_images(self, folder: str) -> list[str]:
        """Return the image names of the split file, or of the folder if there is none, without suffix."""
        files = self.list_folder(folder)
        end = len(self.img_suffix)
        stems = [name[: len(name) - end] for name in files if name.endswith(self.img_suffix)]
        if not stems:
            present = Counter(osp.splitext(name)[1] or name for name in files).most_common(5)
            there = ', '.join(f'{count} {suffix}' for suffix, count in present) or 'no files'
            where = f'no image in {osp.abspath(folder)} ends in {self.img_suffix!r}'
            raise ValueError(f'{where}, found {there}: set img_suffix')
        if self.ann_file:
            return self._read_split(set(stems), folder)
        others = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
        others = [name for name in others if not name.endswith(self.img_suffix)]
        if others and folder != self.data_prefix.get(self.annotation_key):
            print_log(
                f'{len(others)} of {len(others) + len(stems)} images in {osp.abspath(folder)} are not used, '
                f'such as {others[0]}: they do not end in img_suffix={self.img_suffix!r}',
                'current',
                logging.WARNING,
            )
        return stems

    def split_lines(self) -> list[str]:
        """Return the lines of the split file."""
        path = osp.abspath(self.ann_file)
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'split file {path} does not exist')
        lines = text_lines(fileio.get(self.ann_file, backend_args=self.backend_args), f'split file {path}')
        if not lines:
            raise ValueError(f'split file {path} lists no images')
        return lines

    def _read_split(self, present: set[str], folder: str) -> list[str]:
        names = [line.removesuffix(self.img_suffix) for line in self.split_lines()]
        absent = [name for name in names if name not in present]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(names)} names in the split file {osp.abspath(self.ann_file)} have no '
                f'image in {osp.abspath(folder)}: {first_names(absent, self.img_suffix)}'
                f'{explain_absent(absent[0], present)}'
            )
        return names

    def require_annotations(self, stems: Sequence[str], folder: str | None) -> None:
        """Raise an error unless each image has an annotation of the same name in a folder."""
        if folder is None:
            raise ValueError(
                f'{type(self).__name__} has no data_prefix[{self.annotation_key!r}]: set it, or set '
                f'test_mode=True if there are no {self.annotation}s'
            )
        present = set(self.list_folder(folder))
        suffix, what = self.annotation_suffix, self.annotation
        absent = [stem for stem in stems if stem + suffix not in present]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(stems)} images have no {what} in {osp.abspath(folder)}: '
                f'{first_names(absent, suffix)}{explain_absent(absent[0] + suffix, present)}; set '
                f'{self.suffix_argument} if {what}s have another suffix, or test_mode=True if there are no '
                f'{what}s'
            )


def _known_prefixes(given: Mapping[str, str | None] | None, annotation_key: str) -> dict[str, str]:
    keys = ('img_path', annotation_key)
    if given is None:
        return dict.fromkeys(keys, '')
    unknown = sorted(set(given) - set(keys))
    if unknown:
        raise ValueError(f'data_prefix has the unknown keys {unknown}; the valid keys are {keys}')
    wrong = {key: folder for key, folder in given.items() if isinstance(folder, (int, float))}
    if wrong:
        raise ValueError(f'data_prefix={wrong} must name folders by strings, not numbers')
    return {'img_path': '', **{key: folder for key, folder in given.items() if folder is not None}}


def first_names(stems: Sequence[str], suffix: str = '') -> str:
    """Return the first three names with a suffix, for error messages."""
    return ', '.join(stem + suffix for stem in stems[:3]) + (', ...' if len(stems) > 3 else '')
