"""Base class of dense predictors: builds the parts and runs whole-image or sliding-window inference."""

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from dpt.models.inference import Geometry, Restore, Size, restorable_rows, restored, sliding_strips
from dpt.registry import MODELS
from dpt.structures import SegDataSample

TEST_CFG_KEYS = {'mode', 'crop_size', 'stride'}


def build_part(name: str, config: dict | nn.Module) -> nn.Module:
    """Build ``model.<name>``; prefix a ``ValueError`` or ``TypeError`` of its constructor with that key."""
    if isinstance(config, nn.Module):
        return config
    if not isinstance(config, dict):
        raise ValueError(f'model.{name}={config!r} must be a dict with the key type')
    try:
        return MODELS.build(config)
    except (ValueError, TypeError) as error:
        # Not the class of the error, whose constructor may need other arguments.
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f'model.{name}: {error}') from error


class DensePredictor(BaseModel):
    """Base class of models with a prediction per pixel: ``decode_head(neck(backbone(image)))``.

    Args:
        backbone: Config of the backbone. It maps images of shape BxCxHxW to taps: feature maps, or pairs of
            a feature map and a class token.
        decode_head: Config of the head. It maps feature maps to logits of shape BxKxhxw.
        neck: Optional config of the neck. It maps taps to feature maps, finest first.
        data_preprocessor: Config of the preprocessor.
        test_cfg: ``dict(mode='whole')``, the default, or ``dict(mode='slide', crop_size=(height, width),
            stride=(vertical, horizontal))``.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads the whole model, strictly.
    """

    cfg: Config  # dpt.apis.init_model sets cfg and dataset_meta
    dataset_meta: dict
    decode_head: Any
    ground_truth: str
    """Field of the data samples that the loss needs."""
    output: str
    """What the heads return, for error messages."""
    resize_mode: str = 'bilinear'
    align_corners: bool = False
    """Interpolation of the head's output to the original image."""

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        *,
        neck: dict | None = None,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor: dict | nn.Module | None = data_preprocessor
        if isinstance(preprocessor, dict) and 'type' in preprocessor:
            # Without a default scope, mmengine would search its own registry only.
            preprocessor = build_part('data_preprocessor', preprocessor)
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.backbone = build_part('backbone', backbone)
        self.neck = build_part('neck', neck) if neck is not None else nn.Identity()
        self.decode_head = build_part('decode_head', decode_head)
        self.test_cfg = _checked_test_cfg(test_cfg or dict(mode='whole'))

    def init_weights(self) -> None:
        """Initialise all parts, using dpt's initialisers."""
        with DefaultScope.overwrite_default_scope('dpt'):
            super().init_weights()

    def _dump_init_info(self) -> None:
        """Log nothing: mmengine would list every parameter, and the loader already reports loaded weights."""

    def extract_feat(self, inputs: Tensor) -> Sequence[Tensor]:
        """Extract feature maps, finest first, from images of shape BxCxHxW."""
        return self.neck(self.backbone(inputs))

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Run the model on preprocessed images of shape BxCxHxW.

        Args:
            inputs: Normalised and padded images.
            data_samples: One for each image; required for ``'loss'``.
            mode: ``'tensor'`` returns the output of ``decode_head`` at its own resolution (logits, or depth),
                ``'loss'`` a dict of losses, and ``'predict'`` data samples with predictions.
        """
        if mode == 'tensor':
            return self.run_head(self.decode_head, 'decode_head', self.extract_feat(inputs))
        if mode == 'loss':
            if data_samples is None:
                raise ValueError(f"mode='loss' needs data_samples with {self.ground_truth}")
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'")

    def run_head(self, head: nn.Module, name: str, maps: Sequence[Tensor]) -> Tensor:
        """Return the output of ``model.<name>``; raise ValueError if its shape is wrong."""
        output = head(maps)
        if not isinstance(output, Tensor) or output.dim() != 4:
            found = f'shape {tuple(output.shape)}' if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f'model.{name} must return {self.output}, got {found}')
        return output

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Compute the losses."""
        raise NotImplementedError

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Return the data samples with predictions at the size of the original images."""
        raise NotImplementedError

    def _losses(self, inputs: Tensor, target: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

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

    def _logits(self, inputs: Tensor) -> Tensor:
        logits = self.forward(inputs, mode='tensor')
        assert isinstance(logits, Tensor)
        return logits

    def restorable_strips(
        self, inputs: Tensor, data_samples: Sequence[SegDataSample]
    ) -> Iterator[tuple[int, slice, Tensor, Restore, Size]]:
        """Yield the logits of each image in pieces that can be resized to the original image one by one.

        Validation, testing, test-time augmentation and the Python API all predict through this method. A
        piece is the whole image or, in sliding-window mode, a horizontal strip.

        Yields:
            Image index; rows of the original image that the piece covers; logits of shape 1xKxhxw; a function
            that resizes all or some classes of the logits to those rows; (height, width) of the largest
            intermediate map of that function.
        """
        if len(data_samples) != len(inputs):
            raise ValueError(f'{len(inputs)} images, but {len(data_samples)} data samples')
        input_shape = (inputs.shape[-2], inputs.shape[-1])
        logits = self._logits(inputs).split(1) if self.test_cfg['mode'] == 'whole' else None
        for i, sample in enumerate(data_samples):
            geometry = Geometry.of(
                sample.metainfo, input_shape, mode=self.resize_mode, align_corners=self.align_corners
            )
            if logits is not None:
                size = max(input_shape, geometry.ori_shape, key=lambda size: size[0] * size[1])
                yield i, slice(0, geometry.ori_shape[0]), logits[i], geometry.restore, size
            else:
                for rows, strip, restore, size in self._strips(inputs[i : i + 1], geometry):
                    yield i, rows, strip, restore, size

    def restored_outputs(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> list[Tensor]:
        """Return the output of each image, of shape 1xKxHxW and at its original size, in float32."""
        strips: list[list] = [[] for _ in data_samples]
        for i, rows, strip, restore, size in self.restorable_strips(inputs, data_samples):
            strips[i].append((rows.start, restored(strip, restore, size)))
        return [stacked(one) for one in strips]

    def _strips(self, image: Tensor, geometry: Geometry) -> Iterator[tuple[slice, Tensor, Restore, Size]]:
        height, first = geometry.ori_shape[0], 0
        windows = sliding_strips(
            self._logits,
            image,
            self.test_cfg['crop_size'],
            self.test_cfg['stride'],
            align_corners=self.align_corners,
        )
        for top, strip in windows:
            last = restorable_rows(top + strip.shape[-2], geometry)
            if last == first:  # only padding, or less than one row of the original
                continue
            rows = slice(height - last, height - first) if -2 in geometry.flip_dims else slice(first, last)

            def restore(logits: Tensor, top: int = top, first: int = first, last: int = last) -> Tensor:
                return geometry.restore_strip(logits, top, first, last)

            width = max(image.shape[-1], geometry.ori_shape[1])
            yield rows, strip, restore, (max(strip.shape[-2], last - first), width)
            first = last


def _checked_test_cfg(test_cfg: dict) -> dict:
    mode = test_cfg.get('mode', 'whole')
    if mode not in ('whole', 'slide') or set(test_cfg) - TEST_CFG_KEYS:
        raise ValueError(
            f"model.test_cfg={dict(test_cfg)} must be dict(mode='whole') or dict(mode='slide', "
            'crop_size=(height, width), stride=(vertical, horizontal))'
        )
    unused = [name for name in ('crop_size', 'stride') if test_cfg.get(name) is not None]
    if mode == 'whole' and unused:
        message = (
            f"model.test_cfg has {' and '.join(unused)}, which only sliding windows use: set mode='slide', "
            'or remove them to predict whole images'
        )
        if 'mode' not in test_cfg:
            raise ValueError(message)
        print_log(message, 'current', logging.WARNING)  # a config may switch off the windows of its base
    if mode == 'slide' and not {'crop_size', 'stride'} <= set(test_cfg):
        raise ValueError("model.test_cfg with mode='slide' needs crop_size and stride")
    for name in ('crop_size', 'stride') if mode == 'slide' else ():
        value = test_cfg[name]
        pair = isinstance(value, (tuple, list)) and len(value) == 2
        if not pair or not all(isinstance(length, int) and length > 0 for length in value):
            raise ValueError(
                f'model.test_cfg.{name}={value} must be two positive whole numbers (vertical, horizontal)'
            )
    if mode == 'slide' and any(s > c for s, c in zip(test_cfg['stride'], test_cfg['crop_size'], strict=True)):
        raise ValueError(
            f'model.test_cfg.stride={test_cfg["stride"]} must be at most crop_size={test_cfg["crop_size"]}, '
            'otherwise pixels between the windows get no prediction'
        )
    return dict(test_cfg, mode=mode)


def stacked(strips: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Concatenate (first row, strip) pairs by row."""
    return torch.cat([strip for _, strip in sorted(strips, key=lambda pair: pair[0])], dim=-2)


def build_losses(name: str, config: dict | list[dict], ground_truth: str) -> nn.ModuleList:
    """Build ``model.<name>``; raise ValueError if names or the kind of a loss do not fit.

    Args:
        name: Key of the losses in the model.
        config: One loss, or a list of losses.
        ground_truth: Field of the data samples that the losses must compare; losses of users, without an
            attribute of this name, may compare any.
    """
    configs = config if isinstance(config, (list, tuple, nn.ModuleList)) else [config]
    if not len(configs):
        raise ValueError(f'model.{name} is an empty list: give at least one loss or remove the key')
    losses = nn.ModuleList(build_part(name, one) for one in configs)
    for loss in losses:
        compared = getattr(loss, 'ground_truth', ground_truth)
        if compared != ground_truth:
            raise ValueError(
                f'model.{name}: {type(loss).__name__} compares {compared}, but the model needs a loss of '
                f'{ground_truth}'
            )
    names = [loss_name(loss) for loss in losses]
    if len(set(names)) < len(names):
        raise ValueError(f'model.{name}: losses share a name ({", ".join(names)}); give each a loss_name')
    wrong = [one for one in names if 'loss' not in one]
    if wrong:  # mmengine sums the entries whose key contains 'loss'
        raise ValueError(
            f"model.{name}: loss_name={wrong[0]!r} must contain 'loss', otherwise mmengine does not sum it"
        )
    return losses


def loss_name(loss: nn.Module) -> str:
    """Return ``loss.loss_name``, or derive a name from the class: ``loss_dice`` for ``DiceLoss``."""
    words = re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+', type(loss).__name__.removesuffix('Loss'))
    return getattr(loss, 'loss_name', None) or '_'.join(['loss', *words]).lower()


def checked_loss(loss: nn.Module, value: Any) -> Tensor:
    """Return the value of a loss; raise ValueError if it is not a scalar tensor."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else type(value)
        raise ValueError(f'{type(loss).__name__} must return a scalar tensor, but returned {found}')
    return value
