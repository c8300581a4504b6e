"""Runs workloads and reports what they cost: as data, as a table."""

from dataclasses import dataclass

import torch

from dpt.extras.profiling.device import data_sheet_tflops, device_name, matrix_rate
from dpt.extras.profiling.flops import REST
from dpt.extras.profiling.timing import PartTimer, time_parts, time_step
from dpt.extras.profiling.workloads import Workload


@dataclass(frozen=True)
class Limits:
    """What the device can do in a type.

    Attributes:
        device: The device.
        dtype: Type of the matrix products.
        matrix_tflops: Measured rate of large products in TFLOP/s.
        data_sheet_tflops: Rate of the data sheet, or ``None``.
    """

    device: torch.device
    dtype: torch.dtype
    matrix_tflops: float
    data_sheet_tflops: float | None

    @classmethod
    def measure(cls, device: torch.device, dtype: torch.dtype) -> 'Limits':
        """Measure them."""
        return cls(device, dtype, matrix_rate(device, dtype) / 1e12, data_sheet_tflops(device, dtype))

    def as_dict(self) -> dict:
        """Return them for a JSON file."""
        return dict(
            device=device_name(self.device),
            dtype=str(self.dtype).removeprefix('torch.'),
            matrix_tflops=self.matrix_tflops,
            data_sheet_tflops=self.data_sheet_tflops,
        )


def run(workload: Workload, limits: Limits, *, warmup: int, iters: int, compiled: bool = False) -> dict:
    """Time a workload, then the shares of its parts in steps of their own.

    Args:
        workload: What to time.
        limits: Of the device it runs on.
        warmup: Steps before the clock starts.
        iters: Steps that are timed.
        compiled: Whether the losses of a training are compiled, as ``compile=True`` in a config does it; the
            shares are of the model as it is.
    """
    if compiled and workload.trained is not None:
        workload.trained.compile_losses()
    timing = time_step(workload.step, limits.device, warmup=warmup, iters=iters)
    if compiled and workload.trained is not None:
        del workload.trained._losses  # back to the method of its class
    rate = workload.images / timing.seconds
    result = dict(
        name=workload.name,
        images_per_step=workload.images,
        images_per_s=rate,
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
        time_parts(step, timer, iters=1)
        seconds = time_parts(step, timer, iters=iters)
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
    """Lay results out as a table."""
    facts = limits.as_dict()
    sheet = f', {limits.data_sheet_tflops:g} on its data sheet' if limits.data_sheet_tflops else ''
    lines = [f'{facts["device"]}: {limits.matrix_tflops:.3g} TFLOP/s in {facts["dtype"]} matrices{sheet}']
    for result in results:
        latency = result['latency_ms']
        line = (
            f'\n{result["name"]}: {result["images_per_s"]:.4g} images/s, latency {latency["median"]:.4g} ms '
            f'(90 %: {latency["p90"]:.4g}), {result["added_mib"]:.0f} MiB added'
        )
        if 'tflops' in result:
            line += (
                f'\n  {result["gflop_per_image"]:.4g} GFLOP an image, {result["tflops"]:.3g} TFLOP/s: '
                f'{result["of_matrix_rate"]:.0%} of the measured matrix rate, MFU {result["mfu"]:.0%}'
            )
        lines.append(line)
        for part in result['parts'] if len(result['parts']) > 1 else []:
            rate = f'{part["of_matrix_rate"]:>7.0%} of the matrix rate' if 'gflop' in part else ''
            gflop = f'{part["gflop"]:.3g} GFLOP' if 'gflop' in part else ''
            lines.append(
                f'  {part["name"]:<24}{part["ms"]:>10.2f} ms{part["share"]:>7.1%}{gflop:>15}{rate}'.rstrip()
            )
    return '\n'.join(lines)
