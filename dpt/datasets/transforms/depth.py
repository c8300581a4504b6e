"""Load depth, and change it where a config asks for it."""

import numpy as np
from mmcv.transforms import BaseTransform

from dpt.datasets.bad_sample import BadSampleError, read_file
from dpt.datasets.depth_files import check_factor, decode_depth
from dpt.datasets.transforms.maps import DEPTH
from dpt.registry import TRANSFORMS

Box = tuple[int, int, int, int]
"""Top, bottom, left, right; bottom and right are exclusive."""

MAX_DISTORTION = 0.02
"""Largest change of the aspect ratio for which one factor stands for both sides."""


@TRANSFORMS.register_module()
class LoadDepthAnnotation(BaseTransform):
    """Load the depth map of a sample from a PNG, TIFF, EXR, ``.npy`` or ``.npz`` file.

    Reads ``depth_map_path``, ``depth_rescale_factor`` and ``invalid_value`` (set by the data set) and, if
    present, ``img_path``, ``ori_shape`` and ``crop_box``, by which depth is cropped like the image. Writes
    ``gt_depth_map``, float32 of shape HxW, in which 0 means 'no measurement', and adds its name to
    ``seg_fields``, so that transforms move it with the image. NaN, infinity and ``invalid_value`` become 0.

    Args:
        depth_rescale_factor: Factor from the numbers in the file to metres, such as 0.001 for millimetres.
            If given, it must equal the setting of the data set. Needed only for samples that do not come from
            a data set; None means 1.
        invalid_value: Number in the file that means 'no measurement', besides 0; as above.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        FileNotFoundError: If the file does not exist.
        BadSampleError: If it cannot be read, is not a map of one number per pixel, has another size than the
            image, contains negative numbers, or has no valid pixel.
        ValueError: If an argument contradicts the data set.
    """

    def __init__(
        self,
        depth_rescale_factor: float | None = None,
        invalid_value: float | None = None,
        *,
        backend_args: dict | None = None,
    ) -> None:
        if depth_rescale_factor is not None:
            check_factor(depth_rescale_factor)
        self.depth_rescale_factor = depth_rescale_factor
        self.invalid_value = invalid_value
        self.backend_args = dict(backend_args) if backend_args else None

    def transform(self, results: dict) -> dict:
        path = results.get('depth_map_path')
        if path is None:
            raise ValueError(
                f'{results.get("img_path", "the sample")} has no depth_map_path: set data_prefix '
                "['depth_map_path'] of the data set, or remove LoadDepthAnnotation from the pipeline"
            )
        return self.place(self.read(path), results)

    def read(self, path: str) -> np.ndarray:
        """Return the numbers in a file, float32 of shape HxW."""
        return decode_depth(read_file(path, 'depth', self.backend_args), path)

    def place(self, values: np.ndarray, results: dict) -> dict:
        """Check and convert the numbers from a file and add them to the sample."""
        path = results['depth_map_path']
        factor = self._agreed('depth_rescale_factor', results)
        invalid = self._agreed('invalid_value', results)
        _check_size(values, results)
        if 'crop_box' in results:
            top, bottom, left, right = results['crop_box']
            values = values[top:bottom, left:right]
        missing = ~np.isfinite(values)
        if invalid is not None:
            missing |= values == np.float32(invalid)
        depth = np.where(missing, np.float32(0), values)
        lowest = depth.min()
        if lowest < 0:
            raise BadSampleError(
                f'depth {path} has negative numbers, such as {lowest:g}: set invalid_value={lowest:g} on the '
                "data set if they mean 'no measurement'",
                'negative depth',
            )
        if not depth.any():
            raise BadSampleError(
                f'depth {path} has no valid pixel: all are 0, not finite or invalid_value={invalid}',
                'no valid depth',
            )
        results[DEPTH] = depth if factor is None else depth * np.float32(factor)
        fields = results.get('seg_fields', [])
        results['seg_fields'] = [*(name for name in fields if name != DEPTH), DEPTH]
        return results

    def _agreed(self, name: str, results: dict) -> float | None:
        """Return a setting of the data set, or of this transform if there is no data set."""
        own = getattr(self, name)
        if name not in results:
            return own
        if own is not None and own != results[name]:
            raise ValueError(
                f'LoadDepthAnnotation({name}={own}) contradicts the data set, which has '
                f'{name}={results[name]}: set it only on the data set'
            )
        return results[name]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(depth_rescale_factor={self.depth_rescale_factor}, '
            f'invalid_value={self.invalid_value}, backend_args={self.backend_args})'
        )


def _check_size(values: np.ndarray, results: dict) -> None:
    # Not img_shape, because test pipelines resize the image first.
    expected = results.get('full_shape', results.get('ori_shape'))
    if expected is not None and values.shape != tuple(expected[:2]):
        raise BadSampleError(
            f'image {results.get("img_path")} is {expected[0]}x{expected[1]} (height x width) but its depth '
            f'{results["depth_map_path"]} is {values.shape[0]}x{values.shape[1]}: both must have the same '
            'size',
            'sizes differ',
        )


@TRANSFORMS.register_module()
class ScaleDepth(BaseTransform):
    """Divide depth by the factor by which the image was resized, as if the camera had come closer.

    With one focal length, an object that appears twice as large is half as far away. Put it after the
    resizing transform of a training pipeline whose random scales are to change metric depth; otherwise depth
    keeps its numbers.

    Raises:
        ValueError: If nothing was resized before, the image was distorted, or there is no depth.
    """

    def transform(self, results: dict) -> dict:
        if 'scale_factor' not in results or DEPTH not in results:
            raise ValueError(
                'ScaleDepth needs depth and a resized image: put it after LoadDepthAnnotation and a resizing '
                'transform'
            )
        across, down = results['scale_factor']
        if abs(across / down - 1) > MAX_DISTORTION:
            raise ValueError(
                f'ScaleDepth: {results.get("img_path")} was resized by {across:.3f} across and {down:.3f} '
                'down: set keep_ratio=True of the resizing transform'
            )
        results[DEPTH] = results[DEPTH] / np.float32((across * down) ** 0.5)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


class FixedCrop(BaseTransform):
    """Crop the image and every map in ``seg_fields`` to a fixed window, which becomes the original image.

    Must come before every transform that moves the image. Predictions have the size of the window. Writes
    ``img``, ``img_shape``, ``ori_shape``, the maps, ``full_shape`` (the size on disk) and ``crop_box`` (top,
    bottom, left, right).

    Raises:
        BadSampleError: If the image is smaller than the window.
        ValueError: If the image was resized, cropped or flipped before.
    """

    def window(self, height: int, width: int) -> Box:
        """Return the window in an image."""
        raise NotImplementedError

    def transform(self, results: dict) -> dict:
        height, width = size = results['img'].shape[:2]
        if tuple(results['ori_shape'][:2]) != size or results.get('flip') or 'crop_box' in results:
            raise ValueError(f'put {type(self).__name__} before the transforms that move the image')
        box = top, bottom, left, right = self.window(height, width)
        if top < 0 or left < 0 or bottom > height or right > width:
            raise BadSampleError(
                f'image {results.get("img_path")} is {height}x{width} (height x width), too small for '
                f'{type(self).__name__}, which needs {bottom - top}x{right - left}',
                'image too small',
            )
        for name in ('img', *results.get('seg_fields', [])):
            results[name] = results[name][top:bottom, left:right]
        shape = results['img'].shape[:2]
        results.update(img_shape=shape, ori_shape=shape, full_shape=size, crop_box=box)
        return results


@TRANSFORMS.register_module()
class KBCrop(FixedCrop):
    """Crop KITTI's images at the bottom and in the middle, as its depth benchmark does (352x1216).

    Args:
        height: Number of rows of the window.
        width: Number of its columns.
    """

    def __init__(self, height: int = 352, width: int = 1216) -> None:
        self.size = (height, width)

    def window(self, height: int, width: int) -> Box:
        top, left = height - self.size[0], int((width - self.size[1]) / 2)
        return top, top + self.size[0], left, left + self.size[1]

    def __repr__(self) -> str:
        return f'{type(self).__name__}(height={self.size[0]}, width={self.size[1]})'


@TRANSFORMS.register_module()
class NYUCrop(FixedCrop):
    """Crop the white frame of NYUv2's images: rows 45 to 471 and columns 43 to 607 of 480x640.

    Images of another size are cropped in proportion, as in DINOv3.
    """

    def window(self, height: int, width: int) -> Box:
        top, bottom = 45 * height // 480, 472 * height // 480
        return top, bottom, 43 * width // 640, 608 * width // 640

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
