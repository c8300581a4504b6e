"""Read depth from files: PNG, TIFF and EXR images and numpy arrays."""

import io
import math
import os
import zipfile

import cv2
import numpy as np

from dpt.datasets.bad_sample import DECODER_ERRORS, BadSampleError

DEPTH_SUFFIXES = ('.exr', '.npy', '.npz', '.png', '.tif', '.tiff')
"""Formats that preserve depth."""

_EXR = b'\x76\x2f\x31\x01'
_JPEG = b'\xff\xd8\xff'
_NPY = b'\x93NUMPY'
_ZIP = b'PK\x03\x04'
_OPENEXR = 'OPENCV_IO_ENABLE_OPENEXR'
"""Environment variable without which OpenCV refuses EXR files; it is read at the first of them."""


def decode_depth(content: bytes, path: str) -> np.ndarray:
    """Return the values of a depth file as float32 of shape HxW, as they are stored.

    Args:
        content: PNG, TIFF or EXR image with one channel (or equal ones) of any number type; ``.npy`` array
            of shape HxW, 1xHxW or HxWx1; ``.npz`` file with one array, or one that is named ``depth``.
        path: Name of the file, for the error messages.

    Raises:
        BadSampleError: If the content is damaged, of another format, or not a map of one number per pixel.
    """
    if content.startswith(_JPEG):
        raise BadSampleError(
            f'depth {path} is a JPEG, which does not preserve depth: save it as 16-bit PNG or as .npy',
            'depth is a JPEG',
        )
    values, reason = None, 'the file is damaged or not an image or array'
    try:
        if content.startswith(_NPY):
            values = np.load(io.BytesIO(content), allow_pickle=False)
        elif content.startswith(_ZIP):
            values = _from_archive(content, path)
        else:
            values = _decode_image(content, path)
    except BadSampleError:
        raise
    except (*DECODER_ERRORS, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = ' '.join(str(error).split()) or reason
    if values is None:
        raise BadSampleError(f'depth {path} cannot be read: {reason}', 'depth damaged')
    return _one_channel(values, path)


def _from_archive(content: bytes, path: str) -> np.ndarray:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        name = 'depth' if 'depth' in archive.files else next(iter(archive.files), None)
        if name is None or (name != 'depth' and len(archive.files) > 1):
            raise BadSampleError(
                f'depth {path} contains the arrays {archive.files}: expected one array, or one named depth',
                'depth of several arrays',
            )
        return archive[name]


def _decode_image(content: bytes, path: str) -> np.ndarray | None:
    if not content.startswith(_EXR):
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    os.environ.setdefault(_OPENEXR, '1')
    values, reason = None, ''
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        reason = f' ({" ".join(str(error).split())})'
    if values is None:
        raise BadSampleError(
            f'depth {path} is an EXR file, which OpenCV {cv2.__version__} cannot read{reason}: convert the '
            f'files to .npy, or use an OpenCV built with OpenEXR and the environment variable {_OPENEXR}=1',
            'EXR not read',
        )
    return values


def check_factor(factor: float) -> None:
    """Raise ValueError unless a ``depth_rescale_factor`` is a positive number."""
    if not isinstance(factor, (int, float)) or not 0 < factor < math.inf:
        raise ValueError(f'depth_rescale_factor={factor!r} must be a number above 0')


def _one_channel(values: np.ndarray, path: str) -> np.ndarray:
    if values.dtype.kind not in 'uif':
        raise BadSampleError(
            f'depth {path} contains {values.dtype} values: expected numbers', 'depth damaged'
        )
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    elif values.ndim == 3 and values.dtype.kind == 'f' and (values == values[..., :1]).all():
        values = values[..., 0]  # renderers repeat depth in R, G and B
    if values.ndim != 2 or not values.size:
        raise BadSampleError(
            f'depth {path} has shape {values.shape}: expected one number per pixel, not colours; a picture '
            'of depth cannot be used as depth',
            'depth has several channels',
        )
    return np.ascontiguousarray(values, np.float32)
