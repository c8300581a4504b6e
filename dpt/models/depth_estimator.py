"""Depth estimator that combines backbone, neck, head and losses."""

from collections.abc import Sequence
from math import inf

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from dpt.models.dense import DensePredictor, build_losses, checked_loss, loss_name
from dpt.models.layers import resize
from dpt.registry import MODELS
from dpt.structures import SegDataSample

RESIZE_MODES = ('bilinear', 'bicubic')
KINDS = ('depth', 'inverse depth without a scale')


@MODELS.register_module()
class DepthEstimator(DensePredictor):
    """Monocular depth model: ``decode_head(neck(backbone(image)))``.

    A loss is any module with ``forward(pred, target, valid)`` that returns a scalar. Prediction and target
    are float32 of shape Bx1xHxW at the size of the target, ``valid`` is bool of this shape: where the target
    is a measurement that the model is trained on. Target values elsewhere have no meaning.

    Args:
        backbone: Config of the backbone.
        decode_head: Config of the head, such as ``DepthHead``. Its attribute ``relative`` says whether it
            predicts depth in the unit of the data set, or inverse depth up to an unknown scale and shift.
        neck: Optional config of the neck.
        loss: Config of the loss, or a list of configs. Several losses are summed, and each is logged as its
            ``loss_name``. ``None`` means ``SiLogLoss``. For a head with ``relative=True`` use
            ``ScaleShiftInvariantLoss``.
        min_depth: Smallest depth to train on. Depth 0 means 'not measured' and is never trained on.
        max_depth: Largest depth to train on, or ``None`` for all.
        resize_mode: Interpolation of predictions at the size of the original image: ``'bilinear'``, or
            ``'bicubic'`` as in the original DPT; the loss always uses the former.
        align_corners: Of resizing predictions to the target and to the original image, as in MMSegmentation's
            evaluation. Only for ``'bilinear'``.
        data_preprocessor: Config of the preprocessor.
        test_cfg: ``dict(mode='whole')``, the default, or ``dict(mode='slide', crop_size=(height, width),
            stride=(vertical, horizontal))``.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads the whole model, strictly.

    Raises:
        ValueError: If an argument is invalid or does not fit the others; the message names it.
    """

    ground_truth = 'gt_depth_map'
    output = 'depth of shape Bx1xhxw'

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        *,
        neck: dict | None = None,
        loss: dict | list[dict] | None = None,
        min_depth: float = 0.0,
        max_depth: float | None = None,
        resize_mode: str = 'bilinear',
        align_corners: bool = True,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone,
            decode_head,
            neck=neck,
            data_preprocessor=data_preprocessor,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        default = dict(type='SiLogLoss')
        self.loss_decode = build_losses('loss', default if loss is None else loss, self.ground_truth)
        for one in self.loss_decode:
            if getattr(one, 'relative', None) not in (None, self.relative):
                raise ValueError(
                    f'model.loss: {type(one).__name__} compares {KINDS[not self.relative]}, but with '
                    f'model.decode_head.relative={self.relative} the model predicts {KINDS[self.relative]}'
                )
        self.min_depth, self.max_depth = min_depth, inf if max_depth is None else max_depth
        if not 0 <= self.min_depth < self.max_depth:
            raise ValueError(
                f'model.min_depth={min_depth} and max_depth={max_depth} must be 0 <= min_depth < max_depth'
            )
        if resize_mode not in RESIZE_MODES:
            raise ValueError(f'model.resize_mode={resize_mode!r} must be one of {RESIZE_MODES}')
        sliding = self.test_cfg['mode'] == 'slide'
        if resize_mode == 'bicubic' and sliding:
            raise ValueError("model.resize_mode='bicubic' does not fit sliding windows: use 'bilinear'")
        if self.relative and sliding:
            raise ValueError(
                "model.test_cfg.mode='slide' does not fit relative depth, whose scale and shift differ "
                "between windows: use mode='whole'"
            )
        self.resize_mode = resize_mode
        self.align_corners = align_corners and resize_mode == 'bilinear'

    @property
    def relative(self) -> bool:
        """Whether predictions are inverse depth up to an unknown scale and shift: larger is nearer."""
        return bool(getattr(self.decode_head, 'relative', False))

    def run_head(self, head: nn.Module, name: str, maps: Sequence[Tensor]) -> Tensor:
        """Return the depth of a head; raise ValueError if its shape is wrong."""
        depth = super().run_head(head, name, maps)
        if depth.shape[1] != 1:
            raise ValueError(f'model.{name} must return {self.output}, got shape {tuple(depth.shape)}')
        return depth

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Compute the losses for images of shape BxCxHxW."""
        return self._losses(inputs, torch.stack([sample.gt_depth_map.data for sample in data_samples]))

    def _losses(self, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        pred = self.run_head(self.decode_head, 'decode_head', self.extract_feat(inputs))
        target = target.float()  # Bx1xHxW
        pred = resize(pred.float(), target.shape[-2:], align_corners=self.align_corners)
        valid = target.isfinite() & (target > 0) & (target >= self.min_depth) & (target <= self.max_depth)
        return {
            f'decode.{loss_name(loss)}': checked_loss(loss, loss(pred, target, valid))
            for loss in self.loss_decode
        }

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Return the data samples with ``pred_depth_map`` at the size of the original images."""
        data_samples = data_samples or [SegDataSample() for _ in inputs]
        for sample, depth in zip(data_samples, self.restored_outputs(inputs, data_samples), strict=True):
            sample.pred_depth_map = PixelData(data=depth[0])
            sample.set_field(self.relative, 'relative_depth', field_type='metainfo')
        return data_samples
