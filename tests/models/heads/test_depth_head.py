"""DepthHead and the options of DPTNeck for depth, against transformers and short formulas."""

import re

import pytest
import torch
from torch import nn

from dpt.models.heads import DepthHead
from dpt.models.necks import DPTNeck

transformers = pytest.importorskip('transformers')

CHANNELS, LEVELS = 16, (8, 12, 16, 20)
RENAMED = {
    r'reassemble_stage\.layers\.(\d)\.projection': r'reassemble_blocks.projects.\1.conv',
    r'reassemble_stage\.layers\.(\d)\.resize': r'reassemble_blocks.resize_layers.\1',
    r'convs\.(\d)': r'convs.\1.conv',
    r'fusion_stage\.layers\.(\d)\.projection': r'fusion_blocks.\1.project.conv',
    r'fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)': (
        r'fusion_blocks.\1.res_conv_unit\2.conv\3.conv'
    ),
    'conv3': 'conv_depth',
    'projection': 'project.conv',
    r'head\.0': 'conv1',
    r'head\.2': 'conv2',
    r'head\.4': 'conv_depth',
}


def load(ours: nn.Module, theirs: nn.Module) -> None:
    """Load the weights of transformers; the coarsest block has a residual unit without a use."""
    torch.manual_seed(0)
    weights = {}
    for key, value in theirs.state_dict().items():
        for pattern, name in RENAMED.items():
            key = re.sub(rf'^{pattern}(?=\.(weight|bias)$)', name, key)
        weights[key] = torch.randn_like(value) * 0.2
        value.copy_(weights[key])
    unused = [key for key in weights if key.startswith('fusion_blocks.0.res_conv_unit1.')]
    ours.load_state_dict({key: value for key, value in weights.items() if key not in unused})


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() < 1e-5 * theirs.abs().max())


@pytest.mark.parametrize('grid', [(4, 4), (5, 7), (3, 8)])
@pytest.mark.parametrize('kind', ['relative', 'metric'])
@torch.no_grad()
def test_neck_and_head_equal_depth_anything(grid: tuple[int, int], kind: str) -> None:
    from transformers.models.depth_anything import modeling_depth_anything as theirs

    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(),
        reassemble_hidden_size=24,
        neck_hidden_sizes=LEVELS,
        fusion_hidden_size=CHANNELS,
        depth_estimation_type=kind,
        max_depth=80 if kind == 'metric' else 1,
    )
    their_neck, their_head = theirs.DepthAnythingNeck(config), theirs.DepthAnythingDepthEstimationHead(config)
    neck = DPTNeck(
        24,
        CHANNELS,
        post_process_channels=LEVELS,
        readout_type='ignore',
        norm=None,
        residual_bias=True,
        odd_grids='lateral',
    )
    output = dict(output='relu', relative=True) if kind == 'relative' else dict(max_depth=80.0)
    head = DepthHead(CHANNELS, upsample_factor=1.75, **output)
    load(neck, their_neck)
    load(head, their_head)
    for module in (neck, head, their_neck, their_head):
        module.double()  # the sigmoid of random weights saturates
    taps = [torch.randn(2, 24, *grid, dtype=torch.float64) for _ in range(4)]
    tokens = [
        torch.cat([taps[0].new_zeros(2, 1, 24), tap.flatten(2).transpose(1, 2)], dim=1) / 4 for tap in taps
    ]
    expected = their_neck(tokens, *grid)
    maps = neck([tap / 4 for tap in taps])
    assert all(close(*both) for both in zip(maps, expected[::-1], strict=True))
    assert close(head(maps), their_head(expected, *grid)[:, None])


@torch.no_grad()
def test_head_with_projection_equals_dpt() -> None:
    from transformers.models.dpt.modeling_dpt import DPTDepthEstimationHead

    config = transformers.DPTConfig(add_projection=True, fusion_hidden_size=256)
    theirs = DPTDepthEstimationHead(config)
    head = DepthHead(256, 'relu', project=True)
    load(head, theirs)
    x = torch.randn(1, 256, 6, 9) / 16
    assert close(head([x]), theirs([x])[:, None])


def logits_and_depth(**arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head = DepthHead(8, **arguments).eval()
    logits = []
    head.conv_depth.register_forward_hook(
        lambda module, inputs, output: logits.append(3 * output) or logits[0]
    )
    with torch.no_grad():
        depth = head([torch.randn(2, 8, 4, 6)])
    assert depth.shape == (2, 1, 8, 12)
    return logits[0].double(), depth.double()


def mean_of_bins(weights: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    return (weights * bins.double()[:, None, None]).sum(1, keepdim=True) / weights.sum(1, keepdim=True)


BINS = dict(min_depth=0.1, max_depth=100.0, num_bins=16)
EVEN = torch.linspace(0.1, 100, 16)
IN_LOG = torch.logspace(-1, 2, 16)


@pytest.mark.parametrize(
    ('arguments', 'formula'),
    [
        (dict(output='relu', min_depth=1e-3), lambda x: x.clamp(min=0) + 1e-3),
        (dict(output='sigmoid', max_depth=20.0), lambda x: 20 * x.sigmoid()),
        (dict(output='sigmoid', min_depth=1.0, max_depth=20.0), lambda x: 1 + 19 * x.sigmoid()),
        (dict(output='exp'), torch.exp),
        (dict(output='softplus', min_depth=0.1), lambda x: 0.1 + (1 + x.exp()).log()),
        (dict(output='reciprocal', scale=0.5, shift=0.2), lambda x: 1 / (0.5 * x.clamp(min=0) + 0.2)),
        (dict(BINS, output='linear_bins'), lambda x: mean_of_bins(x.relu() + 0.1, EVEN)),
        (dict(BINS, output='log_bins', bin_norm='softmax'), lambda x: mean_of_bins(x.softmax(1), IN_LOG)),
        (dict(BINS, output='log_bins', bin_norm='sigmoid'), lambda x: mean_of_bins(x.sigmoid(), IN_LOG)),
    ],
)
def test_outputs_follow_their_formulas(arguments: dict, formula) -> None:
    logits, depth = logits_and_depth(**arguments)
    torch.testing.assert_close(depth, formula(logits), rtol=1e-5, atol=1e-7)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits, depth = logits_and_depth(**arguments)
    torch.testing.assert_close(depth, formula(logits), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(output='tanh'), "output='tanh' must be one of"),
        ({}, "output='sigmoid' needs max_depth"),
        (dict(min_depth=3.0, max_depth=2.0), 'min_depth=3.0 and max_depth=2.0'),
        (dict(output='log_bins', max_depth=10.0), "'log_bins' needs min_depth above 0"),
        (dict(output='linear_bins', max_depth=10.0, bin_norm='max'), "bin_norm='max' must be"),
        (dict(max_depth=10.0, relative=True), "use output='relu' with relative=True"),
        (dict(max_depth=10.0, upsample_factor=0.5), 'upsample_factor=0.5 must be 1'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthHead(8, **arguments)


@pytest.mark.parametrize('output', ['relu', 'reciprocal'])
def test_new_heads_start_with_gradients(output: str) -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        head = DepthHead(8, output, shift=0.1)
        head.init_weights()
        head([torch.randn(2, 8, 4, 6)]).sum().backward()
        assert head.conv1.weight.grad is not None
        assert head.conv1.weight.grad.any()
