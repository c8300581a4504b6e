"""Segmentor that combines backbone, neck, heads and losses."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from torch import Tensor, nn

from dpt.models.dense import DensePredictor, build_part
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

    cfg: Config  # dpt.apis.init_model sets cfg and dataset_meta
    dataset_meta: dict

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
        self.loss_decode = _build_losses('loss', dict(type='CrossEntropyLoss') if loss is None else loss)
        default = dict(type='CrossEntropyLoss', loss_weight=0.2)
        self.loss_auxiliary = _build_losses(
            'auxiliary_loss', default if auxiliary_loss is None else auxiliary_loss
        )
        self._given_ignore_index = ignore_index
        self.ignore_index = IGNORE_INDEX if ignore_index is None else ignore_index
        if ignore_index is not None and getattr(self.data_preprocessor, 'seg_pad_val', 0) is None:
            self.data_preprocessor.seg_pad_val = ignore_index

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Run the model on preprocessed images of shape BxCxHxW.

        Args:
            inputs: Normalised and padded images.
            data_samples: One for each image; required for ``'loss'``.
            mode: ``'tensor'`` returns logits at the head's resolution, ``'loss'`` a dict of losses, and
                ``'predict'`` data samples with ``pred_sem_seg``.
        """
        if mode == 'tensor':
            return _logits_of(self.decode_head, 'decode_head', self.extract_feat(inputs))
        if mode == 'loss':
            if data_samples is None:
                raise ValueError("mode='loss' needs data_samples with gt_sem_seg")
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'")

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

    def compile_losses(self, **options: Any) -> None:
        """Compile the forward pass and the losses with ``torch.compile``.

        The rest of a training step is not compiled: image sizes before padding and the learning rate change
        from step to step, and each change would trigger a recompilation.

        Args:
            **options: Keyword arguments of ``torch.compile``.
        """
        self._losses = torch.compile(self._losses, **options)  # type: ignore[method-assign]

    def __getstate__(self) -> dict:
        """Drop the compiled losses; in a copy they would still be bound to this model."""
        state = super().__getstate__()
        state.pop('_losses', None)
        return state

    def _losses(self, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        target = target.long()  # BxHxW
        maps = self.extract_feat(inputs)
        losses = self._head_losses(
            'decode', _logits_of(self.decode_head, 'decode_head', maps), target, self.loss_decode
        )
        for i, head in enumerate(self.auxiliary_heads):
            prefix = 'aux' if len(self.auxiliary_heads) == 1 else f'aux_{i}'
            logits = _logits_of(head, f'auxiliary_heads.{i}', maps)
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
            value = loss(given, target, **options)
            if not isinstance(value, Tensor) or value.numel() != 1:
                shape = (
                    f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else type(value)
                )
                raise ValueError(f'{type(loss).__name__} must return a scalar tensor, but returned {shape}')
            found[f'{prefix}.{_loss_name(loss)}'] = value
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
            sample.pred_sem_seg = PixelData(data=_stacked(labels[i]))
            if with_logits:
                sample.seg_logits = PixelData(data=_stacked(logits[i]))
        return data_samples


def _logits_of(head: nn.Module, name: str, maps: Sequence[Tensor]) -> Tensor:
    """Return the logits of a head; raise ValueError if their shape is wrong."""
    logits = head(maps)
    if not isinstance(logits, Tensor) or logits.dim() != 4:
        found = f'shape {tuple(logits.shape)}' if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f'model.{name} must return logits of shape BxKxhxw, got {found}')
    return logits


def _stacked(strips: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Concatenate (first row, strip) pairs by row."""
    return torch.cat([strip for _, strip in sorted(strips, key=lambda pair: pair[0])], dim=-2)


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


def _build_losses(name: str, config: dict | list[dict]) -> nn.ModuleList:
    configs = config if isinstance(config, (list, tuple, nn.ModuleList)) else [config]
    if not len(configs):
        raise ValueError(f'model.{name} is an empty list: give at least one loss or remove the key')
    losses = nn.ModuleList(build_part(name, one) for one in configs)
    names = [_loss_name(loss) for loss in losses]
    if len(set(names)) < len(names):
        raise ValueError(f'model.{name}: losses share a name ({", ".join(names)}); give each a loss_name')
    wrong = [one for one in names if 'loss' not in one]
    if wrong:  # mmengine sums the entries whose key contains 'loss'
        raise ValueError(
            f"model.{name}: loss_name={wrong[0]!r} must contain 'loss', otherwise mmengine does not sum it"
        )
    return losses


def _loss_name(loss: nn.Module) -> str:
    """Return ``loss.loss_name``, or derive a name from the class: ``loss_dice`` for ``DiceLoss``."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+', type(loss).__name__.removesuffix('Loss'))
    return getattr(loss, 'loss_name', None) or '_'.join(['loss', *words]).lower()


def _takes_ignore_index(loss: nn.Module) -> bool:
    parameters = inspect.signature(loss.forward).parameters.values()
    return any(one.name == 'ignore_index' or one.kind is one.VAR_KEYWORD for one in parameters)
