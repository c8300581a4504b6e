"""Segmentor that combines backbone, neck, heads and losses."""

import inspect
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from dpt.models.dense import DensePredictor, build_losses, build_part, checked_loss, loss_name, stacked
from dpt.models.inference import label_map, restored
from dpt.models.layers import resize
from dpt.registry import MODELS
from dpt.structures import IGNORE_INDEX, SegDataSample


@MODELS.register_module()
class EncoderDecoder(DensePredictor):
    """Semantic segmentation model: ``decode_head(neck(backbone(image)))``.

    A loss is any module with ``forward(logits, target)`` or ``forward(logits, target, ignore_index)``. The
    logits have shape BxKxHxW at the size of the target; the target is int64 of shape BxHxW. A loss whose
    attribute ``takes_coarse_logits`` is true receives the head's logits at their own size and resizes them.

    Args:
        backbone: Config of the backbone.
        decode_head: Config of the head whose logits are the prediction.
        neck: Optional config of the neck.
        auxiliary_heads: Configs of heads that are used only by the loss.
        loss: Config of the loss, or a list of configs. Several losses are summed, and each is logged as its
            ``loss_name``. ``None`` means mean cross-entropy over all pixels.
        auxiliary_loss: The same for the auxiliary heads; ``None`` means cross-entropy with weight 0.2, as in
            the original DPT.
        ignore_index: Label of pixels to ignore; ``None`` takes that of the data set, which the samples carry.
        data_preprocessor: Config of the preprocessor.
        test_cfg: ``dict(mode='whole')``, the default, or ``dict(mode='slide', crop_size=(height, width),
            stride=(vertical, horizontal))``.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads the whole model, strictly.
    """

    ground_truth = 'gt_sem_seg'
    output = 'logits of shape BxKxhxw'

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        *,
        neck: dict | None = None,
        auxiliary_heads: list[dict] | None = None,
        loss: dict | list[dict] | None = None,
        auxiliary_loss: dict | list[dict] | None = None,
        ignore_index: int | None = None,
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
        heads = enumerate(auxiliary_heads or [])
        self.auxiliary_heads = nn.ModuleList(build_part(f'auxiliary_heads.{i}', head) for i, head in heads)
        default: dict = dict(type='CrossEntropyLoss')
        self.loss_decode = build_losses('loss', default if loss is None else loss, self.ground_truth)
        default = dict(type='CrossEntropyLoss', loss_weight=0.2)
        self.loss_auxiliary = build_losses(
            'auxiliary_loss', default if auxiliary_loss is None else auxiliary_loss, self.ground_truth
        )
        self._given_ignore_index = ignore_index
        self.ignore_index = IGNORE_INDEX if ignore_index is None else ignore_index
        if ignore_index is not None and getattr(self.data_preprocessor, 'seg_pad_val', 0) is None:
            self.data_preprocessor.seg_pad_val = ignore_index

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Compute the losses and the pixel accuracy in percent for images of shape BxCxHxW."""
        self.ignore_index = self._agreed_ignore_index(data_samples)
        return self._losses(inputs, torch.cat([sample.gt_sem_seg.data for sample in data_samples]))

    def _agreed_ignore_index(self, data_samples: list[SegDataSample]) -> int:
        """Return the label that the model, the padding and the data set ignore.

        Raises:
            ValueError: If they contradict each other: pixels without a class would be trained.
        """
        said: dict[str, Any] = {
            'model.ignore_index': self._given_ignore_index,
            'model.data_preprocessor.seg_pad_val': getattr(self.data_preprocessor, 'seg_pad_val', None),
        }
        for sample in data_samples:
            said[f'the data set of {sample.metainfo.get("img_path")}'] = sample.metainfo.get('ignore_index')
        said = {name: value for name, value in said.items() if value is not None}
        if len(set(said.values())) > 1:
            listed = ', '.join(f'{name}: {value}' for name, value in said.items())
            raise ValueError(
                f'the label of pixels without a class differs ({listed}): set ignore_index only on the '
                'data set'
            )
        return next(iter(said.values()), self.ignore_index)

    def _losses(self, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        target = target.long()  # BxHxW
        maps = self.extract_feat(inputs)
        losses = self._head_losses(
            'decode', self.run_head(self.decode_head, 'decode_head', maps), target, self.loss_decode
        )
        for i, head in enumerate(self.auxiliary_heads):
            prefix = 'aux' if len(self.auxiliary_heads) == 1 else f'aux_{i}'
            logits = self.run_head(head, f'auxiliary_heads.{i}', maps)
            losses.update(self._head_losses(prefix, logits, target, self.loss_auxiliary))
        return losses

    def _head_losses(
        self, prefix: str, logits: Tensor, target: Tensor, losses: nn.ModuleList
    ) -> dict[str, Tensor]:
        found, fine = {}, None
        size = (target.shape[-2], target.shape[-1])
        for loss in losses:
            if getattr(loss, 'takes_coarse_logits', False):
                given = logits
            else:
                given = fine = resize(logits.float(), size) if fine is None else fine
            options = dict(ignore_index=self.ignore_index) if _takes_ignore_index(loss) else {}
            found[f'{prefix}.{loss_name(loss)}'] = checked_loss(loss, loss(given, target, **options))
        found[f'{prefix}.acc_seg'] = accuracy(logits, target, self.ignore_index)
        return found

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, *, with_logits: bool = False
    ) -> list[SegDataSample]:
        """Return the data samples with ``pred_sem_seg`` and, if ``with_logits``, ``seg_logits``."""
        data_samples = data_samples or [SegDataSample() for _ in inputs]
        labels: list[list] = [[] for _ in data_samples]
        logits: list[list] = [[] for _ in data_samples]
        for i, rows, strip, restore, size in self.restorable_strips(inputs, data_samples):
            labels[i].append((rows.start, label_map(strip, restore, size)))
            if with_logits:
                logits[i].append((rows.start, restored(strip, restore, size)[0]))
        for i, sample in enumerate(data_samples):
            sample.pred_sem_seg = PixelData(data=stacked(labels[i]))
            if with_logits:
                sample.seg_logits = PixelData(data=stacked(logits[i]))
        return data_samples


@torch.no_grad()
def accuracy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return the percentage of labelled pixels that are classified correctly.

    Args:
        logits: Tensor of shape BxKxhxw, resized to the size of the target.
        target: Int64 labels of shape BxHxW.
        ignore_index: Label of pixels to ignore.

    Returns:
        Scalar tensor; 0 if no pixel is labelled.
    """
    size = (target.shape[-2], target.shape[-1])
    labelled = target != ignore_index
    correct = (label_map(logits, lambda x: resize(x.float(), size), size) == target) & labelled
    return 100.0 * correct.sum() / labelled.sum().clamp(min=1)


def _takes_ignore_index(loss: nn.Module) -> bool:
    parameters = inspect.signature(loss.forward).parameters.values()
    return any(one.name == 'ignore_index' or one.kind is one.VAR_KEYWORD for one in parameters)
