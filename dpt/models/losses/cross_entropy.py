"""Pixel-wise cross-entropy."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpt.models.losses.base import PixelLoss
from dpt.models.losses.classwise import pixelwise_cross_entropy, sum_over_classes
from dpt.registry import MODELS


def triton_kernel() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the counterpart of :func:`pixelwise_cross_entropy` in Triton, which is imported only here.

    Raises:
        ValueError: If Triton is not installed.
    """
    try:
        from dpt.models.losses.triton_cross_entropy import pixelwise_cross_entropy as by_triton
    except ModuleNotFoundError as error:
        raise ValueError(
            f"CrossEntropyLoss(kernel='triton') needs the package {error.name}, which builds of torch for "
            "NVIDIA GPUs install: use kernel='torch'"
        ) from error
    return by_triton


@MODELS.register_module()
class CrossEntropyLoss(PixelLoss):
    """Mean cross-entropy over the pixels of the target, computed in float32.

    Resizes coarser logits to the target (bilinear, align_corners=False) a few classes at a time, so neither
    pass stores full-size logits or gradients of all classes.

    Args:
        class_weight: Weight of each class, or ``None`` for equal weights. With weights, the loss is the
            weighted mean over labelled pixels. With ``use_sigmoid``, it is the factor of the pixels that have
            the class; MMSegmentation applies it to columns of the image instead, or fails.
        loss_weight: Factor of the loss.
        use_sigmoid: Whether to average the binary cross-entropy of each class against the rest, instead of
            the cross-entropy of the softmax.
        avg_non_ignore: Whether to average over labelled pixels only. ``False``, as in the published recipe,
            counts ignored pixels in the denominator.
        sampler: ``dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000)`` trains on hard pixels only;
            ``None`` on all. Not with ``use_sigmoid``.
        kernel: ``'torch'`` computes the softmax loss with torch's operators, ``'triton'`` with one Triton
            kernel for each pass, on GPUs and without second derivatives. ``'auto'`` is ``'torch'`` until a
            GPU has shown the kernels to be right and faster.
        loss_name: Key of the loss in the log; only keys that contain ``loss`` are trained on.
    """

    takes_coarse_logits = True

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        *,
        use_sigmoid: bool = False,
        avg_non_ignore: bool = False,
        sampler: dict | None = None,
        kernel: str = 'auto',
        loss_name: str = 'loss_ce',
    ) -> None:
        super().__init__(loss_weight, loss_name, class_weight)
        if use_sigmoid and sampler is not None:
            raise ValueError('CrossEntropyLoss with use_sigmoid=True cannot have a sampler: remove one')
        if kernel not in ('auto', 'torch', 'triton'):
            raise ValueError(f"kernel={kernel!r} must be 'auto', 'torch' or 'triton'")
        if kernel == 'triton' and use_sigmoid:
            raise ValueError("CrossEntropyLoss with use_sigmoid=True has no Triton kernel: set kernel='auto'")
        self.pixelwise = triton_kernel() if kernel == 'triton' else pixelwise_cross_entropy
        self.use_sigmoid = use_sigmoid
        self.avg_non_ignore = avg_non_ignore
        self.sampler = None if sampler is None else MODELS.build(sampler)

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """Compute the loss.

        Args:
            logits: Tensor of shape BxKxhxw, resized to the size of the target.
            target: Int64 labels of shape BxHxW.
            ignore_index: Label of pixels to ignore.

        Returns:
            Scalar, float32.
        """
        weight = self.checked_class_weight(logits, target)
        labelled = target != ignore_index
        target = target.masked_fill(~labelled, 0)
        if self.use_sigmoid:
            losses, pixel_weight = self._binary(logits, target, weight), labelled.float()
        else:
            losses = self.pixelwise(logits, target)
            pixel_weight = labelled.float() if weight is None else weight[target] * labelled
        count: Tensor | int
        if weight is not None and not self.use_sigmoid:
            count = pixel_weight.sum().clamp(min=torch.finfo(torch.float32).tiny)
        elif self.avg_non_ignore:
            count = pixel_weight.sum().clamp(min=1)
        else:
            count = target.numel()
        if self.sampler is not None:
            pixel_weight = pixel_weight * self.sampler(losses, labelled, pixel_weight)
        return self.loss_weight * (losses * pixel_weight).sum() / count

    @staticmethod
    def _binary(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return the binary cross-entropy of each pixel, averaged over the classes, of shape BxHxW."""

        def loss(fine: Tensor, positive: Tensor, classes: slice) -> Tensor:
            pos_weight = None if weight is None else weight[classes, None, None]
            return F.binary_cross_entropy_with_logits(
                fine, positive.float(), pos_weight=pos_weight, reduction='none'
            )

        return sum_over_classes(logits, target, loss) / logits.shape[1]
