"""The original's configs against transformers' ``DPTForSemanticSegmentation``, tiny, of random weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpt.checkpoints.convert import convert
from dpt.checkpoints.format import Rule
from dpt.config.load import load_config
from dpt.models.segmentor import EncoderDecoder
from dpt.registry import MODELS

transformers = pytest.importorskip('transformers')

PLAIN = 'configs/dpt_vit-l16_512x512_160k_ade20k.py'
HYBRID = 'configs/dpt_hybrid_512x512_160k_ade20k.py'
MODELS_AND_READOUTS = [(PLAIN, 'project'), (PLAIN, 'add'), (PLAIN, 'ignore'), (HYBRID, 'project')]
SIZES = [
    (64, 64),  # the position embedding as it is
    (96, 96),  # and resized
    (48, 48),  # a grid of 3x3, whose coarsest level rounds up: laterals are resized
    (32, 96),
]

SIDE, PATCH, WIDTH, HEADS, CHANNELS, CLASSES = 64, 16, 32, 2, 16, 5
STEM, STAGES, DEPTHS = 32, (128, 256, 512), (2, 1, 2)
LAYERS = 6
TAPS = {PLAIN: (0, 2, 3, 5), HYBRID: (2, 4)}
LEVELS = {PLAIN: (8, 16, 24, 40), HYBRID: (*STAGES[:2], 24, 40)}

_BN = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_WB = r'(weight|bias)'
_FINAL_NORM = 'the taps lie before the final norm'
_NO_LATERAL = 'the coarsest fusion block has no lateral'

_STAGES = r'dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d)\.layers\.(\d+)\.'
_STEM = (
    Rule(r'dpt\.embeddings\.backbone\.bit\.embedder\.convolution\.weight', 'backbone.stem.conv.weight'),
    Rule(rf'dpt\.embeddings\.backbone\.bit\.embedder\.norm\.{_WB}', r'backbone.stem.norm.\1'),
    Rule(_STAGES + r'conv([123])\.weight', r'backbone.stages.\1.blocks.\2.conv\3.weight'),
    Rule(_STAGES + rf'norm([123])\.{_WB}', r'backbone.stages.\1.blocks.\2.norm\3.\4'),
    Rule(_STAGES + r'downsample\.conv\.weight', r'backbone.stages.\1.blocks.\2.downsample.conv.weight'),
    Rule(_STAGES + rf'downsample\.norm\.{_WB}', r'backbone.stages.\1.blocks.\2.downsample.norm.\3'),
)
_LAYER = r'dpt\.encoder\.layer\.(\d+)\.'
_VIT = (
    Rule(r'dpt\.embeddings\.cls_token', 'backbone.cls_token'),
    Rule(r'dpt\.embeddings\.position_embeddings', 'backbone.pos_embed'),
    Rule(
        rf'dpt\.embeddings\.(?:patch_embeddings\.)?projection\.{_WB}', r'backbone.patch_embed.projection.\1'
    ),
    Rule(
        _LAYER + rf'attention\.attention\.(?P<part>query|key|value)\.{_WB}',
        r'backbone.layers.\1.attn.attn.in_proj_\3',
        parts=('query', 'key', 'value'),
    ),
    Rule(_LAYER + rf'attention\.output\.dense\.{_WB}', r'backbone.layers.\1.attn.attn.out_proj.\2'),
    Rule(_LAYER + rf'intermediate\.dense\.{_WB}', r'backbone.layers.\1.ffn.layers.0.0.\2'),
    Rule(_LAYER + rf'output\.dense\.{_WB}', r'backbone.layers.\1.ffn.layers.1.\2'),
    Rule(_LAYER + rf'layernorm_before\.{_WB}', r'backbone.layers.\1.ln1.\2'),
    Rule(_LAYER + rf'layernorm_after\.{_WB}', r'backbone.layers.\1.ln2.\2'),
    Rule(rf'dpt\.layernorm\.{_WB}', None, _FINAL_NORM),
)
_REASSEMBLE = r'neck\.reassemble_stage\.'
_FUSION = r'neck\.fusion_stage\.layers\.(\d)\.'
_UNIT = r'neck.fusion_blocks.\1.res_conv_unit\2.conv\3.'
_NECK = (
    Rule(
        _REASSEMBLE + rf'readout_projects\.(\d)\.0\.{_WB}', r'neck.reassemble_blocks.readout_projects.\1.0.\2'
    ),
    Rule(_REASSEMBLE + rf'layers\.(\d)\.projection\.{_WB}', r'neck.reassemble_blocks.projects.\1.conv.\2'),
    Rule(_REASSEMBLE + rf'layers\.(\d)\.resize\.{_WB}', r'neck.reassemble_blocks.resize_layers.\1.\2'),
    Rule(r'neck\.convs\.(\d)\.weight', r'neck.convs.\1.conv.weight'),
    Rule(r'neck\.fusion_stage\.layers\.0\.residual_layer1\..+', None, _NO_LATERAL),
    Rule(_FUSION + rf'projection\.{_WB}', r'neck.fusion_blocks.\1.project.conv.\2'),
    Rule(_FUSION + r'residual_layer([12])\.convolution([12])\.weight', _UNIT + 'conv.weight'),
    Rule(_FUSION + rf'residual_layer([12])\.batch_norm([12])\.{_BN}', _UNIT + r'bn.\4'),
)
_HEADS = tuple(
    rule
    for theirs, ours in ((r'head\.head', 'decode_head'), (r'auxiliary_head\.head', 'auxiliary_heads.0'))
    for rule in (
        Rule(rf'{theirs}\.0\.weight', f'{ours}.project.conv.weight'),
        Rule(rf'{theirs}\.1\.{_BN}', rf'{ours}.project.bn.\1'),
        Rule(rf'{theirs}\.4\.{_WB}', rf'{ours}.conv_seg.\1'),
    )
)
RULES = (*_STEM, *_VIT, *_NECK, *_HEADS)


def reference(config: str, readout: str) -> Any:
    """Transformers' model in float64, every parameter and statistic drawn at random."""
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
    return randomised(model.double()).eval()


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if name.endswith('running_var'):
            tensor.copy_(torch.exp(0.2 * noise))
        elif tensor.ndim == 1:
            tensor.copy_(0.2 * noise + name.endswith('weight'))
        elif 'position_embeddings' in name or 'cls_token' in name:
            tensor.copy_(noise)
        elif '.bit.' in name:
            # Standardised filters lose their scale, but for the epsilon. The original adds its own to the
            # standard deviation, transformers another to the variance: beside such filters both vanish.
            tensor.copy_(1e6 * noise)
        else:
            tensor.copy_(noise / noise[0].numel() ** 0.5)
    return model


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


def load(ours: nn.Module, theirs: nn.Module) -> None:
    """Give our model the reference's weights; no key of either may be left."""
    converted, report = convert(theirs.state_dict(), RULES)
    assert report.unmapped == ()
    unused = r'dpt\.layernorm\..+|neck\.fusion_stage\.layers\.0\.residual_layer1\..+'
    assert set(report.dropped) == {key for key in theirs.state_dict() if re.fullmatch(unused, key)}
    ours.load_state_dict(converted, strict=True)


def their_logits(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and those of the auxiliary head on the penultimate fusion map.

    Transformers itself hands the auxiliary head the last map, and only its loss sees what comes out.
    """
    height, width = images.shape[-2:]
    # A hybrid refuses any size but this, though it resizes its position embedding for others.
    model.dpt.embeddings.image_size = (height, width)

    def tell_grid(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, dict(kwargs, patch_height=height // PATCH, patch_width=width // PATCH)

    maps: list[Tensor] = []
    hooks = [model.neck.register_forward_hook(lambda module, args, output: maps.extend(output))]
    if height != width:  # its neck takes the grid, but is not told and assumes a square
        hooks.append(model.neck.register_forward_pre_hook(tell_grid, with_kwargs=True))
    logits = model(images).logits
    for hook in hooks:
        hook.remove()
    return logits, model.auxiliary_head(maps[-2])


@pytest.mark.parametrize(('config', 'readout'), MODELS_AND_READOUTS)
@torch.no_grad()
def test_logits_equal_transformers(repository: Path, config: str, readout: str) -> None:
    theirs, ours = reference(config, readout), our_model(repository, config, readout)
    load(ours, theirs)
    generator = torch.Generator().manual_seed(1)
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
        logits, auxiliary_logits = their_logits(theirs, images)
        maps = ours.extract_feat(images)
        assert_close(ours(images), logits)
        assert_close(ours.auxiliary_heads[0](maps), auxiliary_logits)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()
