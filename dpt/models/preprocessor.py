"""Stack images on the host, copy them to the device in one piece and normalise them there."""

import copy
from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from dpt.registry import MODELS
from dpt.structures import IGNORE_INDEX, SegDataSample


@MODELS.register_module()
class SegDataPreProcessor(BaseDataPreprocessor):
    """Pad uint8 images at the bottom and right, stack them, move them to the device and normalise them.

    The images of a batch are copied to a GPU in one piece, from pinned memory, and for training so are its
    labels and its depth, whatever their sizes.

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

    def _moved(
        self, pixels: list[Tensor], target: tuple[int, int], dtype: torch.dtype, pad_vals: list
    ) -> Tensor:
        """Pad and stack images or maps, and copy the stack to the device."""
        first = pixels[0]
        stack = torch.empty(
            (len(pixels), *first.shape[:-2], *target),
            dtype=dtype,
            device=first.device,
            # The host would wait for a copy from other memory.
            pin_memory=self.device.type == 'cuda' and first.device.type == 'cpu',
        )
        for i, (one, pad_val) in enumerate(zip(pixels, pad_vals, strict=True)):
            stack[i, ..., : one.shape[-2], : one.shape[-1]] = one
            _fill_padding(stack[i], one, pad_val)
        return self.cast_data(stack)  # type: ignore[return-value]

    def _normalised(self, images: list[Tensor], target: tuple[int, int]) -> Tensor:
        """Return the padded and normalised images, of shape BxCxHxW."""
        for image in images:
            if image.shape[-3] != len(self.mean):  # type: ignore[arg-type]
                raise ValueError(
                    f'an image has {image.shape[-3]} channels but data_preprocessor.mean has '
                    f'{len(self.mean)} entries'  # type: ignore[arg-type]
                )
        inputs = self._moved(images, target, _dtype(images, torch.float32), [0] * len(images))
        if self.bgr_to_rgb:
            inputs = inputs.flip(-3)
        inputs = inputs.float().sub_(self.mean).div_(self.std)
        for i, image in enumerate(images):
            _fill_padding(inputs[i], image, self.pad_val)
        return inputs

    def _with_maps(
        self, samples: list[SegDataSample], images: list[Tensor], target: tuple[int, int]
    ) -> list[SegDataSample]:
        """Return copies of the samples with padded labels and depth on the device."""
        samples = [copy.copy(sample) for sample in samples]
        for name, what in (('gt_sem_seg', 'label'), ('gt_depth_map', 'depth map')):
            annotated = [i for i, sample in enumerate(samples) if sample.get(name) is not None]
            maps = [samples[i].get(name).data for i in annotated]
            for i, pixels in zip(annotated, maps, strict=True):
                found, shape = tuple(pixels.shape[-2:]), tuple(images[i].shape[-2:])
                if found != shape:
                    raise ValueError(
                        f'{what} of {found} does not fit the image of {shape} '
                        f'({samples[i].metainfo.get("img_path")}): apply the same transforms to both'
                    )
            if not maps:
                continue
            if name == 'gt_sem_seg':
                pad_vals = [self._void(samples[i]) for i in annotated]
                dtype = _dtype(maps, torch.int64)
                limits = torch.iinfo(dtype)
                # Others would wrap around to the number of a class.
                if not limits.min <= min(pad_vals) <= max(pad_vals) <= limits.max:
                    dtype = torch.int64
            else:
                pad_vals, dtype = [0] * len(maps), _dtype(maps, torch.float32)
            for i, padded in zip(annotated, self._moved(maps, target, dtype, pad_vals), strict=True):
                pixels = samples[i].get(name).new()  # the batch keeps its own
                del pixels.data
                pixels.data = padded
                setattr(samples[i], name, pixels)
        return samples

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
        images = list(data['inputs'])
        target = self._target(images, *(self.train_padding if training else self.test_padding))
        samples = data.get('data_samples')
        if samples and training:  # metrics use maps of the original size; only the losses need padded ones
            samples = self._with_maps(samples, images, target)
        samples = self.cast_data(samples)
        for image, sample in zip(images, samples or [], strict=False):
            sample.set_metainfo(dict(img_shape=tuple(image.shape[-2:]), pad_shape=target))
        return dict(inputs=self._normalised(images, target), data_samples=samples)


def _dtype(pixels: list[Tensor], otherwise: torch.dtype) -> torch.dtype:
    """Return the dtype of all tensors, or another one if they differ."""
    first = pixels[0].dtype
    return first if all(one.dtype == first for one in pixels) else otherwise


def _fill_padding(padded: Tensor, original: Tensor, value: float) -> None:
    """Fill what padding at the bottom and right has added."""
    height, width = original.shape[-2:]
    if padded.shape[-2:] != original.shape[-2:]:
        padded[..., height:, :].fill_(value)
        padded[..., :height, width:].fill_(value)
