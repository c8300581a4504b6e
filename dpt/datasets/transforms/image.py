"""Reading images."""

import io

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from dpt.datasets.bad_sample import BadSampleError, read_file
from dpt.registry import TRANSFORMS

_JPEG, _SCAN, _END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_MAY_MOVE = (b'GIF8', b'RIFF')  # RIFF: WebP


def is_cut_short(content: bytes) -> bool:
    """Whether a JPEG lacks its end; OpenCV before 5 fills the rest with grey."""
    if not content.startswith(_JPEG) or content.endswith(_END):
        return False
    # Neither marker occurs inside a scan, and a thumbnail has its scan and end before the picture's.
    return content.rfind(_END) < content.rfind(_SCAN) or _SCAN not in content


def _frames(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        return getattr(image, 'n_frames', 1)


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Read the image of a sample, whatever its format, as BGR: mmcv's step of that name, naming the file.

    Grey and CMYK images become BGR, transparency is dropped. An EXIF orientation is applied, as viewers and
    labelling tools do; where masks were drawn on the pixels as stored, set
    ``color_type='color_ignore_orientation'``. Reads ``img_path``, writes ``img``, ``img_shape`` and
    ``ori_shape`` (height, width).

    Args:
        to_float32: Whether to convert to float32.
        color_type: mmcv's name of how colours are read.
        imdecode_backend: mmcv's name of the decoder.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: The image does not exist.
        BadSampleError: It is empty, cut short, damaged, animated, no image, or cannot be read.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        *,
        backend_args: dict | None = None,
    ) -> None:
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
        """Return the pixels of a file's content; the path is for messages."""
        if is_cut_short(content):
            raise BadSampleError(f'image {path} is cut short: the JPEG has no end', 'image cut short')
        image, reason = None, 'the file is damaged or not an image'
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
            if content.startswith(_MAY_MOVE) and _frames(content) > 1:
                raise BadSampleError(f'image {path} is an animation, not an image', 'image animated')
        except (cv2.error, OSError, SyntaxError) as error:
            reason = str(error)
        if image is None:
            raise BadSampleError(f'image {path} cannot be read: {reason}', 'image damaged')
        return image

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(to_float32={self.to_float32}, color_type={self.color_type!r}, '
            f'imdecode_backend={self.imdecode_backend!r}, backend_args={self.backend_args})'
        )
