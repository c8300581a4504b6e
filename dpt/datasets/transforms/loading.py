"""Reading label maps."""

from collections.abc import Mapping

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from dpt.datasets.bad_sample import BadSampleError, read_file
from dpt.datasets.labels import check_labels
from dpt.registry import TRANSFORMS
from dpt.structures import IGNORE_INDEX

BACKENDS = ('cv2', 'pillow', 'tifffile')

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_GREY = 0
_JPEG_SIGNATURE = b'\xff\xd8\xff'


def label_table(reduce_zero_label: bool, label_map: Mapping[int, int] | None, size: int = 256) -> np.ndarray:
    """Trained label of each label on disk: an int32 vector of ``size`` entries.

    ``reduce_zero_label`` acts first (0 becomes 255, the others one less, 255 stays), ``label_map`` on
    what that leaves; labels that the map does not name stay.
    """
    table = np.arange(size, dtype=np.int32)
    if reduce_zero_label:
        table -= 1
        table[[0, IGNORE_INDEX]] = IGNORE_INDEX
    if label_map:
        renamed = np.arange(max(size, *(old + 1 for old in label_map)), dtype=np.int32)
        renamed[list(label_map)] = list(label_map.values())
        table = renamed[table]
    return table


def _png_layout(content: bytes) -> tuple[int, int] | None:
    """Bit depth and colour type in the header of a PNG; None for other formats."""
    if len(content) < 26 or not content.startswith(_PNG_SIGNATURE):
        return None
    return content[24], content[25]


def _decode(content: bytes, backend: str) -> np.ndarray | None:
    layout = _png_layout(content)
    # cv2 is the fastest on grey PNG files, but turns palettes into colours and stretches small bit depths.
    if backend == 'cv2' and layout not in ((8, _PNG_GREY), (16, _PNG_GREY)):
        backend = 'pillow'
    labels = mmcv.imfrombytes(content, flag='unchanged', backend=backend)
    if backend == 'pillow' and layout in ((2, _PNG_GREY), (4, _PNG_GREY)):
        labels = labels // (255 // (2 ** layout[0] - 1))  # undoes pillow's stretch to 0..255
    return labels


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Read the label map of a sample.

    Reads ``seg_map_path``, ``reduce_zero_label`` and ``label_map`` (both are the data set's decision) and,
    if there, ``img_path`` and ``ori_shape``. Writes ``gt_seg_map``, a contiguous array of shape HxW, uint8
    if all labels fit, else int32, and adds its name to ``seg_fields``. Pixels of palette images count by
    their index. 255 always stands for 'no label', in wider label maps too.

    Args:
        reduce_zero_label: The data set decides; a value given here must agree with it. It acts by itself
            only on samples that come without a data set.
        backend_args: Arguments of mmengine's file backend.
        imdecode_backend: 'cv2', 'pillow' or 'tifffile'. With 'cv2', whatever is not an 8-bit or 16-bit
            grey PNG is decoded by pillow, which alone keeps palette indices.

    Raises:
        FileNotFoundError: The mask is not there.
        BadSampleError: The mask is unreadable, has several channels, differs from the image in size, or holds
            a label outside the classes of the data set.
        ValueError: ``reduce_zero_label`` contradicts the data set.
    """

    def __init__(
        self,
        reduce_zero_label: bool | None = None,
        backend_args: dict | None = None,
        *,
        imdecode_backend: str = 'cv2',
    ) -> None:
        if imdecode_backend not in BACKENDS:
            raise ValueError(f'imdecode_backend is {imdecode_backend!r}: one of {BACKENDS} was expected')
        self.reduce_zero_label = reduce_zero_label
        self.backend_args = dict(backend_args) if backend_args else None
        self.imdecode_backend = imdecode_backend

    def transform(self, results: dict) -> dict:
        path = results.get('seg_map_path')
        if path is None:
            raise ValueError(
                f'{results.get("img_path", "the sample")} has no seg_map_path: set data_prefix '
                "['seg_map_path'] of the data set, or take LoadAnnotations out of the pipeline"
            )
        return self.place(self.read(path), results)

    def place(self, labels: np.ndarray, results: dict) -> dict:
        """Check the labels of the file against the sample, relabel them and put them into it."""
        reduce_zero_label = self._agreed_reduce_zero_label(results)
        _check_size(labels, results)
        trained = _relabel(labels, reduce_zero_label, results.get('label_map'))
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
                f'which says reduce_zero_label={decided}: set it on the data set alone'
            )
        return decided

    def read(self, path: str) -> np.ndarray:
        """Return the labels as they are on disk: HxW, uint8 where they fit, else int32."""
        content = read_file(path, 'mask', self.backend_args)
        if content.startswith(_JPEG_SIGNATURE):
            raise BadSampleError(
                f'mask {path} is a JPEG, which does not keep labels: write masks as PNG', 'mask is a JPEG'
            )
        labels, reason = None, 'the file is damaged or not an image'
        try:
            labels = _decode(content, self.imdecode_backend)
        except (OSError, SyntaxError, ValueError, cv2.error) as error:
            reason = str(error)
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
            f'mask {path} has shape {labels.shape}, colours instead of labels: a mask has one channel that '
            'holds the class index of each pixel (a grey or palette PNG); convert the colours to indices',
            'mask has several channels',
        )
    return labels


def _narrow(labels: np.ndarray, path: str) -> np.ndarray:
    if labels.dtype == np.uint8:
        return np.ascontiguousarray(labels)
    if labels.dtype.kind not in 'bui':
        raise BadSampleError(
            f'mask {path} holds {labels.dtype} values: whole numbers were expected',
            'mask not of whole numbers',
        )
    if labels.dtype.kind == 'i' and labels.min() < 0:
        raise BadSampleError(
            f'mask {path} holds negative labels: 255 is the value for pixels without a label',
            'label outside the classes',
        )
    fits = labels.dtype.kind == 'b' or labels.max() <= np.iinfo(np.uint8).max
    return np.ascontiguousarray(labels, dtype=np.uint8 if fits else np.int32)


def _check_size(labels: np.ndarray, results: dict) -> None:
    # ori_shape: the image may already be resized, in test pipelines it is.
    expected = results.get('ori_shape')
    if expected is None or labels.shape == tuple(expected[:2]):
        return
    turned = labels.shape == tuple(expected[1::-1])
    hint = (
        '; if the mask is of the pixels as stored and the image has an EXIF orientation, set '
        "color_type='color_ignore_orientation' of LoadImageFromFile"
    )
    raise BadSampleError(
        f'image {results.get("img_path")} is {expected[0]}x{expected[1]} (height x width) but its mask '
        f'{results["seg_map_path"]} is {labels.shape[0]}x{labels.shape[1]}: both must have one size'
        + (hint if turned else ''),
        'sizes differ',
    )


def _relabel(labels: np.ndarray, reduce_zero_label: bool, label_map: Mapping[int, int] | None) -> np.ndarray:
    if not reduce_zero_label and not label_map:
        return labels
    if labels.dtype == np.uint8:
        if not label_map and labels.max() < IGNORE_INDEX:
            return labels - np.uint8(1)  # 0 wraps around to 255: a tenth of a table's time
        return cv2.LUT(labels, label_table(reduce_zero_label, label_map).astype(np.uint8))
    return label_table(reduce_zero_label, label_map, size=int(labels.max()) + 1)[labels]
