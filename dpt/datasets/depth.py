"""Data sets of images and depth in folders: NYUv2, KITTI and any others."""

import logging
import os.path as osp
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mmengine.logging import print_log

from dpt.datasets.bad_sample import FILE_ERRORS
from dpt.datasets.depth_files import DEPTH_SUFFIXES, check_factor
from dpt.datasets.pairs import PairDataset, first_names
from dpt.datasets.text import explain_absent
from dpt.datasets.transforms.depth import DEPTH, LoadDepthAnnotation
from dpt.registry import DATASETS

DEPTHS_LOOKED_AT = 4
FARTHEST = 300
"""Median depth in metres above which files are likely to be in millimetres."""
NO_DEPTH = 'None'
"""Stands in KITTI's split files for depth that does not exist."""


@DATASETS.register_module()
class BaseDepthDataset(PairDataset):
    """Images and depth with matching names in two folders and their subfolders, or listed in a split file.

    Depth is read from 16-bit PNG, TIFF, EXR, ``.npy`` or ``.npz`` files. The input of the pipeline is a dict
    with ``img_path``, ``depth_map_path`` (absent if the data set has no depth), ``depth_rescale_factor``,
    ``invalid_value`` and ``seg_fields=[]``.

    Args:
        ann_file: Split file, relative to ``data_root``. Each line has an image, with or without
            ``img_suffix``; or an image and its depth file, relative to the two folders and separated by a
            blank, of which the depth may be ``None`` (the pair is left out) and a focal length may follow
            (not used). The order is kept. If empty, all images in the folder are used, sorted by name.
        img_suffix: Suffix of images.
        depth_map_suffix: Suffix of depth files, which replaces ``img_suffix``.
        depth_rescale_factor: Factor from the numbers in the files to metres, such as 0.001 for millimetres.
            For relative depth, any unit will do.
        invalid_value: Number in the files that means 'no measurement', besides 0, NaN and infinity.
        metainfo: Further information about the data set.
        data_root: Root folder of ``ann_file`` and ``data_prefix``.
        data_prefix: Folders ``img_path`` and ``depth_map_path``; None means ``data_root`` for both. Omit
            ``depth_map_path`` if there is no depth (in test mode).
        indices: Number of samples to use from the start, or indices of the samples to use.
        serialize_data: Whether to store the list of samples as bytes, which workers share.
        pipeline: Transforms, as configs or callables.
        test_mode: Whether depth may be missing. A failing sample raises an error and is not replaced.
        lazy_init: Whether to postpone listing the folders until the first sample is read.
        max_refetch: As in :class:`BaseSegDataset`.
        max_bad_samples: As in :class:`BaseSegDataset`.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: If a folder, the split file, one of its images or (except in test mode) depth does
            not exist.
        ValueError: If no image has the suffix, or arguments or lines of the split file contradict each other.
    """

    METAINFO: dict = {}
    SPLITS: dict[str, int] = {}
    """Number of pairs in published split files, by file name."""
    annotation = 'depth file'
    annotation_key = 'depth_map_path'
    suffix_argument = 'depth_map_suffix'

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.jpg',
        *,
        depth_map_suffix: str = '.png',
        depth_rescale_factor: float = 1.0,
        invalid_value: float | None = None,
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
        backend_args: Mapping | None = None,
    ) -> None:
        check_factor(depth_rescale_factor)
        self.depth_rescale_factor = depth_rescale_factor
        self.invalid_value = invalid_value
        super().__init__(
            ann_file,
            img_suffix,
            annotation_suffix=depth_map_suffix,
            metainfo=metainfo,
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

    def complete_metainfo(self) -> None:
        self._metainfo['depth_rescale_factor'] = self.depth_rescale_factor

    def load_data_list(self) -> list[dict]:
        """List folders or split file, check that all files exist, and return one dict per sample."""
        images, depths = self.data_prefix['img_path'], self.data_prefix.get('depth_map_path')
        pairs = self._listed_pairs() if self.ann_file else None
        if pairs is not None:
            self._require_listed([image for image, _ in pairs], images, 'image')
            if depths is not None:
                self._require_listed([depth for _, depth in pairs], depths, self.annotation)
            elif not self.test_mode:
                self.require_annotations([], None)
        else:
            stems = self.find_images(images)
            if not self.test_mode:
                self.require_annotations(stems, depths)
            pairs = [(stem + self.img_suffix, stem + self.annotation_suffix) for stem in stems]
        return [self._describe(osp.join(images, image), depths, depth) for image, depth in pairs]

    def _describe(self, image: str, folder: str | None, depth: str) -> dict:
        return {
            'img_path': image,
            **({} if folder is None else {'depth_map_path': osp.join(folder, depth)}),
            'depth_rescale_factor': self.depth_rescale_factor,
            'invalid_value': self.invalid_value,
            'seg_fields': [],
        }

    def _listed_pairs(self) -> list[tuple[str, str]] | None:
        """Return the pairs of image and depth in the split file; None if it lists images only."""
        lines = self.split_lines()
        fields = [line.split() for line in lines]
        paired = [_is_pair(one) for one in fields]
        if not any(paired):
            return None
        if not all(paired):
            raise ValueError(
                f'split file {osp.abspath(self.ann_file)} has the line {lines[paired.index(False)]!r}, but '
                'others name an image and its depth file, separated by a blank'
            )
        pairs = [(one[0].lstrip('/'), one[1].lstrip('/')) for one in fields]
        kept = [pair for pair in pairs if pair[1] != NO_DEPTH]
        if len(kept) < len(pairs):
            print_log(
                f'{len(pairs) - len(kept)} of {len(pairs)} images in the split file '
                f'{osp.abspath(self.ann_file)} have no depth ({NO_DEPTH}) and are left out',
                'current',
            )
        published = self.SPLITS.get(osp.basename(self.ann_file))
        if published not in (None, len(kept)):
            print_log(
                f'split file {osp.abspath(self.ann_file)} has {len(kept)} pairs of image and depth, but the '
                f'published one has {published}',
                'current',
                logging.WARNING,
            )
        return kept

    def _require_listed(self, names: Sequence[str], folder: str, what: str) -> None:
        present = set(self.list_folder(folder))
        absent = [name for name in names if name not in present]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(names)} {what}s named in the split file '
                f'{osp.abspath(self.ann_file)} do not exist in {osp.abspath(folder)}: {first_names(absent)}'
                f'{explain_absent(absent[0], present)}'
            )

    def look_at_annotations(self) -> None:
        """Warn if the depth of the first files that are looked at is likely to have the wrong scale."""
        load = next((one for one in self.pipeline.transforms if isinstance(one, LoadDepthAnnotation)), None)
        if load is None or not len(self):
            return
        middles = []
        for index in range(0, len(self), -(-len(self) // DEPTHS_LOOKED_AT)):
            sample = self.get_data_info(index)
            try:
                depth = load.place(load.read(sample['depth_map_path']), sample)[DEPTH]
            except (*FILE_ERRORS, ValueError):  # reported when the sample is used
                return
            middles.append(float(np.median(depth[depth > 0])))
        middle = float(np.median(middles))
        if middle > FARTHEST:
            print_log(
                explain_scale(sample['depth_map_path'], middle, self.depth_rescale_factor),
                'current',
                logging.WARNING,
            )


def explain_scale(path: str, middle: float, factor: float) -> str:
    """Return the warning about depth whose median is ``middle`` metres."""
    return (
        f'depth files such as {path} have a median depth of {middle:.0f} m with '
        f'depth_rescale_factor={factor:g}: if they are in millimetres, set depth_rescale_factor=0.001 on the '
        'data set (KITTI: 1 / 256)'
    )


def _is_pair(fields: Sequence[str]) -> bool:
    return len(fields) in (2, 3) and (fields[1] == NO_DEPTH or fields[1].lower().endswith(DEPTH_SUFFIXES))


@DATASETS.register_module()
class NYUDataset(BaseDepthDataset):
    """NYU Depth V2 with the usual split: 24,231 training pairs and 654 test pairs of 480x640.

    Depth is in 16-bit PNG files in millimetres, 0 where it was not measured. ``nyu_train.txt`` and
    ``nyu_test.txt`` list image, depth and focal length, as in BTS and the
    Monocular-Depth-Estimation-Toolbox; ``tools/prepare_nyu.py`` prepares them. For the arguments see
    :class:`BaseDepthDataset`. Silberman et al., *Indoor Segmentation and Support Inference from RGBD Images*,
    2012.
    """

    SPLITS = {'nyu_train.txt': 24231, 'nyu_test.txt': 654}

    def __init__(self, ann_file: str = '', *, depth_rescale_factor: float = 0.001, **kwargs) -> None:
        super().__init__(ann_file, depth_rescale_factor=depth_rescale_factor, **kwargs)

    def explain_missing(self, folder: str) -> str:
        return f'NYUv2 not found: {osp.abspath(folder)} is not a folder; run python tools/prepare_nyu.py'


@DATASETS.register_module()
class KITTIDataset(BaseDepthDataset):
    """KITTI with the split of Eigen: 23,158 training pairs and 652 test pairs (697 images, 45 without depth).

    Depth is in 16-bit PNG files in units of 1 / 256 m, 0 where it was not measured. Images are in ``input``,
    depth in ``gt_depth``. ``kitti_eigen_train.txt`` and ``kitti_eigen_test.txt`` list image, depth and focal
    length, as in BTS and the Monocular-Depth-Estimation-Toolbox; ``tools/prepare_kitti.py`` prepares them.
    For the arguments see :class:`BaseDepthDataset`. Geiger et al., *Vision meets Robotics: The KITTI
    Dataset*, 2013; Uhrig et al., *Sparsity Invariant CNNs*, 2017.
    """

    SPLITS = {'kitti_eigen_train.txt': 23158, 'kitti_eigen_test.txt': 652}

    def __init__(
        self,
        ann_file: str = '',
        img_suffix: str = '.png',
        *,
        depth_rescale_factor: float = 1 / 256,
        data_prefix: Mapping[str, str | None] | None = None,
        **kwargs,
    ) -> None:
        folders = dict(img_path='input', depth_map_path='gt_depth') if data_prefix is None else data_prefix
        super().__init__(
            ann_file, img_suffix, depth_rescale_factor=depth_rescale_factor, data_prefix=folders, **kwargs
        )

    def explain_missing(self, folder: str) -> str:
        return f'KITTI not found: {osp.abspath(folder)} is not a folder; run python tools/prepare_kitti.py'
