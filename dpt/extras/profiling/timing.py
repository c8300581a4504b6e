"""Measure time, memory and the matrix multiplication rate of a device."""

import ctypes
import gc
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dpt.extras.profiling.costs import REST

Step = Callable[[], object]
MIB = 1 << 20
PEAK_TFLOPS = {
    'GB200': 2500.0,
    'B200': 2250.0,
    'H200': 989.0,
    'H100 PCIe': 756.0,
    'H100': 989.0,
    'A100': 312.0,
    'L40S': 362.0,
    'L40': 181.0,
    'A10': 125.0,
    'L4': 121.0,
    'V100': 125.0,
}
"""Dense 16-bit matrix rates from NVIDIA's data sheets in TFLOP/s, by words of the device name."""


def data_sheet_tflops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the 16-bit matrix rate from the data sheet, or ``None`` if it is not in ``PEAK_TFLOPS``."""
    if device.type != 'cuda' or dtype not in (torch.bfloat16, torch.float16):
        return None
    words = f' {torch.cuda.get_device_name(device).replace("-", " ")} '
    return next((rate for name, rate in PEAK_TFLOPS.items() if f' {name} ' in words), None)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> float:
    """Measure the matrix multiplication rate of a device with large square matrices.

    On a CPU, both libraries of torch are measured, MKL for matrices and oneDNN for convolutions. Which one is
    faster, by up to a factor of two, depends on the CPU vendor.

    Args:
        device: The device.
        dtype: Data type of the matrices; for float32, TF32 is used where :func:`uses_tf32`.
        repeats: Number of timed products after one warm-up; the fastest counts.

    Returns:
        Floating-point operations per second.
    """
    before = torch.get_float32_matmul_precision()
    if dtype is torch.float32 and uses_tf32(device):
        torch.set_float32_matmul_precision('high')
    try:
        return _matrix_rate(device, dtype, repeats)
    finally:
        torch.set_float32_matmul_precision(before)


def uses_tf32(device: torch.device) -> bool:
    """Whether products of float32 matrices, or convolutions as by default, run in TF32 on this device."""
    if device.type != 'cuda' or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != 'highest'


def _matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    side = 8192 if device.type == 'cuda' else 1024
    # Random values, because a GPU multiplies zeros faster. A separate generator does not affect the run.
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        products: list[Step] = [lambda: torch.mm(a, b)]
        if device.type == 'cpu':
            image = a.view(1, 32, -1, side).permute(0, 3, 1, 2)  # 32x32 pixels, channels last
            kernel = b.T.contiguous()[:, :, None, None]
            # Dilation has no effect on a 1x1 kernel, but makes torch use oneDNN even with one thread.
            products.append(lambda: F.conv2d(image, kernel, dilation=2))
        seconds = [[_seconds(product, device) for _ in range(repeats + 1)] for product in products]
    return 2 * side**3 / min(min(those[1:]) for those in seconds)


def _seconds(work: Step, device: torch.device, count: int = 1) -> float:
    """Return the total time of ``count`` calls on the device, without synchronising between calls."""
    if device.type != 'cuda':
        start = time.perf_counter()
        for _ in range(count):
            work()
        return time.perf_counter() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start_event.record()
    for _ in range(count):
        work()
    end_event.record()
    end_event.synchronize()
    return start_event.elapsed_time(end_event) / 1e3


class AddedMemory:
    """Measure the added peak memory: of torch's allocator on a GPU, of the process on a CPU.

    Example:
        >>> memory = AddedMemory(torch.device('cpu'))
        >>> model(images)
        >>> memory.mib()
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.base = torch.cuda.memory_allocated(device) / MIB
            return
        # Return freed memory to the system (glibc only); otherwise new tensors would reuse it unnoticed.
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)
        if os.access('/proc/self/clear_refs', os.W_OK):
            Path('/proc/self/clear_refs').write_text('5')  # reset the peak that Linux reports
        self.base = _resident_mib('VmRSS')

    def mib(self) -> float:
        """Return the peak since the start, relative to the memory at the start, in MiB."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / MIB - self.base
        return max(_resident_mib('VmHWM') - self.base, 0.0)


def _resident_mib(key: str) -> float:
    """Return the resident memory (``VmRSS``) of this process or its peak (``VmHWM``) in MiB.

    Always returns the peak on systems other than Linux.
    """
    status = Path('/proc/self/status')
    lines = status.read_text().splitlines() if status.is_file() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith(key)]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Timing:
    """Time and memory of a step.

    Attributes:
        seconds: Mean time of a step without synchronising between steps, for the throughput.
        latencies: Time of each step, including synchronisation.
        added_mib: Peak memory relative to that before the first step, in MiB.
    """

    seconds: float
    latencies: list[float]
    added_mib: float

    @property
    def median(self) -> float:
        """Median latency in seconds."""
        return statistics.median(self.latencies)

    @property
    def p90(self) -> float:
        """90th percentile of the latency in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]


def time_step(step: Step, device: torch.device, *, warmup: int, iters: int) -> Timing:
    """Time a step; on a GPU, both with and without synchronising between steps."""
    memory = AddedMemory(device)
    for _ in range(warmup):
        step()
    latencies = []
    for _ in range(iters):
        synchronize(device)
        began = time.perf_counter()
        step()
        synchronize(device)
        latencies.append(time.perf_counter() - began)
    seconds = sum(latencies) / iters
    if device.type == 'cuda':
        seconds = _seconds(step, device, iters) / iters
    return Timing(seconds, latencies, memory.mib())


class PartTimer:
    """Divide the time of steps among parts; the remainder is ``rest``.

    Parts may be nested; the time of the inner part is excluded from the outer part. The device is
    synchronised at each change, so the sum may exceed the time of a normal step if kernels are short.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    def _account(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._stack:
            name = self._stack[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def enter(self, name: str) -> None:
        """Start the clock of a part."""
        self._account()
        self._stack.append(name)

    def leave(self, _: str = '') -> None:
        """Stop the clock of the current part, and continue that of the enclosing part."""
        self._account()
        self._stack.pop()

    @contextmanager
    def method(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Within the context, time the calls of ``owner.name`` as a part."""
        original, in_instance = getattr(owner, name), name in vars(owner)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return original(*args, **kwargs)
            finally:
                self.leave()

        object.__setattr__(owner, name, timed)
        try:
            yield
        finally:
            if in_instance:
                object.__setattr__(owner, name, original)
            else:
                object.__delattr__(owner, name)

    def time(self, step: Step, *, iters: int) -> dict[str, float]:
        """Return the mean seconds per step of each part, with the rest last."""
        self.seconds.clear()
        for _ in range(iters):
            self.enter(REST)
            step()
            self.leave()
        rest = self.seconds.pop(REST, 0.0)
        return {name: seconds / iters for name, seconds in [*self.seconds.items(), (REST, rest)]}
