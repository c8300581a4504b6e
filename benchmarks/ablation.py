"""What each change against the reference's way gains and costs, alone, on the CPU with the full-size model.

One change at a time is taken back, by a patch in this file, and a step is measured with and without it,
alternating, on one thread: the process's CPU time (medians) and the peak of torch's allocator over what was
held before.

Example:
    python benchmarks/ablation.py --size 256 256 --json ablation.json

Takes about ten minutes of one core at 256x256 and half an hour at 512x512; ``--changes`` and ``--rounds``
make it less or more.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import Tensor, nn

from dpt.models.inference import resize_logits
from dpt.models.layers import PointwiseConv2d, after_norm_relu, keep_intermediates
from dpt.models.necks.dpt import DPTNeck, FeatureFusionBlock, upsample_by_two
from dpt.models.necks.reassemble import ReassembleBlocks
from dpt.models.segmentor import EncoderDecoder
from dpt.profiling import allocations
from dpt.profiling.workloads import build_model, inference, metric, training

CONFIG = Path(__file__).resolve().parent.parent / 'configs' / 'dpt_vit-b16_512x512_160k_ade20k.py'
MIB = 1 << 20


def attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Hold the weights of all pairs of tokens, as the reference's attention does."""
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
    return F.dropout(weights, dropout_p) @ v


def late_projection(
    self: FeatureFusionBlock, path: Tensor, lateral: Tensor | None = None, *, upsample: bool = True
) -> Tensor:
    """Upsample first, then project four times the pixels; not the finest level, which the head upsamples."""
    if self.res_conv_unit1 is not None and lateral is not None:
        path = path + self.res_conv_unit1(lateral)
    path = self.res_conv_unit2(path)
    return self.project(upsample_by_two(path) if upsample else path)


def concatenated_readout(self: ReassembleBlocks, tap: tuple[Tensor, Tensor], level: int) -> Tensor:
    """Lay the class token beside each patch token and multiply it as often."""
    feature_map, cls_token = tap
    tokens = feature_map.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens, cls_token[:, None].expand_as(tokens)], dim=-1)
    tokens = self.readout_projects[level](tokens)
    return self.projects[level](tokens.transpose(1, 2).unflatten(2, feature_map.shape[-2:]))


def whole_loss(
    logits: Tensor, label: Tensor, *, weight: Tensor | None = None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Resize all logits to the label's size, then take loss and accuracy as the reference does."""
    logits = resize_logits(logits, (label.shape[-2], label.shape[-1]))
    loss = F.cross_entropy(logits, label, weight, ignore_index=ignore_index, reduction='none').sum()
    best = logits.topk(1, dim=1).indices[:, 0]
    return loss, ((best == label) & (label != ignore_index)).sum()


def whole_predict(self: EncoderDecoder, inputs: Tensor, data_samples: list) -> list:
    """Hold all logits at the size of the input, then at that of the image."""
    logits = resize_logits(self._logits(inputs), (inputs.shape[-2], inputs.shape[-1]))
    for one, sample in zip(logits.split(1), data_samples, strict=True):
        height, width = sample.img_shape
        restored = resize_logits(one[..., :height, :width], sample.ori_shape[:2])
        sample.pred_sem_seg = PixelData(data=restored[0].argmax(dim=0, keepdim=True))
    return data_samples


def three_histograms(predicted: Tensor, truth: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Count areas of intersection, prediction and truth by ``torch.histc`` of floats."""
    labelled = truth != ignore_index
    predicted, truth = predicted[labelled], truth[labelled]
    areas = torch.zeros(classes, classes)  # ours is a matrix: three of its rows will do
    for i, x in enumerate((predicted[predicted == truth], predicted, truth)):
        areas[i] = torch.histc(x.float(), classes, 0, classes - 1)
    return areas


def whole_upsampled_conv(coarse: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Hold the upsampled map for the backward pass of the convolution after it."""
    return F.conv2d(upsample_by_two(coarse), weight, bias, padding=1)


def norm_relu(
    consumer: Callable[[Tensor], Tensor], x: Tensor, norm: nn.Module | None, gain: Tensor | None = None
) -> Tensor:
    """Keep what norm and ReLU make for the backward pass."""
    y = x if norm is None else norm(x)
    return consumer(F.relu(y if gain is None else y * gain))


def whole_finest(self: DPTNeck, coarse: Tensor, taps: list, release: bool) -> Tensor:
    """Hold all maps of the finest fusion block whole."""
    path = upsample_by_two(coarse)
    return self.fusion_blocks[3](path, self._lateral(taps, 0, path, release), upsample=False)


_contiguous = Tensor.contiguous


def keep_order(x: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Ignore that channels are wanted last."""
    return x if memory_format is torch.channels_last else _contiguous(x, memory_format=memory_format)


@dataclass(frozen=True)
class Change:
    """A change of ours: its name, the steps it concerns, how it is taken back, and what it costs."""

    name: str
    steps: tuple[str, ...]
    without: Callable[[], AbstractContextManager]
    price: str


CHANGES = {
    'attention': Change(
        'fused attention',
        ('train', 'infer'),
        lambda: patch('torch.nn.functional.scaled_dot_product_attention', attention),
        'none: equal up to rounding',
    ),
    'projection': Change(
        '1x1 projection before the upsampling',
        ('train', 'infer'),
        lambda: patch.object(FeatureFusionBlock, 'forward', late_projection),
        'none: equal up to rounding',
    ),
    'readout': Change(
        'class token multiplied once, not at each patch',
        ('train', 'infer'),
        lambda: patch.object(ReassembleBlocks, '_project', concatenated_readout),
        'none: equal up to rounding',
    ),
    'linear': Change(
        'linear layers and 1x1 convolutions by oneDNN',
        ('train', 'infer'),
        lambda: patch('dpt.models.layers.linear._onednn_is_faster', lambda: False),
        'float32 on a CPU with AVX-512 alone',
    ),
    'pointwise': Change(
        '1x1 convolutions by oneDNN',
        ('train', 'infer'),
        lambda: patch.object(PointwiseConv2d, 'forward', nn.Conv2d.forward),
        'float32 on a CPU with AVX-512 alone',
    ),
    'recompute': Change(
        'norms, GELU, dropout, upsampling recomputed',
        ('train',),
        keep_intermediates,
        'they are computed twice',
    ),
    'feed-forward': Change(
        'hidden units of the feed-forward parts recomputed',
        ('train',),
        lambda: patch('dpt.models.backbones.transformer_layer.checkpointed', lambda part, x: part(x)),
        'they are computed twice, on a CPU',
    ),
    'norm-relu': Change(
        'norm and ReLU of the residual units recomputed',
        ('train',),
        lambda: patch('dpt.models.necks.dpt.after_norm_relu', norm_relu),
        'they are computed twice, on a CPU',
    ),
    'upsampled-conv': Change(
        "the head's 3x3 convolution upsamples by rows",
        ('train',),
        lambda: patch('dpt.models.heads.fcn.upsampled_conv', whole_upsampled_conv),
        'the upsampling is computed twice, rows at the edges of bands once more',
    ),
    'classifier': Change(
        'norm, ReLU, dropout and classifier by channels',
        ('train',),
        lambda: patch(
            'dpt.models.heads.fcn.classified',
            lambda x, norm, conv, gain: after_norm_relu(conv, x, norm, gain),
        ),
        'code: an operator with a gradient of its own',
    ),
    'loss': Change(
        'loss and accuracy in bands',
        ('train',),
        lambda: patch('dpt.models.losses.cross_entropy.resized_cross_entropy', whole_loss),
        'code: an operator with a gradient of its own',
    ),
    'bands': Change(
        'prediction in bands of rows',
        ('infer',),
        lambda: patch.object(EncoderDecoder, 'predict', whole_predict),
        'the rows at the edges of bands are computed twice',
    ),
    'finest-bands': Change(
        'finest fusion block in bands',
        ('infer',),
        lambda: patch.object(DPTNeck, '_finest_by_rows', whole_finest),
        'the rows at the edges of bands are computed twice',
    ),
    'taps': Change(
        'taps let go of as they are reassembled',
        ('infer',),
        lambda: patch.object(
            DPTNeck, '_reassembled', lambda self, taps, level, _: self.reassemble_blocks(taps, (level,))
        ),
        'none: equal bit by bit',
    ),
    'tokens': Change(
        'sums of tokens in place, feed-forward parts of some tokens at a time',
        ('infer',),
        lambda: patch('dpt.models.backbones.transformer_layer.predicts_on_cpu', lambda _: False),
        'none: equal up to rounding',
    ),
    'norm-in-place': Change(
        'batch norm in place',
        ('infer',),
        lambda: patch('dpt.models.layers.conv.predicts_on_cpu', lambda _: False),
        'none: equal up to rounding',
    ),
    'channels-last': Change(
        'bands with channels last',
        ('infer',),
        lambda: patch.object(Tensor, 'contiguous', keep_order),
        'a copy of the coarse map',
    ),
    'metric': Change(
        'metric by one histogram of integers',
        ('metric',),
        lambda: patch('dpt.evaluation.iou.confusion_matrix', three_histograms),
        'a matrix of classes x classes instead of three rows',
    ),
}


def seconds_of(step: Callable[[], object]) -> float:
    """Return the CPU seconds of the median of enough steps for a hundredth of a second."""
    times: list[float] = []
    while sum(times) < 0.01:
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return statistics.median(times)


def compare(step: Callable[[], object], change: Change, rounds: int) -> dict:
    """Measure a step with a change and without it."""
    sides: tuple[tuple[str, Callable], ...] = (('with', nullcontext), ('without', change.without))
    result: dict = {}
    for side, context in sides:
        with context():
            result[side] = dict(peak_mib=allocations(step).peak / MIB, seconds=[])
    for _ in range(rounds):
        for side, context in sides:
            with context():
                result[side]['seconds'].append(seconds_of(step))
    for side, _ in sides:
        result[side]['median_s'] = statistics.median(result[side]['seconds'])
    return result


def table(rows: list[dict]) -> str:
    """Lay the rows out in Markdown."""
    lines = ['| change | step | s with | s without | time saved | MiB with | MiB without | price |']
    lines.append('|---|---|---|---|---|---|---|---|')
    for row in rows:
        one, other = row['with'], row['without']
        saved = 1 - one['median_s'] / other['median_s']
        lines.append(
            f'| {row["change"]} | {row["step"]} | {one["median_s"]:.3g} | {other["median_s"]:.3g} '
            f'| {saved:.0%} | {one["peak_mib"]:.3g} | {other["peak_mib"]:.3g} | {row["price"]} |'
        )
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--changes', default=','.join(CHANGES), help='comma-separated names')
    parser.add_argument('--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    parser.add_argument('--rounds', type=int, default=2, help='measurements of each side (default: 2)')
    parser.add_argument('--json', metavar='FILE', help='write all measurements there')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = args.changes.split(',')
    if set(names) - set(CHANGES):
        raise SystemExit(f'--changes {args.changes}: there are {", ".join(CHANGES)}')
    torch.set_num_threads(1)
    init_default_scope('dpt')
    config, size = Config.fromfile(CONFIG), tuple(args.size)
    config.model.data_preprocessor.size = size
    model = build_model(config, torch.device('cpu'))
    steps = dict(
        train=training(config, model, size, 1).step,
        infer=inference(config, model, size, 1, None).step,
        metric=metric(config, size, torch.device('cpu')).step,
    )
    rows = []
    steps['train']()  # makes the optimiser's state
    for change in (CHANGES[name] for name in names):
        for step in change.steps:
            print(f'{change.name}: {step}', file=sys.stderr, flush=True)
            result = compare(steps[step], change, args.rounds)
            rows.append(dict(change=change.name, step=step, price=change.price, **result))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()
