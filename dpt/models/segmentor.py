"""The segmentor: backbone, neck and heads put together, with losses and predictions."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from dpt.eager import eager_on_cpu_without_autocast
from dpt.models.inference import Size, label_map, restored_rows
from dpt.models.layers import Rows, bands, recomputed, release_freed_memory, resized, rows_of, with_context
from dpt.models.sliding import SlidingRows
from dpt.registry import MODELS
from dpt.structures import IGNORE_INDEX, SegDataSample

TEST_CFG_KEYS = {'mode', 'crop_size', 'stride'}


@MODELS.register_module()
class EncoderDecoder(BaseModel):
    """Semantic segmentation model: ``decode_head(neck(backbone(image)))``.

    Args:
        backbone: Config of the backbone.
        decode_head: Config of the head whose logits are the prediction.
        neck: Config of the neck, or ``None``.
        auxiliary_heads: Configs of heads that add a loss in training only.
        loss: Config of the loss; ``None`` for mean cross-entropy over all pixels.
        auxiliary_loss: Config of the auxiliary heads' loss; ``None`` for the same with weight 0.2, the
            original DPT's.
        ignore_index: Label of pixels without loss.
        data_preprocessor: Config of the preprocessor.
        test_cfg: ``dict(mode='whole')``, the default, or ``dict(mode='slide', crop_size=(height, width),
            stride=(vertical, horizontal))``.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads the whole model, strictly.
    """

    cfg: Config  # set, with dataset_meta, by dpt.apis.init_model
    dataset_meta: dict

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        *,
        neck: dict | None = None,
        auxiliary_heads: list[dict] | None = None,
        loss: dict | None = None,
        auxiliary_loss: dict | None = None,
        ignore_index: int = IGNORE_INDEX,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck is not None else nn.Identity()
        self.decode_head = MODELS.build(decode_head)
        self.auxiliary_heads = nn.ModuleList(MODELS.build(head) for head in auxiliary_heads or [])
        self.loss_decode = MODELS.build(loss or dict(type='CrossEntropyLoss'))
        self.loss_auxiliary = MODELS.build(auxiliary_loss or dict(type='CrossEntropyLoss', loss_weight=0.2))
        self.ignore_index = ignore_index
        self.test_cfg = self._check_test_cfg(test_cfg or dict(mode='whole'))

    @staticmethod
    def _check_test_cfg(test_cfg: dict) -> dict:
        mode = test_cfg.get('mode', 'whole')
        if mode not in ('whole', 'slide') or set(test_cfg) - TEST_CFG_KEYS:
            raise ValueError(
                f"model.test_cfg={dict(test_cfg)} must be dict(mode='whole') or dict(mode='slide', "
                'crop_size=(height, width), stride=(vertical, horizontal))'
            )
        if mode == 'slide' and not {'crop_size', 'stride'} <= set(test_cfg):
            raise ValueError("model.test_cfg with mode='slide' needs crop_size and stride")
        for name in ('crop_size', 'stride') if mode == 'slide' else ():
            value = test_cfg[name]
            if isinstance(value, int) or len(value) != 2:
                raise ValueError(f'model.test_cfg.{name}={value} must be a pair (vertical, horizontal)')
        return dict(test_cfg, mode=mode)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the fused maps of images of shape BxCxHxW, finest first."""
        return self.neck(self.backbone(inputs))

    def _dump_init_info(self) -> None:
        """Say nothing: the engine would list every parameter, and weights that were loaded are reported."""

    def _logits(self, inputs: Tensor) -> Tensor:
        return self.decode_head(self.extract_feat(inputs))

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Run the model on preprocessed images of shape BxCxHxW.

        Args:
            inputs: Normalised and padded images.
            data_samples: One for each image; needed for ``'loss'``.
            mode: ``'tensor'`` for logits at the head's resolution, ``'loss'`` for a dict of losses,
                ``'predict'`` for data samples with ``pred_sem_seg``.
        """
        if mode == 'tensor':
            return self._logits(inputs)
        if mode == 'loss':
            if data_samples is None:
                raise ValueError("mode='loss' needs data_samples with gt_sem_seg")
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'")

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Compute the losses, and the accuracy in percent, of images of shape BxCxHxW."""
        return self._losses(inputs, torch.cat([sample.gt_sem_seg.data for sample in data_samples]))

    def compile_losses(self, **options: Any) -> None:
        """Let torch compile what a training step computes of a batch.

        Nothing else of a step: images differ in size before they are padded, and the learning rate in each
        step, for which the compiler would start anew.

        Args:
            **options: Of ``torch.compile``.
        """
        self._losses = torch.compile(self._losses, **options)  # type: ignore[method-assign]

    def __getstate__(self) -> dict:
        """Leave out what was compiled: in a copy it would compute the losses of this model."""
        state = super().__getstate__()
        state.pop('_losses', None)
        return state

    def _losses(self, inputs: Tensor, label: Tensor) -> dict[str, Tensor]:
        label = label.long()  # BxHxW
        logits, maps = self._logits_and_maps(inputs)
        losses = self._head_loss('decode', logits, label, self.loss_decode)
        for i, head in enumerate(self.auxiliary_heads):
            prefix = 'aux' if len(self.auxiliary_heads) == 1 else f'aux_{i}'
            losses.update(self._head_loss(prefix, head(maps), label, self.loss_auxiliary))
        return losses

    def _logits_and_maps(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the logits and the maps for the auxiliary heads, keeping little for the backward pass."""
        upsample = getattr(self.neck, 'upsample_finest', None)
        if upsample is None or any(getattr(head, 'in_index', 0) == 0 for head in self.auxiliary_heads):
            maps = self.extract_feat(inputs)
            return self.decode_head(maps), maps
        maps = self.neck(self.backbone(inputs), upsample_finest=False)
        release_freed_memory(inputs.device)  # before the largest maps are made
        if getattr(self.decode_head, 'can_upsample', False) and eager_on_cpu_without_autocast(inputs.device):
            return self.decode_head(maps, upsample=True), maps
        return recomputed(upsample, lambda finest: self.decode_head((finest, *maps[1:])), maps[0]), maps

    def _head_loss(self, prefix: str, logits: Tensor, label: Tensor, loss: Any) -> dict[str, Tensor]:
        value, accuracy = loss.with_accuracy(logits, label, self.ignore_index)
        return {f'{prefix}.{loss.loss_name}': value, f'{prefix}.acc_seg': accuracy}

    def _logit_rows(self, inputs: Tensor) -> Iterator[tuple[Rows, Size]]:
        """Yield each image's logits of shape 1xKxhxw, by rows, and their size (h, w).

        The finest fused map has half the input's size and the most channels: a prediction never holds it, nor
        what the head makes of it, but for the rows at hand.
        """
        release_freed_memory(inputs.device)  # of the images before
        if self.test_cfg['mode'] == 'slide':
            crop_size, stride = self.test_cfg['crop_size'], self.test_cfg['stride']
            for image in inputs.split(1):
                rows = SlidingRows(self._logits, image, crop_size, stride)
                yield rows, (inputs.shape[-2], inputs.shape[-1])
            return
        context = None if self.decode_head.training else getattr(self.decode_head, 'context', None)
        if context is None or not hasattr(self.neck, 'upsample_finest'):  # a neck of the user's own
            for logits in self._logits(inputs).split(1):
                yield rows_of(logits), (logits.shape[-2], logits.shape[-1])
            return
        taps = list(self.backbone(inputs))
        maps = self.neck(taps, upsample_finest=False, finest_only=True, release=True)
        release_freed_memory(inputs.device)
        for coarse in maps[0].split(1):
            coarse = coarse.contiguous(memory_format=torch.channels_last)
            size = (coarse.shape[-2], coarse.shape[-1])
            fine = (2 * size[0], 2 * size[1])
            finest = resized(rows_of(coarse), size, fine, align_corners=True)
            yield with_context(lambda x: self.decode_head((x,)), finest, fine[0], context), fine

    def restored_rows(self, inputs: Tensor, data_samples: list[SegDataSample]) -> Iterator[tuple[Rows, Size]]:
        """Yield each image's logits of shape 1xKxHxW at its original size (H, W), by rows.

        Every prediction comes this way: validation, test, multi-scale and flip, and the Python interface.
        """
        input_shape = (inputs.shape[-2], inputs.shape[-1])
        for (rows, size), sample in zip(self._logit_rows(inputs), data_samples, strict=True):
            meta = sample.metainfo
            img_shape = meta.get('img_shape', input_shape)
            ori_shape = meta.get('ori_shape', img_shape)[:2]
            restored = restored_rows(
                rows,
                size,
                input_shape=input_shape,
                img_shape=img_shape,
                ori_shape=ori_shape,
                flip_direction=meta.get('flip_direction') if meta.get('flip') else None,
            )
            yield restored, ori_shape

    def bands(self, size: Size, inputs: Tensor) -> Iterator[tuple[int, int]]:
        """Yield (top, bottom) of the bands of rows in which logits of ``size`` (height, width) are made.

        Where the network's input is larger, bands are smaller.
        """
        device = inputs.device
        width = max(size[1], inputs.shape[-2] * inputs.shape[-1] // size[0])
        for band in bands(size[0], 4 * self.decode_head.num_classes * width, device):
            release_freed_memory(device)
            yield band

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, *, with_logits: bool = False
    ) -> list[SegDataSample]:
        """Return the samples with ``pred_sem_seg``, and with ``seg_logits`` on request."""
        data_samples = data_samples or [SegDataSample() for _ in inputs]
        restored = self.restored_rows(inputs, data_samples)
        for sample, (rows, size) in zip(data_samples, restored, strict=True):
            labels, logits = [], []
            for top, bottom in self.bands(size, inputs):
                band = rows(top, bottom)[0]
                labels.append(label_map(band))
                if with_logits:
                    logits.append(band)
            sample.pred_sem_seg = PixelData(data=torch.cat(labels, dim=-2))
            if with_logits:
                sample.seg_logits = PixelData(data=torch.cat(logits, dim=-2))
        return data_samples
