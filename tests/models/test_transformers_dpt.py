"""The original's configs against transformers' ``DPTForSemanticSegmentation``, tiny, of random weights.

On square images, because its neck assumes them, and without the auxiliary head, which it gives the last map:
test_isl_reference.py compares other shapes and the auxiliary logits with the original.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from isl_formula import fill
from tiny_models import assert_close

from dpt.checkpoints.formats import Format, convert
from dpt.config.load import load_config
from dpt.models.segmentor import EncoderDecoder
from dpt.registry import MODELS

transformers = pytest.importorskip('transformers')

PLAIN = 'configs/dpt_vit-l16_512x512_160k_ade20k.py'
HYBRID = 'configs/dpt_hybrid_512x512_160k_ade20k.py'
MODELS_AND_READOUTS = [(PLAIN, 'project'), (PLAIN, 'add'), (PLAIN, 'ignore'), (HYBRID, 'project')]
SIDES = [
    64,  # the position embedding as it is
    96,  # and resized
    48,  # a grid of 3x3, whose coarsest level rounds up: laterals are resized
]

SIDE, PATCH, WIDTH, HEADS, CHANNELS, CLASSES = 64, 16, 32, 2, 16, 5
STEM, STAGES, DEPTHS = 32, (128, 256, 512), (2, 1, 2)
LAYERS = 6
TAPS = {PLAIN: (0, 2, 3, 5), HYBRID: (2, 4)}
LEVELS = {PLAIN: (8, 16, 24, 40), HYBRID: (*STAGES[:2], 24, 40)}

_BIT = 'dpt.embeddings.backbone.bit.'
_STAGES = f'{_BIT}encoder.stages.#.layers.#.'
_LAYER, _OUR_LAYER = 'dpt.encoder.layer.#.', 'backbone.layers.#.'
_REASSEMBLE, _OUR_REASSEMBLE = 'neck.reassemble_stage.', 'neck.reassemble_blocks.'
_FUSION = 'neck.fusion_stage.layers.#.'
_UNIT = 'neck.fusion_blocks.#.res_conv_unit#.conv#.'
TABLE = Format(
    'transformers',
    (),
    {
        f'{_BIT}embedder.convolution.weight': 'backbone.stem.conv.weight',
        f'{_BIT}embedder.norm.*': 'backbone.stem.norm.*',
        f'{_STAGES}conv#.weight': 'backbone.stages.#.blocks.#.conv#.weight',
        f'{_STAGES}norm#.*': 'backbone.stages.#.blocks.#.norm#.*',
        f'{_STAGES}downsample.conv.weight': 'backbone.stages.#.blocks.#.downsample.conv.weight',
        f'{_STAGES}downsample.norm.*': 'backbone.stages.#.blocks.#.downsample.norm.*',
        'dpt.embeddings.cls_token': 'backbone.cls_token',
        'dpt.embeddings.position_embeddings': 'backbone.pos_embed',
        'dpt.embeddings.projection.*': 'backbone.patch_embed.projection.*',
        'dpt.embeddings.patch_embeddings.projection.*': 'backbone.patch_embed.projection.*',
        f'{_LAYER}attention.attention.{{query,key,value}}.*': f'{_OUR_LAYER}attn.attn.in_proj_*',
        f'{_LAYER}attention.output.dense.*': f'{_OUR_LAYER}attn.attn.out_proj.*',
        f'{_LAYER}intermediate.dense.*': f'{_OUR_LAYER}ffn.layers.0.0.*',
        f'{_LAYER}output.dense.*': f'{_OUR_LAYER}ffn.layers.1.*',
        f'{_LAYER}layernorm_before.*': f'{_OUR_LAYER}ln1.*',
        f'{_LAYER}layernorm_after.*': f'{_OUR_LAYER}ln2.*',
        f'{_REASSEMBLE}readout_projects.#.0.*': f'{_OUR_REASSEMBLE}readout_projects.#.0.*',
        f'{_REASSEMBLE}layers.#.projection.*': f'{_OUR_REASSEMBLE}projects.#.conv.*',
        f'{_REASSEMBLE}layers.#.resize.*': f'{_OUR_REASSEMBLE}resize_layers.#.*',
        'neck.convs.#.weight': 'neck.convs.#.conv.weight',
        f'{_FUSION}projection.*': 'neck.fusion_blocks.#.project.conv.*',
        f'{_FUSION}residual_layer#.convolution#.weight': f'{_UNIT}conv.weight',
        f'{_FUSION}residual_layer#.batch_norm#.*': f'{_UNIT}bn.*',
        'head.head.0.weight': 'decode_head.project.conv.weight',
        'head.head.1.*': 'decode_head.project.bn.*',
        'head.head.4.*': 'decode_head.conv_seg.*',
        'auxiliary_head.head.0.weight': 'auxiliary_heads.0.project.conv.weight',
        'auxiliary_head.head.1.*': 'auxiliary_heads.0.project.bn.*',
        'auxiliary_head.head.4.*': 'auxiliary_heads.0.conv_seg.*',
    },
    {
        'dpt.layernorm.*': 'the taps lie before the final norm',
        'neck.fusion_stage.layers.0.residual_layer1.**': 'the coarsest fusion block has no lateral',
    },
)


def reference(config: str, readout: str) -> Any:
    """Transformers' model in float64, with weights by formula."""
    options: dict[str, Any] = {}
    if config == HYBRID:
        options = dict(
            is_hybrid=True,
            backbone_config=dict(
                model_type='bit',
                global_padding='same',
                layer_type='bottleneck',
                embedding_dynamic_padding=True,
                embedding_size=STEM,
                hidden_sizes=list(STAGES),
                depths=list(DEPTHS),
                out_features=['stage1', 'stage2', 'stage3'],
            ),
            backbone_featmap_shape=[1, STAGES[-1], SIDE // PATCH, SIDE // PATCH],
            reassemble_factors=[1, 1, 1, 0.5],
        )
    model = transformers.DPTForSemanticSegmentation(
        transformers.DPTConfig(
            image_size=SIDE,
            patch_size=PATCH,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            layer_norm_eps=1e-6,
            # Of a hybrid the first two stand for the stem's stages and are not read.
            backbone_out_indices=(0, 0, *TAPS[config])[-4:],
            readout_type=readout,
            neck_hidden_sizes=LEVELS[config],
            fusion_hidden_size=CHANNELS,
            use_batch_norm_in_fusion_residual=True,
            num_labels=CLASSES,
            **options,
        )
    )
    for name, tensor in model.double().state_dict().items():
        # Standardised filters lose their scale, but for the epsilon. The original adds its own to the
        # standard deviation, transformers another to the variance: beside such filters both vanish.
        scale = 1e6 if '.bit.' in name and tensor.ndim > 1 else 1
        tensor.copy_(scale * fill(name, tuple(tensor.shape)))
    return model.eval()


def our_model(repository: Path, config: str, readout: str) -> EncoderDecoder:
    """The config's model in float64 at the reference's sizes."""
    model = load_config(str(repository / config), {}).model
    model.backbone.update(
        img_size=SIDE,
        embed_dims=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        out_indices=TAPS[config],
        init_cfg=None,
    )
    if config == HYBRID:
        model.backbone.update(stem_channels=STEM, stage_channels=STAGES, stage_depths=DEPTHS)
    model.neck.update(
        in_channels=WIDTH,
        channels=CHANNELS,
        post_process_channels=LEVELS[config],
        readout_type=readout,
    )
    for head in (model.decode_head, *model.auxiliary_heads):
        head.update(in_channels=CHANNELS, channels=CHANNELS, num_classes=CLASSES)
    return MODELS.build(model).double().eval()


@pytest.mark.parametrize(('config', 'readout'), MODELS_AND_READOUTS)
@torch.no_grad()
def test_logits_equal_transformers(repository: Path, config: str, readout: str) -> None:
    theirs, ours = reference(config, readout), our_model(repository, config, readout)
    converted, report = convert(theirs.state_dict(), TABLE)
    assert report.unmapped == ()
    ours.load_state_dict(converted, strict=True)
    generator = torch.Generator().manual_seed(1)
    for side in SIDES:
        images = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64)
        # A hybrid refuses any size but this, though it resizes its position embedding for others.
        theirs.dpt.embeddings.image_size = (side, side)
        assert_close(ours(images), theirs(images).logits)
