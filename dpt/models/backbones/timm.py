"""Any model of timm that returns intermediate features, as a backbone."""

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dpt.models.layers import image_size, pad_to_multiple, resize_pos_embed
from dpt.models.lora import add_lora
from dpt.registry import MODELS

RESIZES = ('timm', 'dinov2', 'bicubic')


def _import_timm() -> ModuleType:
    """Import timm, which imports torchvision.

    Raises:
        ImportError: If one of them is missing, or torchvision was built for another torch.
    """
    if importlib.util.find_spec('timm') is None:
        raise ImportError("TimmBackbone needs timm: pip install 'dense-prediction-transformers[foundation]'")
    try:
        import timm
        import timm.models
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).partition('\n')[0]
        raise ImportError(
            f'timm cannot be imported: {reason}. It needs the torchvision that fits torch '
            f'{torch.__version__}; pip install the torchvision of that release from the same index as torch'
        ) from error
    return timm


def _embed_positions(model: Any, convention: str, x: Tensor) -> Tensor:
    """Add the position embedding to patches of shape BxHxWxC as timm's ViT does, but resize it otherwise."""
    grid, native = (x.shape[1], x.shape[2]), model.patch_embed.grid_size
    extra = 0 if model.no_embed_class else model.num_prefix_tokens
    offset = 0.1 if convention == 'dinov2' else 0.0
    positions = resize_pos_embed(model.pos_embed, native, grid, 'bicubic', extra, offset=offset)
    tokens = x.flatten(1, 2)
    prefix = [
        token.expand(len(x), -1, -1) for token in (model.cls_token, model.reg_token) if token is not None
    ]
    if model.no_embed_class:
        tokens = torch.cat([*prefix, tokens + positions], dim=1)
    else:
        tokens = torch.cat([*prefix, tokens], dim=1) + positions
    return model.pos_drop(tokens)


def _embed_rotation(rope: Any, original: Callable, grid: Sequence[int], no_aug: bool = False) -> Tensor:
    """Compute DINOv3's rotary embedding of a grid as timm does.

    timm converts the size of the grid to Python numbers, which would fix the size of an exported graph.
    """
    if (rope.training and rope.aug_active and not no_aug) or rope.normalize_coords != 'separate':
        return original(grid, no_aug)
    device = rope.periods.device  # a copy from the CPU would make the host wait
    axes = [(torch.arange(side, device=device) + (0.5 + rope.grid_offset)) / side for side in grid]
    coords = 2.0 * torch.stack(torch.meshgrid(axes, indexing='ij'), dim=-1) - 1.0
    return torch.cat(rope._get_pos_embed_from_coords(coords.flatten(0, 1)), dim=-1)


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Model of timm that returns the features of selected layers, before the final norm.

    ViTs (DINOv2 with or without registers, DINOv3, DeiT III, EVA-02, SigLIP, CLIP, ...) fit ``DPTNeck`` as
    :class:`VisionTransformer` does. For pyramids (ConvNeXt, Swin, PVT, ResNet, ...) set the neck's
    ``identity_levels=(0, 1, 2, 3)``, ``readout_type='ignore'``, and ``post_process_channels`` to the
    ``channels`` of this module.

    The model is built without weights. What the taps do not need is removed: later layers, the classifier,
    and the final norm unless ``norm_taps``.

    Args:
        model_name: Name in timm, such as ``'vit_base_patch14_reg4_dinov2'``; a tag after a dot has no effect.
        out_indices: 0-based, ascending indices of the layers (ViT) or stages (pyramid; those of a ResNet are
            1 to 4) whose output is returned.
        img_size: Size in pixels of the images of the pretraining; ``None`` is timm's default. Models that
            accept one size only (BEiT, Hiera, MaxViT, ...) accept this one.
        norm_taps: Whether to apply the final norm to every returned layer, as is usual with DINOv2 and
            DINOv3. Only for models whose layers all have the same number of channels.
        output_cls_token: Whether to return (map, class token) pairs instead of maps; ``None`` returns them if
            the model has a class token.
        pos_embed_resize: How to resize the position embedding for other image sizes, which belongs to the
            weights. ``'timm'``: bicubic with antialiasing, also used by DINOv2 with registers. ``'dinov2'``:
            bicubic, with an offset of 0.1 in the scale, as the original DINOv2 without registers.
            ``'bicubic'``: plain, as ``Dinov2Model`` of transformers. ``None`` takes ``'dinov2'`` for DINOv2
            without registers, else ``'timm'``. Only the ViTs of timm's ``vision_transformer.py`` have a
            choice.
        drop_path_rate: Stochastic depth rate of the last layer; it increases linearly from 0 at the first.
        frozen_stages: Number of leading layers (ViT) or stages (pyramid) to freeze together with the
            embeddings or stem; 0 freezes only the latter, -1 nothing. Frozen parts stay in evaluation mode.
        with_cp: Whether to use gradient checkpointing, which saves memory but makes the backbone about a
            third slower.
        lora: Settings of LoRA adapters, see :func:`dpt.models.lora.add_lora`; everything else is frozen.
        model_args: Further arguments of the model, such as ``dict(in_chans=4)``.
        init_cfg: ``dict(type='Pretrained', checkpoint=PATH)`` loads weights strictly. It accepts files with
            timm's keys, and DINOv2 and DINOv3 of Meta and Hugging Face.

    Attributes:
        channels: Channels of the taps.
        stride: Images are padded to multiples of this number of pixels.

    Raises:
        ImportError: If timm is missing or cannot be imported.
        ValueError: If an argument is invalid or does not fit the model; the message names it.
    """

    checkpoint_keys = 'timm'
    """Selects the formats that :func:`dpt.checkpoints.load_backbone` accepts."""

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (2, 5, 8, 11),
        *,
        img_size: int | tuple[int, int] | None = None,
        norm_taps: bool = False,
        output_cls_token: bool | None = None,
        pos_embed_resize: str | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        lora: Mapping[str, Any] | None = None,
        model_args: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.model_name = model_name
        self.out_indices = tuple(out_indices)
        self.norm_taps = norm_taps
        self.frozen_stages = frozen_stages
        arguments = dict(model_args or {})
        for name in ('pretrained', 'checkpoint_path', 'features_only'):
            if name in arguments:  # timm loads weights that do not match without an error
                raise ValueError(f'model_args may not contain {name!r}: load weights with init_cfg')
        if img_size is not None:
            arguments['img_size'] = img_size
        if drop_path_rate:
            arguments['drop_path_rate'] = drop_path_rate
        self.model: Any = self._build(arguments)
        info = [self.model.feature_info[i] for i in self.out_indices]
        self.channels = tuple(one['num_chs'] for one in info)
        self.stride: int = max(one['reduction'] for one in info)
        if norm_taps and len(set(self.channels)) > 1:
            raise ValueError(
                f'norm_taps=True does not fit {model_name}: the final norm fits its last stage only'
            )
        if norm_taps and isinstance(getattr(self.model, 'norm', None), nn.Identity):
            raise ValueError(f'norm_taps=True does not fit {model_name}: timm builds it without a final norm')
        self.output_cls_token = self._check_cls_token(output_cls_token)
        self._set_resize(pos_embed_resize)
        self._set_rotation()
        if with_cp:
            try:
                self.model.set_grad_checkpointing(True)
            except (AssertionError, AttributeError):
                raise ValueError(
                    f'with_cp=True: {model_name} has no gradient checkpointing in timm'
                ) from None
        self._freeze()
        self.lora = lora
        if lora is not None:
            add_lora(self, lora, in_channels=arguments.get('in_chans', 3), size=self.img_size)

    def _build(self, arguments: dict[str, Any]) -> Any:
        """Build the model and remove what the taps do not need; keep the keys of what was removed."""
        timm, name = _import_timm(), self.model_name
        if not timm.is_model(name):
            similar = timm.list_models(f'*{name.partition(".")[0]}*')[:5]
            hint = f'; similar: {", ".join(similar)}' if similar else ''
            raise ValueError(f'model_name={name!r} is not a model of timm {timm.__version__}{hint}')
        try:
            try:
                model = timm.create_model(name, dynamic_img_size=True, **arguments)
                self.img_size = None  # any
            except TypeError:  # a model for any size, or for this one only
                model = timm.create_model(name, **arguments)
                self.img_size = image_size(arguments.get('img_size', model.pretrained_cfg['input_size'][1:]))
        except (TypeError, AssertionError, RuntimeError) as error:
            raise ValueError(f'timm cannot build {name} with {arguments}: {error}') from error
        if not hasattr(model, 'forward_intermediates') or not hasattr(model, 'prune_intermediate_layers'):
            raise ValueError(f'model_name={name!r}: this model of timm cannot return intermediate features')
        taps, count = self.out_indices, len(model.feature_info)
        if not taps or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= count:
            raise ValueError(
                f'out_indices={taps} must be ascending indices from 0 to {count - 1} for {name}, whose '
                f'features have strides {[one["reduction"] for one in model.feature_info]}'
            )
        # DistributedDataParallel fails on trainable parameters without gradients.
        whole = list(model.state_dict())
        model.prune_intermediate_layers(list(taps), prune_norm=not self.norm_taps, prune_head=True)
        classifier = model.pretrained_cfg.get('classifier') or ()
        kept = model.state_dict()
        self.unused_keys = (
            *(key for key in whole if key not in kept),
            *((classifier,) if isinstance(classifier, str) else classifier),
        )
        # mmengine would initialise the model again, and after init_cfg.
        model.is_init = True
        return model

    def _check_cls_token(self, wanted: bool | None) -> bool:
        has_token = getattr(self.model, 'cls_token', None) is not None
        if wanted and not has_token:
            raise ValueError(
                f'output_cls_token=True does not fit {self.model_name}, which has no class token'
            )
        return has_token if wanted is None else wanted

    def _set_resize(self, convention: str | None) -> None:
        from timm.models.vision_transformer import VisionTransformer

        choice = type(self.model) is VisionTransformer and self.model.pos_embed is not None
        if convention is None:
            is_dinov2 = choice and '_dinov2' in self.model_name and self.model.reg_token is None
            convention = 'dinov2' if is_dinov2 else 'timm'
        if convention not in RESIZES:
            raise ValueError(f'pos_embed_resize={convention!r} must be one of {RESIZES} or None')
        if convention != 'timm':
            if not choice:
                raise ValueError(
                    f"pos_embed_resize={convention!r} does not fit {self.model_name}: use 'timm' or None"
                )
            self.model._pos_embed = functools.partial(_embed_positions, self.model, convention)
        self.pos_embed_resize = convention

    def _set_rotation(self) -> None:
        from timm.layers import RotaryEmbeddingDinoV3

        rope: Any = getattr(self.model, 'rope', None)
        if isinstance(rope, RotaryEmbeddingDinoV3) and rope.grid_indexing == 'ij':
            create = functools.partial(_embed_rotation, rope, rope._create_embed)
            rope._create_embed = create  # type: ignore[method-assign]

    def layer_numbers(self, *, stages: bool = False) -> dict[str, int]:
        """Return the number of the layer of each parameter, by name.

        The embeddings or stem are 0, the layers count from 1. A final norm belongs to the last layer.

        Args:
            stages: Whether to count the stages of a pyramid instead of its layers.
        """
        from timm.models import group_parameters

        numbers = group_parameters(self.model, self.model.group_matcher(coarse=stages), reverse=True)
        return {f'model.{name}': number for name, number in numbers.items()}

    def _freeze(self) -> None:
        numbers = self.layer_numbers(stages=True)
        count = max(numbers.values())
        if not -1 <= self.frozen_stages <= count:
            raise ValueError(f'frozen_stages={self.frozen_stages} must be from -1 to {count}')
        frozen = {name for name, number in numbers.items() if number <= self.frozen_stages}
        for name, parameter in self.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        self._frozen_names = frozen

    def train(self, mode: bool = True) -> 'TimmBackbone':
        """Set training mode, but keep frozen parts in evaluation mode."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for name, module in self.model.named_modules(prefix='model'):
                names = [f'{name}.{key}' for key, _ in module.named_parameters()]
                # Modules without parameters directly below the model, such as the dropout of the embeddings,
                # come before the layers.
                if self._frozen_names.issuperset(names) and (names or name.count('.') == 1):
                    module.eval()
        if self.lora is not None:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple:
        """Compute the taps.

        Args:
            x: Normalised images of shape BxCxHxW; zeros pad them at the bottom and right to multiples of
                ``stride``.

        Returns:
            For each of ``out_indices``, a feature map of shape BxCxhxw, paired with the class token of shape
            BxC if the model has one and ``output_cls_token`` is not False.

        Raises:
            ValueError: If the model accepts one image size only and this is another.
        """
        prefix = {'return_prefix_tokens': True} if self.output_cls_token else {}
        x = pad_to_multiple(x, self.stride)
        try:
            taps = self.model.forward_intermediates(
                x,
                indices=list(self.out_indices),
                norm=self.norm_taps,
                stop_early=True,
                intermediates_only=True,
                **prefix,
            )
        except (AssertionError, RuntimeError) as error:
            size = (x.shape[-2], x.shape[-1])
            if self.img_size in (None, size) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f'{self.model_name} does not accept images of {size[0]}x{size[1]}: set '
                f'model.backbone.img_size={size}, and crop or slide so that all images have this size'
            ) from error
        if self.output_cls_token:  # the first of the prefix tokens; registers follow
            return tuple((feature_map, tokens[:, 0]) for feature_map, tokens in taps)
        return tuple(taps)
