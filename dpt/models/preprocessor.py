"""Normalise, pad and stack images on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from dpt.registry import MODELS
from dpt.structures import IGNORE_INDEX, SegDataSample


@MODELS.register_module()
class SegDataPreProcessor(BaseDataPreprocessor):
    """Move uint8 images to the device, normalise them, pad them at the bottom and right and stack them.

    Args:
        mean: Mean per channel in grey levels (0 to 255), in channel order after ``bgr_to_rgb``.
        std: Standard deviation per channel in grey levels.
        size: (height, width) to which training batches are padded; ``None`` pads to the largest image.
        size_divisor: Pad both sides of training batches to a multiple of this; excludes ``size``.
        pad_val: Value of the padding, after normalisation.
        seg_pad_val: Label of the padding; ``None`` takes the ``ignore_index`` of the sample.
        bgr_to_rgb: Whether to reverse the channel order; images read by OpenCV are BGR.
        test_cfg: ``dict(size=...)`` or ``dict(size_divisor=...)`` for testing. ``None``, the published
            protocol, pads a batch only to its largest image; if the sides are not multiples of 32 (28 for
            patch size 14), pyramid levels are then misaligned, which a ``size_divisor`` of 32 (28) avoids.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        size: tuple[int, int] | None = None,
        size_divisor: int | None = None,
        pad_val: float = 0.0,
        seg_pad_val: int | None = None,
        bgr_to_rgb: bool = False,
        test_cfg: dict | None = None,
    ) -> None:
        super().__init__(non_blocking=True)  # copies from pinned memory are asynchronous
        if size is not None and size_divisor is not None:
            raise ValueError('data_preprocessor takes size or size_divisor, not both')
        if len(mean) != len(std):
            raise ValueError(f'data_preprocessor.mean has {len(mean)} entries, std {len(std)}')
        if min(std, default=1) <= 0:
            raise ValueError(f'data_preprocessor.std={std} must be positive')
        self.train_padding = (size, size_divisor)
        self.test_padding = self._padding(test_cfg or {})
        self.pad_val = pad_val
        self.seg_pad_val = seg_pad_val
        self.bgr_to_rgb = bgr_to_rgb
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    @staticmethod
    def _padding(test_cfg: dict) -> tuple[tuple[int, int] | None, int | None]:
        unknown = set(test_cfg) - {'size', 'size_divisor'}
        if unknown:
            raise ValueError(f'data_preprocessor.test_cfg has unknown keys {sorted(unknown)}')
        if test_cfg.get('size') is not None and test_cfg.get('size_divisor') is not None:
            raise ValueError('data_preprocessor.test_cfg takes size or size_divisor, not both')
        return test_cfg.get('size'), test_cfg.get('size_divisor')

    def _normalise(self, image: Tensor) -> Tensor:
        channels = image.shape[-3]
        if channels != len(self.mean):  # type: ignore[arg-type]
            raise ValueError(
                f'an image has {channels} channels but data_preprocessor.mean has {len(self.mean)} entries'  # type: ignore[arg-type]
            )
        if self.bgr_to_rgb:
            image = image.flip(-3)
        return (image.float() - self.mean) / self.std

    @staticmethod
    def _target(images: list[Tensor], size: tuple[int, int] | None, divisor: int | None) -> tuple[int, int]:
        height = max(image.shape[-2] for image in images)
        width = max(image.shape[-1] for image in images)
        if size is not None:
            if height > size[0] or width > size[1]:
                raise ValueError(
                    f'an image of {height}x{width} is larger than data_preprocessor.size={tuple(size)}: '
                    'crop to that size in the pipeline, or raise it'
                )
            return size[0], size[1]
        divisor = divisor or 1
        return height + -height % divisor, width + -width % divisor

    @staticmethod
    def _pad(x: Tensor, target: tuple[int, int], value: float) -> Tensor:
        if tuple(x.shape[-2:]) == tuple(target):
            return x
        return F.pad(x, (0, target[1] - x.shape[-1], 0, target[0] - x.shape[-2]), value=value)

    def _record(self, sample: SegDataSample, image: Tensor, target: tuple[int, int], training: bool) -> None:
        shape = (image.shape[-2], image.shape[-1])
        sample.set_metainfo(dict(img_shape=shape, pad_shape=target))
        if not training:  # the metrics use maps of the original size; only the losses need padded ones
            return
        for name, what in (('gt_sem_seg', 'label'), ('gt_depth_map', 'depth map')):
            pixels = sample.get(name)
            if pixels is None:
                continue
            found = tuple(pixels.data.shape[-2:])
            if found != shape:
                raise ValueError(
                    f'{what} of {found} does not fit the image of {shape} '
                    f'({sample.metainfo.get("img_path")}): apply the same transforms to both'
                )
            data, value = pixels.data, 0
            if name == 'gt_sem_seg':
                value = self._void(sample)
                if value > torch.iinfo(data.dtype).max:  # would wrap around to the number of a class
                    data = data.long()
            del pixels.data
            pixels.data = self._pad(data, target, value)

    def _void(self, sample: SegDataSample) -> int:
        if self.seg_pad_val is not None:
            return self.seg_pad_val
        return sample.metainfo.get('ignore_index', IGNORE_INDEX)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs``, a list of uint8 images of shape CxHxW (or one tensor of shape BxCxHxW), and
                optionally ``data_samples``, a list of :class:`SegDataSample`.
            training: Whether to pad for training, labels and depth (with 0) included.

        Returns:
            ``inputs`` of shape BxCxHxW, float32, and ``data_samples`` with ``img_shape`` and ``pad_shape`` in
            their metainfo.
        """
        data = self.cast_data(data)  # type: ignore[assignment]
        images = list(data['inputs'])
        target = self._target(images, *(self.train_padding if training else self.test_padding))
        samples = data.get('data_samples')
        for image, sample in zip(images, samples or [], strict=False):
            self._record(sample, image, target, training)
        # Images of one size are normalised together, in a few kernels instead of a few for each image.
        batches = [torch.stack(images)] if len({image.shape for image in images}) == 1 else images
        batch = [self._pad(self._normalise(one), target, self.pad_val) for one in batches]
        inputs = batch[0] if batches is not images else torch.stack(batch)
        return dict(inputs=inputs, data_samples=samples)
