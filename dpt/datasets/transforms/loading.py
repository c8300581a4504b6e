"""Load images and label maps."""

import importlib.util
import io
import logging
import re
from collections.abc import Mapping

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from PIL import Image

from dpt.datasets.bad_sample import DECODER_ERRORS, BadSampleError, read_file
from dpt.datasets.labels import check_labels
from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX

BACKENDS = ('cv2', 'pillow', 'tifffile')
"""Decoders of mmcv, which are also the names of optional packages; cv2 and pillow are always installed."""
COLOR_TYPES = ('color', 'grayscale', 'unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation')

_JPEG, _SCAN, _END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_JPEG_SIGNATURE = b'\xff\xd8\xff'
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_GREY = 0
_TIFF = (b'II*\0', b'MM\0*')
_BITS_PER_SAMPLE = 258  # TIFF tag
_MAY_MOVE = (b'GIF8', b'RIFF')  # RIFF: WebP


def check_backend(name: str) -> None:
    """Check that a decoder can be used.

    Raises:
        ValueError: If the name is unknown.
        ImportError: If its package is not installed.
    """
    if name not in BACKENDS:
        raise ValueError(f'imdecode_backend must be one of {BACKENDS}, not {name!r}')
    if name == 'tifffile' and importlib.util.find_spec(name) is None:
        raise ImportError(
            f'imdecode_backend={name!r} needs the package {name}, which is not installed: pip install {name}'
        )


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG is truncated, in which case OpenCV before 5 fills the rest with grey."""
    if not content.startswith(_JPEG) or content.endswith(_END):
        return False
    # Neither marker occurs inside a scan; the markers of a thumbnail precede those of the image.
    return content.rfind(_END) < content.rfind(_SCAN) or _SCAN not in content


def is_16_bit(content: bytes) -> bool:
    """Return whether an image file has 16 bits per channel, of which loading keeps the upper 8."""
    if content.startswith(_PNG_SIGNATURE):
        return content[24:25] == b'\x10'
    if content.startswith(_TIFF):
        with Image.open(io.BytesIO(content)) as image:
            return 16 in image.tag_v2.get(_BITS_PER_SAMPLE, ())  # type: ignore[attr-defined]
    return bool(re.match(rb'P[56](\s+(#.*)?)+\d+\s+\d+\s+\d{4,5}\s', content[:200]))


DARK = 64
"""A 16-bit image whose values are all below this after loading uses at most 14 bits and looks black."""
_warned_dark = False


def warn_dark(image: np.ndarray, content: bytes, path: str) -> None:
    """Warn once per process about a 16-bit image that becomes almost black on loading."""
    global _warned_dark
    if not _warned_dark and is_16_bit(content) and image.dtype == np.uint8 and image.max(initial=0) < DARK:
        _warned_dark = True
        print_log(explain_dark(path, int(image.max(initial=0))), 'current', logging.WARNING)


def explain_dark(path: str, highest: int) -> str:
    """Return the warning for a 16-bit image whose highest value after loading is ``highest``."""
    return (
        f'image {path} has 16 bits per channel, but values of fewer bits: the upper 8 bits, which are read, '
        f'are 0 to {highest} of 255; scale the images to 8 bits, see "16-bit images" in docs/own_data.md'
    )


def _frames(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        return getattr(image, 'n_frames', 1)


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Load an image of any format as BGR, like mmcv's transform, but with errors that name the file.

    Grey and CMYK images become BGR; transparency is dropped; of 16 bits per channel, the upper 8 are kept,
    with a warning if they are almost black (12-bit data). The EXIF orientation is applied, as in viewers
    and labelling tools; if masks were drawn on the unrotated pixels, set
    ``color_type='color_ignore_orientation'``. Reads ``img_path``, writes ``img``, ``img_shape`` and
    ``ori_shape`` (height, width).

    Args:
        to_float32: Whether to convert to float32.
        color_type: Colour mode of ``mmcv.imfrombytes``, one of ``COLOR_TYPES``.
        imdecode_backend: Decoder, one of ``BACKENDS``.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        ValueError: If ``color_type`` or ``imdecode_backend`` is unknown.
        FileNotFoundError: If the image does not exist.
        BadSampleError: If the file is empty, truncated, damaged, animated or not an image, or cannot be read.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        *,
        backend_args: dict | None = None,
    ) -> None:
        check_backend(imdecode_backend)
        if color_type not in COLOR_TYPES:
            raise ValueError(f'color_type must be one of {COLOR_TYPES}, not {color_type!r}')
        self.to_float32 = to_float32
        self.color_type = color_type
        self.imdecode_backend = imdecode_backend
        self.backend_args = dict(backend_args) if backend_args else None

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        image = self.decode(read_file(path, 'image', self.backend_args), path)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def decode(self, content: bytes, path: str) -> np.ndarray:
        """Decode the content of an image file; ``path`` is used in error messages."""
        if is_truncated(content):
            raise BadSampleError(f'image {path} is truncated: the JPEG has no end marker', 'image truncated')
        image, reason = None, 'the file is damaged or not an image'
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
            if content.startswith(_MAY_MOVE) and _frames(content) > 1:
                raise BadSampleError(f'image {path} is an animation, not an image', 'image animated')
        except DECODER_ERRORS as error:
            reason = ' '.join(str(error).split()) or reason
        if image is None:
            raise BadSampleError(f'image {path} cannot be read: {reason}', 'image damaged')
        warn_dark(image, content, path)
        return image

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(to_float32={self.to_float32}, color_type={self.color_type!r}, '
            f'imdecode_backend={self.imdecode_backend!r}, backend_args={self.backend_args})'
        )


def label_table(
    reduce_zero_label: bool,
    label_map: Mapping[int, int] | None,
    size: int = 256,
    ignore_index: int = IGNORE_INDEX,
) -> np.ndarray:
    """Return an int32 vector that maps ``size`` labels on disk to labels for training.

    ``reduce_zero_label`` is applied first (0 becomes ``ignore_index``, which stays, and the others decrease
    by one), then ``label_map``; labels that are not in the map stay unchanged.
    """
    table = np.arange(size, dtype=np.int32)
    if reduce_zero_label:
        table -= 1
        table[0] = ignore_index
        table[ignore_index : ignore_index + 1] = ignore_index
    if label_map:
        highest = max(size - 1, ignore_index, *label_map)
        renamed = np.arange(highest + 1, dtype=np.int32)
        renamed[list(label_map)] = list(label_map.values())
        table = renamed[table]
    return table


def _png_layout(content: bytes) -> tuple[int, int] | None:
    """Return bit depth and colour type of a PNG, or None for other formats."""
    if len(content) < 26 or not content.startswith(_PNG_SIGNATURE):
        return None
    return content[24], content[25]


def _decode(content: bytes, backend: str) -> np.ndarray | None:
    layout = _png_layout(content)
    # cv2 is fastest for grey PNG files, but converts palettes to colours and rescales small bit depths.
    if backend == 'cv2' and layout not in ((8, _PNG_GREY), (16, _PNG_GREY)):
        backend = 'pillow'
    labels = mmcv.imfrombytes(content, flag='unchanged', backend=backend)
    if backend == 'pillow' and layout in ((2, _PNG_GREY), (4, _PNG_GREY)):
        labels = labels // (255 // (2 ** layout[0] - 1))  # pillow rescales to 0..255
    return labels


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Load the label map of a sample.

    Reads ``seg_map_path``, ``reduce_zero_label`` and ``label_map`` (set by the data set) and, if present,
    ``img_path`` and ``ori_shape``. Writes ``gt_seg_map``, a contiguous array of shape HxW, uint8 if all
    labels fit, else int32, and adds its name to ``seg_fields``. Palette images are read as indices. The
    ``ignore_index`` of the data set always means 'no label'.

    Args:
        reduce_zero_label: If given, must equal the setting of the data set. Needed only for samples that do
            not come from a data set.
        backend_args: Arguments of mmengine's file backend.
        imdecode_backend: 'cv2', 'pillow' or 'tifffile'. With 'cv2', files other than grey PNG of 8 or 16 bits
            are decoded by pillow, which keeps palette indices.

    Raises:
        FileNotFoundError: If the mask does not exist.
        BadSampleError: If the mask cannot be read, has several channels, has another size than the image, or
            has a label outside the classes of the data set.
        ValueError: If ``reduce_zero_label`` contradicts the data set.
    """

    def __init__(
        self,
        reduce_zero_label: bool | None = None,
        backend_args: dict | None = None,
        *,
        imdecode_backend: str = 'cv2',
    ) -> None:
        check_backend(imdecode_backend)
        self.reduce_zero_label = reduce_zero_label
        self.backend_args = dict(backend_args) if backend_args else None
        self.imdecode_backend = imdecode_backend

    def transform(self, results: dict) -> dict:
        path = results.get('seg_map_path')
        if path is None:
            raise ValueError(
                f'{results.get("img_path", "the sample")} has no seg_map_path: set data_prefix '
                "['seg_map_path'] of the data set, or remove LoadAnnotations from the pipeline"
            )
        return self.place(self.read(path), results)

    def place(self, labels: np.ndarray, results: dict) -> dict:
        """Check and relabel the labels from a file and add them to the sample."""
        reduce_zero_label = self._agreed_reduce_zero_label(results)
        _check_size(labels, results)
        ignore_index = results.get('ignore_index', IGNORE_INDEX)
        trained = _relabel(labels, reduce_zero_label, results.get('label_map'), ignore_index)
        check_labels(trained, labels, results, reduce_zero_label)
        results['gt_seg_map'] = trained
        fields = results.get('seg_fields', [])
        results['seg_fields'] = [*(name for name in fields if name != 'gt_seg_map'), 'gt_seg_map']
        return results

    def _agreed_reduce_zero_label(self, results: dict) -> bool:
        decided = results.get('reduce_zero_label')
        if decided is None:
            return bool(self.reduce_zero_label)
        if self.reduce_zero_label is not None and self.reduce_zero_label != decided:
            raise ValueError(
                f'LoadAnnotations(reduce_zero_label={self.reduce_zero_label}) contradicts the data set, '
                f'which has reduce_zero_label={decided}: set it only on the data set'
            )
        return decided

    def read(self, path: str) -> np.ndarray:
        """Return the labels in a file, of shape HxW, uint8 if they fit, else int32."""
        content = read_file(path, 'mask', self.backend_args)
        if content.startswith(_JPEG_SIGNATURE):
            raise BadSampleError(
                f'mask {path} is a JPEG, which does not preserve labels: save masks as PNG', 'mask is a JPEG'
            )
        labels, reason = None, 'the file is damaged or not an image'
        try:
            labels = _decode(content, self.imdecode_backend)
        except (*DECODER_ERRORS, ValueError) as error:
            reason = ' '.join(str(error).split()) or reason
        if labels is None:
            raise BadSampleError(f'mask {path} cannot be read: {reason}', 'mask damaged')
        return _narrow(_one_channel(labels, path), path)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(reduce_zero_label={self.reduce_zero_label}, '
            f'imdecode_backend={self.imdecode_backend!r}, backend_args={self.backend_args})'
        )


def _one_channel(labels: np.ndarray, path: str) -> np.ndarray:
    if labels.ndim == 3 and labels.shape[2] == 1:
        return labels[..., 0]
    if labels.ndim != 2:
        raise BadSampleError(
            f'mask {path} has shape {labels.shape}, colours instead of labels: a mask must have one channel '
            'with the class index of each pixel (a grey or palette PNG); convert the colours to indices',
            'mask has several channels',
        )
    return labels


def _narrow(labels: np.ndarray, path: str) -> np.ndarray:
    if labels.dtype == np.uint8:
        return np.ascontiguousarray(labels)
    if labels.dtype.kind not in 'bui':
        raise BadSampleError(
            f'mask {path} contains {labels.dtype} values: expected integers',
            'mask not of integers',
        )
    if labels.dtype.kind == 'i' and labels.min() < 0:
        raise BadSampleError(
            f'mask {path} contains negative labels: use 255 for unlabelled pixels',
            'label outside the classes',
        )
    fits = labels.dtype.kind == 'b' or labels.max() <= np.iinfo(np.uint8).max
    return np.ascontiguousarray(labels, dtype=np.uint8 if fits else np.int32)


def _check_size(labels: np.ndarray, results: dict) -> None:
    # Not img_shape, because test pipelines resize the image first.
    expected = results.get('ori_shape')
    if expected is None or labels.shape == tuple(expected[:2]):
        return
    turned = labels.shape == tuple(expected[1::-1])
    hint = (
        '; if the mask was drawn on the unrotated pixels of an image with an EXIF orientation, set '
        "color_type='color_ignore_orientation' of LoadImageFromFile"
    )
    raise BadSampleError(
        f'image {results.get("img_path")} is {expected[0]}x{expected[1]} (height x width) but its mask '
        f'{results["seg_map_path"]} is {labels.shape[0]}x{labels.shape[1]}: both must have the same size'
        + (hint if turned else ''),
        'sizes differ',
    )


def _relabel(
    labels: np.ndarray, reduce_zero_label: bool, label_map: Mapping[int, int] | None, ignore_index: int
) -> np.ndarray:
    if ignore_index > np.iinfo(np.uint8).max:  # transforms that pad with it need a wider type
        labels = labels.astype(np.int32)
    if not reduce_zero_label and not label_map:
        return labels
    if labels.dtype == np.uint8:
        if not label_map and ignore_index == IGNORE_INDEX and labels.max() < IGNORE_INDEX:
            return labels - np.uint8(1)  # 0 wraps around to 255; faster than a table
        table = label_table(reduce_zero_label, label_map, ignore_index=ignore_index)
        return cv2.LUT(labels, table.astype(np.uint8))
    return label_table(reduce_zero_label, label_map, int(labels.max()) + 1, ignore_index)[labels]
