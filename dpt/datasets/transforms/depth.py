"""Load depth, and change it where a config asks for it."""

import numpy as np
from mmcv.transforms import BaseTransform

from dpt.datasets.bad_sample import BadSampleError, read_file
from dpt.datasets.depth_files import decode_depth
from dpt.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadDepthAnnotation(BaseTransform):
    """Load the depth map of a sample from a PNG, TIFF, EXR, ``.npy`` or ``.npz`` file.

    Reads ``depth_map_path``, ``depth_rescale_factor`` and ``invalid_value`` (set by the data set) and, if
    present, ``img_path`` and ``ori_shape``. Writes ``gt_depth_map``, float32 of shape HxW, in which 0 means
    'no measurement', and adds its name to ``seg_fields``, so that transforms move it with the image. NaN,
    infinity and ``invalid_value`` become 0.

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
        if depth_rescale_factor is not None and depth_rescale_factor <= 0:
            raise ValueError(f'depth_rescale_factor={depth_rescale_factor} must be above 0')
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
        values = decode_depth(read_file(path, 'depth', self.backend_args), path)
        return self.place(values, results)

    def place(self, values: np.ndarray, results: dict) -> dict:
        """Check and convert the numbers from a file and add them to the sample."""
        path = results['depth_map_path']
        factor = self._agreed('depth_rescale_factor', results)
        invalid = self._agreed('invalid_value', results)
        _check_size(values, results)
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
        results['gt_depth_map'] = depth if factor is None else depth * np.float32(factor)
        fields = results.get('seg_fields', [])
        results['seg_fields'] = [*(name for name in fields if name != 'gt_depth_map'), 'gt_depth_map']
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
    expected = results.get('ori_shape')  # not img_shape, because test pipelines resize the image first
    if expected is not None and values.shape != tuple(expected[:2]):
        raise BadSampleError(
            f'image {results.get("img_path")} is {expected[0]}x{expected[1]} (height x width) but its depth '
            f'{results["depth_map_path"]} is {values.shape[0]}x{values.shape[1]}: both must have the same '
            'size',
            'sizes differ',
        )
