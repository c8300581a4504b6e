"""Complete models of other repositories: original DPT, MiDaS, Depth Anything, UniMatch V2, transformers.

A source has a table for its neck and heads, and tables for its encoder: one for VisionTransformer or its
hybrid, one for TimmBackbone. Together they give the formats of the whole file and of its encoder alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import isl, timm, vit
from .table import Changed, Format

_HEAD = 'decode_head'
_UPSAMPLED = ('conv1', 'conv2', 'conv_depth')  # of DepthHead


@dataclass(frozen=True)
class Source:
    """Files of one repository with complete models, or with a neck and a head without their encoder.

    Args:
        name: Name in messages.
        signature: Keys that every file has, the most characteristic one last.
        keys: Targets of the neck and the heads, by source pattern.
        dropped: Reason for dropping a key of a complete model, by source pattern.
        prefix: Prefix of the keys of the encoder.
        encoder: Format of the encoder without the prefix, for VisionTransformer and its hybrid; None if the
            file has no encoder.
        timm_encoder: The same for TimmBackbone; None if it has no counterpart.
    """

    name: str
    signature: tuple[str, ...]
    keys: Mapping[str, str]
    dropped: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ''
    encoder: Format | None = None
    timm_encoder: Format | None = None

    def model(self, encoder: Format | None) -> Format:
        """Return the format of the whole file for a model with this encoder."""
        keys, dropped = self._encoder_tables(encoder, 'backbone.')
        dropped |= self.dropped
        return Format(self.name, self.signature, {**keys, **self.keys}, dropped)

    def backbone(self, encoder: Format) -> Format:
        """Return the format that takes only the encoder of the file."""
        keys, dropped = self._encoder_tables(encoder, '')
        others = dict.fromkeys((*self.dropped, *self.keys), 'not part of the backbone')
        others = {pattern: why for pattern, why in others.items() if not pattern.startswith(self.prefix)}
        return Format(
            self.name, self.signature, keys, {**dropped, **others}, encoder.mean_std, encoder.norm_eps
        )

    def _encoder_tables(
        self, encoder: Format | None, prefix: str
    ) -> tuple[dict[str, str | Changed], dict[str, str]]:
        if encoder is None:
            return {}, {}
        keys = {
            f'{self.prefix}{theirs}': ours._replace(key=f'{prefix}{ours.key}')
            if isinstance(ours, Changed)
            else f'{prefix}{ours}'
            for theirs, ours in encoder.keys.items()
        }
        return keys, {f'{self.prefix}{key}': reason for key, reason in encoder.dropped.items()}


def _numbered(theirs: str, numbers: tuple[int, ...]) -> dict[str, str]:
    """Return the table of the three convolutions of a depth head, numbered within ``theirs``."""
    targets = zip(numbers, _UPSAMPLED, strict=True)
    return {f'{theirs}{number}.*': f'{_HEAD}.{name}.*' for number, name in targets}


def _depth_anything_neck(prefix: str) -> dict[str, str]:
    return {
        f'{prefix}projects.#.*': 'neck.reassemble_blocks.projects.#.conv.*',
        f'{prefix}resize_layers.#.*': 'neck.reassemble_blocks.resize_layers.#.*',
        f'{prefix}readout_projects.#.0.*': 'neck.reassemble_blocks.readout_projects.#.0.*',
        **isl.scratch_keys(prefix),
    }


def _unused_lateral(prefix: str) -> dict[str, str]:
    return {f'{prefix}scratch.refinenet4.resConfUnit1.**': isl.UNUSED_LATERAL}


_ISL_POSITIONS = 'pretrained.model.pos_embed'
ISL_DEPTH = Source(
    'original DPT or MiDaS 3.0, depth',
    (_ISL_POSITIONS, 'scratch.output_conv.2.weight'),
    {**isl.NECK, **_numbered('scratch.output_conv.', (0, 2, 4))},
    isl.UNUSED,
    'pretrained.model.',
    vit.TIMM_HYBRID,
)
ISL_SEGMENTATION = Source(
    'original DPT, segmentation',
    (_ISL_POSITIONS, 'scratch.output_conv.1.weight'),
    {**isl.NECK, **isl.SEGMENTATION_HEADS},
    isl.UNUSED,
    'pretrained.model.',
    vit.TIMM_HYBRID,
)
DEPTH_ANYTHING = Source(
    'Depth Anything',
    ('pretrained.patch_embed.proj.weight', 'depth_head.scratch.output_conv2.0.weight'),
    {
        **_depth_anything_neck('depth_head.'),
        'depth_head.scratch.output_conv1.*': 'decode_head.conv1.*',
        'depth_head.scratch.output_conv2.0.*': 'decode_head.conv2.*',
        'depth_head.scratch.output_conv2.2.*': 'decode_head.conv_depth.*',
    },
    _unused_lateral('depth_head.'),
    'pretrained.',
    vit.DINOV2,
    timm.META_DINOV2,
)
UNIMATCH_V2 = Source(
    'UniMatch V2',
    ('backbone.patch_embed.proj.weight', 'head.scratch.output_conv.0.weight'),
    {
        **_depth_anything_neck('head.'),
        'head.scratch.output_conv.0.*': 'decode_head.project.conv.*',
        'head.scratch.output_conv.2.*': 'decode_head.conv_seg.*',
    },
    _unused_lateral('head.'),
    'backbone.',
    vit.DINOV2,
    timm.META_DINOV2,
)

_HF_LATERAL = {'neck.fusion_stage.layers.0.residual_layer1.**': isl.UNUSED_LATERAL}
_HF_NECK = {
    'neck.reassemble_stage.readout_projects.#.0.*': 'neck.reassemble_blocks.readout_projects.#.0.*',
    'neck.reassemble_stage.layers.#.projection.*': 'neck.reassemble_blocks.projects.#.conv.*',
    'neck.reassemble_stage.layers.#.resize.*': 'neck.reassemble_blocks.resize_layers.#.*',
    'neck.convs.#.weight': 'neck.convs.#.conv.weight',
    'neck.fusion_stage.layers.#.projection.*': 'neck.fusion_blocks.#.project.conv.*',
    'neck.fusion_stage.layers.#.residual_layer#.convolution#.*': (
        'neck.fusion_blocks.#.res_conv_unit#.conv#.conv.*'
    ),
    'neck.fusion_stage.layers.#.residual_layer#.batch_norm#.*': (
        'neck.fusion_blocks.#.res_conv_unit#.conv#.bn.*'
    ),
}
_BIT = 'embeddings.backbone.bit'
_HF_ENCODER = Format(
    'Hugging Face DPT',
    (),
    {
        **vit.HF_VIT.keys,
        f'{_BIT}.embedder.convolution.weight': 'stem.conv.weight',
        f'{_BIT}.embedder.norm.*': 'stem.norm.*',
        f'{_BIT}.encoder.stages.#.layers.#.**': 'stages.#.blocks.#.**',
        'embeddings.projection.*': 'patch_embed.projection.*',  # hybrid
    },
    vit.HF_VIT.dropped,
    norm_eps=vit.HF_VIT.norm_eps,
)
_HF_POSITIONS = 'embeddings.position_embeddings'
_HF_HEAD = {'head.projection.*': 'decode_head.project.conv.*', **_numbered('head.head.', (0, 2, 4))}
HF_SEGMENTATION = Source(
    'Hugging Face DPT, segmentation',
    (f'dpt.{_HF_POSITIONS}', 'head.head.1.weight'),
    {
        **_HF_NECK,
        **{
            f'{theirs}.head.{key}': f'{ours}.{target}'
            for theirs, ours in (('head', _HEAD), ('auxiliary_head', 'auxiliary_heads.0'))
            for key, target in (
                ('0.weight', 'project.conv.weight'),
                ('1.*', 'project.bn.*'),
                ('4.*', 'conv_seg.*'),
            )
        },
    },
    {**_HF_LATERAL, 'dpt.layernorm.*': isl.UNUSED_NORM},
    'dpt.',
    _HF_ENCODER,
)
HF_DEPTH = Source(
    'Hugging Face DPT, depth',
    (f'dpt.{_HF_POSITIONS}', 'head.head.2.weight'),
    {**_HF_NECK, **_HF_HEAD},
    {**_HF_LATERAL, 'dpt.layernorm.*': isl.UNUSED_NORM},
    'dpt.',
    _HF_ENCODER,
)
HF_DINOV2_DEPTH = Source(
    'Hugging Face DPT with DINOv2, depth',
    (f'backbone.{_HF_POSITIONS}', 'neck.convs.0.weight', 'head.head.2.weight'),
    {**_HF_NECK, **_HF_HEAD},
    {**_HF_LATERAL, 'backbone.layernorm.*': isl.UNUSED_NORM},
    'backbone.',
    vit.HF_DINOV2,
    timm.HF_DINOV2,
)
HF_DEPTH_ANYTHING = Source(
    'Hugging Face Depth Anything',
    (f'backbone.{_HF_POSITIONS}', 'head.conv3.weight'),
    {**_HF_NECK, **_numbered('head.conv', (1, 2, 3))},
    _HF_LATERAL,
    'backbone.',
    vit.HF_DINOV2,
    timm.HF_DINOV2,
)


def _dino_head(prefix: str) -> dict[str, str]:
    return {
        f'{prefix}reassemble_blocks.**': 'neck.reassemble_blocks.**',
        f'{prefix}convs.**': 'neck.convs.**',
        f'{prefix}fusion_blocks.**': 'neck.fusion_blocks.**',
        f'{prefix}project.**': 'decode_head.project.**',
        **_numbered(f'{prefix}conv_depth.head.', (0, 2, 4)),
    }


DINOV2_HEAD = Source(
    "DINOv2's depth head",
    ('decode_head.reassemble_blocks.projects.0.conv.weight', 'decode_head.conv_depth.head.0.weight'),
    _dino_head('decode_head.'),
)
DINOV3_HEAD = Source(
    "DINOv3's depth head",
    ('reassemble_blocks.projects.0.conv.weight', 'conv_depth.head.0.weight'),
    _dino_head(''),
)

SOURCES = (
    ISL_DEPTH,
    ISL_SEGMENTATION,
    DEPTH_ANYTHING,
    UNIMATCH_V2,
    HF_SEGMENTATION,
    HF_DEPTH,
    HF_DINOV2_DEPTH,
    HF_DEPTH_ANYTHING,
    DINOV2_HEAD,
    DINOV3_HEAD,
)
HEADS = tuple(source for source in SOURCES if source.encoder is None)
PUBLISHED_MODELS = tuple(source.model(source.encoder) for source in SOURCES)
"""For models with VisionTransformer or its hybrid."""
PUBLISHED_TIMM_MODELS = tuple(
    source.model(source.timm_encoder) for source in SOURCES if source.timm_encoder or source in HEADS
)
"""For models with TimmBackbone."""
PUBLISHED_ENCODERS = tuple(source.backbone(source.encoder) for source in SOURCES if source.encoder)
PUBLISHED_TIMM_ENCODERS = tuple(
    source.backbone(source.timm_encoder) for source in SOURCES if source.timm_encoder
)
