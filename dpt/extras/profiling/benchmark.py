"""Run workloads and report their cost as data, as a table and as a figure."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dpt.engine.hooks import device_name
from dpt.extras.profiling.costs import REST
from dpt.extras.profiling.timing import PartTimer, data_sheet_tflops, matrix_rate, time_step
from dpt.extras.profiling.workloads import Workload

SMALLEST_LABEL = 0.035
"""Minimum share of a bar that is labelled; the label would not fit a smaller share."""


@dataclass(frozen=True)
class Limits:
    """Matrix multiplication rates of a device.

    Attributes:
        device: The device.
        dtype: Data type of the matrices.
        matrix_tflops: Measured rate of large matrix products in TFLOP/s.
        data_sheet_tflops: Rate according to the data sheet, or ``None``.
    """

    device: torch.device
    dtype: torch.dtype
    matrix_tflops: float
    data_sheet_tflops: float | None

    @classmethod
    def measure(cls, device: torch.device, dtype: torch.dtype) -> 'Limits':
        """Measure the rate of a device."""
        return cls(device, dtype, matrix_rate(device, dtype) / 1e12, data_sheet_tflops(device, dtype))

    def as_dict(self) -> dict:
        """Return the limits as plain values for JSON."""
        return dict(
            device=device_name(self.device),
            dtype=str(self.dtype).removeprefix('torch.'),
            matrix_tflops=self.matrix_tflops,
            data_sheet_tflops=self.data_sheet_tflops,
        )


def run(workload: Workload, limits: Limits, *, warmup: int, iters: int, compiled: bool = False) -> dict:
    """Time a workload, then its parts in separate steps.

    Args:
        workload: Workload to time.
        limits: Limits of its device.
        warmup: Number of untimed steps at the start.
        iters: Number of timed steps.
        compiled: Whether to compile the losses of a training, as with ``compile=True`` in a config. Affects
            only the total time, not the shares of the parts.
    """
    if compiled and workload.trained is not None:
        workload.trained.compile_losses()
    timing = time_step(workload.step, limits.device, warmup=warmup, iters=iters)
    if compiled and workload.trained is not None:
        del workload.trained._losses  # restores the method of the class
    result = dict(
        name=workload.name,
        images_per_step=workload.images,
        images_per_s=workload.images / timing.seconds,
        latency_ms=dict(median=1e3 * timing.median, p90=1e3 * timing.p90),
        added_mib=timing.added_mib,
        iterations=iters,
    )
    if workload.flops is not None:
        tflops = workload.flops / timing.seconds / 1e12
        result.update(
            gflop_per_image=workload.flops / workload.images / 1e9,
            tflops=tflops,
            of_matrix_rate=tflops / limits.matrix_tflops,
            mfu=tflops / (limits.data_sheet_tflops or limits.matrix_tflops),
        )
    return dict(result, parts=_shares(workload, limits, iters))


def _shares(workload: Workload, limits: Limits, iters: int) -> list[dict]:
    timer = PartTimer(limits.device)
    step = workload.part_step or workload.step
    with workload.watch(timer):
        timer.time(step, iters=1)
        seconds = timer.time(step, iters=iters)
    seconds[workload.rest] = seconds.pop(REST)
    total = sum(seconds.values())
    rows = []
    for name, value in seconds.items():
        row = dict(name=name, ms=1e3 * value, share=value / total)
        flops = (workload.part_flops or {}).get(name)
        if flops:
            row.update(gflop=flops / 1e9, of_matrix_rate=flops / value / 1e12 / limits.matrix_tflops)
        rows.append(row)
    return rows


def as_text(results: list[dict], limits: Limits) -> str:
    """Format results as a table."""
    facts = limits.as_dict()
    sheet = f', {limits.data_sheet_tflops:g} according to the data sheet' if limits.data_sheet_tflops else ''
    lines = [f'{facts["device"]}: {limits.matrix_tflops:.3g} TFLOP/s in {facts["dtype"]} matrices{sheet}']
    for result in results:
        latency = result['latency_ms']
        lines.append(
            f'\n{result["name"]}: {result["images_per_s"]:.4g} images/s, latency {latency["median"]:.4g} ms '
            f'(90 %: {latency["p90"]:.4g}), {result["added_mib"]:.0f} MiB added'
        )
        if 'tflops' in result:
            lines.append(
                f'  {result["gflop_per_image"]:.4g} GFLOP per image, {result["tflops"]:.3g} TFLOP/s: '
                f'{result["of_matrix_rate"]:.0%} of the measured matrix rate, MFU {result["mfu"]:.0%}'
            )
        for part in result['parts'] if len(result['parts']) > 1 else []:
            rate = f'{part["of_matrix_rate"]:>7.0%} of the matrix rate' if 'gflop' in part else ''
            gflop = f'{part["gflop"]:.3g} GFLOP' if 'gflop' in part else ''
            lines.append(
                f'  {part["name"]:<24}{part["ms"]:>10.2f} ms{part["share"]:>7.1%}{gflop:>15}{rate}'.rstrip()
            )
    return '\n'.join(lines)


def draw_shares(results: list[dict], title: str, path: str | Path) -> None:
    """Draw one bar per result with the shares of its parts, and write the figure to a file.

    Args:
        results: Results of :func:`run`; those with only one part are skipped.
        title: Title of the figure.
        path: File to write, in any format that matplotlib supports.
    """
    # pyplot is not used because it has global state. The import takes half a second.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    results = [result for result in results if len(result['parts']) > 1]
    names = list(dict.fromkeys(part['name'] for result in results for part in result['parts']))
    figure = Figure(figsize=(11, 1.6 + 1.5 * len(results)), layout='constrained')
    figure.suptitle(title, fontsize=10)
    for i, result in enumerate(results):
        axes = figure.add_subplot(len(results), 1, i + 1)
        left = 0.0
        for part in result['parts']:
            share, ms = part['share'], part['ms']
            digits = 0 if ms >= 100 else 1 if ms >= 10 else 2
            colour = colormaps['tab20'](names.index(part['name']) % 20)
            axes.barh(0, share, left=left, color=colour, label=f'{part["name"]} {ms:.{digits}f} ms')
            if share >= SMALLEST_LABEL:
                axes.text(left + share / 2, 0, f'{share:.0%}', ha='center', va='center', fontsize=9)
            left += share
        axes.set(xlim=(0, 1), ylim=(-0.45, 0.45), yticks=[], xticks=[])
        utilisation = f', MFU {result["mfu"]:.0%}' if 'mfu' in result else ''
        headline = f'{result["name"]}: {result["images_per_s"]:.4g} images/s{utilisation}'
        axes.set_title(headline, fontsize=9, loc='left')
        axes.legend(loc='upper left', bbox_to_anchor=(0, -0.02), ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)
