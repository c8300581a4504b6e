"""Weights of published models: the file of the original model, recognised and loaded, gives its output."""

import contextlib
import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from depth_chain import originals, transformers_models
from depth_chain.originals import Forward
from depth_chain.table import REFERENCES, Row, not_run
from dpt.checkpoints import convert, load_backbone, load_model
from dpt.checkpoints.formats import published as sources
from dpt.checkpoints.published import recognise_published
from dpt.config.load import load_config
from dpt.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LIMIT = 1e-5
"""Of the largest output."""

Size = tuple[int, int]
SMALL = dict(features=64, out_channels=[48, 96, 192, 384])  # the ViT-S of Depth Anything


@dataclass(frozen=True)
class Case:
    """A published model and the sizes of the images.

    Args:
        name: Name of the row.
        build: Returns the original model, and its forward pass to the output of our head.
        file: Name of the file of its weights, which tells the variant.
        sizes: (height, width) of the images: square, on an odd patch grid, not square.
        reference: Name of the clone; ``''`` for transformers.
        head: Whether the file has the neck and head alone; the encoder comes in a second file.
        gain: Factor of the weights of the last convolution.
        dtype: Precision of both models. The reciprocal of small numbers magnifies rounding.
        note: Printed below the row.
    """

    name: str
    build: Callable[[], tuple[nn.Module, Forward]]
    file: str
    sizes: tuple[Size, ...]
    reference: str = ''
    head: str = ''
    gain: float = 1.0
    dtype: torch.dtype = torch.float32
    note: str = ''


PATCH_14 = ((112, 112), (70, 70), (56, 98))
PATCH_16 = ((128, 128), (64, 160))  # the original DPT needs multiples of 32


def _dinov3() -> tuple[nn.Module, Forward]:
    return originals.dinov3_depther(
        backbone_out_layers=[2, 5, 8, 11],
        n_output_channels=256,
        use_backbone_norm=True,
        use_batchnorm=True,
        max_depth=100.0,
        channels=64,
        post_process_channels=[96] * 4,
    )


CASES = (
    Case(
        'original DPT, ViT-B/16, MiDaS',
        lambda: originals.isl_depth('vitb16_384'),
        'dpt_large_384.pt',
        PATCH_16,
        'dpt',
        note='DPT-Large differs in its sizes only',
    ),
    Case(
        'original DPT-Hybrid, MiDaS',
        lambda: originals.isl_depth('vitb_rn50_384'),
        'dpt_hybrid_384.pt',
        PATCH_16,
        'dpt',
    ),
    *(
        Case(
            f'original DPT-Hybrid, {name}',
            lambda scale=scale, shift=shift: originals.isl_depth(
                'vitb_rn50_384', scale=scale, shift=shift, invert=True
            ),
            f'dpt_hybrid_{name}.pt',
            ((64, 96),),
            'dpt',
            gain=2000.0,
            dtype=torch.float64,
            note='in float64: the reciprocal of small numbers magnifies rounding',
        )
        for name, scale, shift in (('nyu', 0.000305, 0.1378), ('kitti', 0.00006016, 0.00579))
    ),
    Case(
        'original DPT-Hybrid, segmentation',
        lambda: originals.isl_segmentation('vitb_rn50_384', 7),
        'dpt_hybrid-ade20k.pt',
        ((64, 96),),
        'dpt',
    ),
    Case(
        'Depth Anything V1, ViT-S',
        lambda: originals.depth_anything_v1(encoder='vits', **SMALL),
        'depth_anything_vits14.pth',
        PATCH_14,
        'depth-anything',
    ),
    Case(
        'Depth Anything V2, ViT-S',
        lambda: originals.depth_anything_v2(encoder='vits', **SMALL),
        'depth_anything_v2_vits.pth',
        (*PATCH_14, (518, 518)),
        'depth-anything-v2',
    ),
    *(
        Case(
            f'Depth Anything V2, ViT-S, metric, {name}',
            lambda max_depth=max_depth: originals.depth_anything_v2(
                'metric_depth', encoder='vits', max_depth=max_depth, **SMALL
            ),
            f'depth_anything_v2_metric_{name}_vits.pth',
            PATCH_14[1:],
            'depth-anything-v2',
        )
        for name, max_depth in (('hypersim', 20.0), ('vkitti', 80.0))
    ),
    Case(
        'UniMatch V2, ViT-S, segmentation',
        lambda: originals.unimatch_v2(encoder_size='small', nclass=7, **SMALL),
        'best.pth',
        PATCH_14,
        'unimatch-v2',
    ),
    Case(
        'DINOv2 depth head, ViT-S/14',
        lambda: originals.dinov2_depther('vit_small'),
        'dinov2_vits14_nyu_dpt_head.pth',
        PATCH_14,
        'dinov2',
        head='decode_head',
        note='without the clamp to the range, which belongs to the evaluation',
    ),
    Case(
        'DINOv3 depth head, ViT-S/16',
        _dinov3,
        'dinov3_vits16_synthmix_dpt_head.pth',
        PATCH_16,
        'dinov3',
        head='decoder',
        note='published for ViT-7B',
    ),
    *(
        Case(f'transformers {name}', build, 'model.safetensors', sizes, note=note)
        for name, build, sizes, note in transformers_models.CASES
    ),
)


def saved(model: nn.Module, folder: Path, case: Case) -> tuple[Path, Path | None]:
    """Save the weights as published; return the files of the model, and of its encoder if separate."""
    if not case.reference:
        with contextlib.redirect_stderr(io.StringIO()):
            model.save_pretrained(folder)
        return folder / case.file, None
    tensors = model.state_dict()
    if not case.head:
        torch.save(tensors, folder / case.file)
        return folder / case.file, None
    encoder = 'encoder.backbone.' if case.head == 'decoder' else 'backbone.'
    prefix = 'decoder.' if case.head == 'decoder' else ''
    head = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(f'{case.head}.')}
    parts = {k.removeprefix(encoder): v for k, v in tensors.items() if k.startswith(encoder)}
    torch.save(head, folder / case.file)
    torch.save(parts, folder / 'encoder.pth')
    return folder / case.file, folder / 'encoder.pth'


@torch.no_grad()
def rows_of(case: Case) -> list[Row]:
    """Compare one model at all its sizes."""
    if case.reference and case.reference not in REFERENCES:
        return [not_run(case.name, LIMIT, case.reference)]
    model, forward = case.build()
    originals.randomise(model)
    last = [one for one in model.modules() if isinstance(one, nn.Conv2d)][-1]
    last.weight.mul_(case.gain)
    if last.out_channels == 1:
        last.bias.fill_(case.gain)  # so that ReLU does not return zeros alone
    with tempfile.TemporaryDirectory(prefix='weights-') as folder:
        file, encoder = saved(model, Path(folder), case)
        config: dict[str, Any] = recognise_published(file).model
        if encoder is not None:
            config['backbone']['init_cfg']['checkpoint'] = str(encoder)
        ours = MODELS.build(config).eval()
        report = load_model(ours, file)
        alone = MODELS.build({**config['backbone'], 'init_cfg': None}).eval()
        load_backbone(alone, encoder or file)
    for one in (model, ours, alone):
        one.to(case.dtype)
    rows, image = [], torch.empty(0)
    for height, width in case.sizes:
        image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1)).to(case.dtype)
        rows.append(Row(f'{case.name}, {height}x{width}', difference(forward(image), ours(image)), LIMIT))
    taps = zip(_maps(ours.backbone(image)), _maps(alone(image)), strict=True)
    worst = max(float((one - other).abs().max()) for one, other in taps)
    count = f'{len(report.mapped)} tensors loaded, {len(report.dropped)} dropped by the table'
    return [
        *rows,
        Row(f'{case.name}, encoder alone', worst, 0.0, '; '.join(filter(None, [count, case.note]))),
    ]


def difference(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference over the largest output; NaN if the shapes differ or all is 0."""
    if theirs.shape != ours.shape or not theirs.any():
        return float('nan')
    return float((theirs - ours).abs().max() / theirs.abs().max())


def _maps(taps: Sequence) -> list[Tensor]:
    return [tap if isinstance(tap, Tensor) else tap[0] for tap in taps]


LARGE = dict(features=256, out_channels=[256, 512, 1024, 1024])
BASE = dict(features=128, out_channels=[96, 192, 384, 768])
SIZES = {'s': SMALL, 'b': BASE, 'l': LARGE}
FULL_SIZES: tuple[tuple[str, str, sources.Source, Callable[[], tuple[nn.Module, Forward]]], ...] = (
    ('dpt_large_midas', 'dpt', sources.ISL_DEPTH, lambda: originals.isl_depth('vitl16_384')),
    ('dpt_hybrid_midas', 'dpt', sources.ISL_DEPTH, lambda: originals.isl_depth('vitb_rn50_384')),
    *(
        (
            f'depth_anything_{version}_{size}',
            f'depth-anything{"-v2" if version == "v2" else ""}',
            sources.DEPTH_ANYTHING,
            lambda build=build, size=size, options=options: build(encoder=f'vit{size}', **options),
        )
        for version, build in (('v1', originals.depth_anything_v1), ('v2', originals.depth_anything_v2))
        for size, options in SIZES.items()
    ),
)
"""Config, name of the clone, source, and original model of the published sizes."""


def full_size_rows() -> list[Row]:
    """Count the tensors of the published sizes that do not fit our model, without computing anything."""
    rows = []
    for name, reference, source, build in FULL_SIZES:
        title = f'{name}, tensors that do not fit'
        if reference not in REFERENCES:
            rows.append(not_run(title, 0, reference))
            continue
        linspace = functools.partial(torch.linspace, device='cpu')  # DINOv2 reads its values
        with torch.device('meta'), mock.patch.object(torch, 'linspace', linspace):
            theirs = build()[0].state_dict()
            ours = MODELS.build(load_config(str(CONFIGS / f'{name}.py')).model).state_dict()
        converted, report = convert(theirs, source.model(source.encoder))
        found, expected = ({key: value.shape for key, value in one.items()} for one in (converted, ours))
        wrong = {key for key, _ in found.items() ^ expected.items()} | {*report.unmapped}
        note = f'{len(expected)} tensors, {len(report.dropped)} of {len(theirs)} dropped by the table'
        rows.append(Row(title, len(wrong), 0, note))
    return rows


def rows() -> list[Row]:
    """Return the rows of all models."""
    return [*full_size_rows(), *(row for case in CASES for row in rows_of(case))]
