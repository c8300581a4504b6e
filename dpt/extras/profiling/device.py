"""What a device can do at most, and how to read its clock and its memory."""

import ctypes
import gc
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from dpt.extras.profiling.memory import MIB

PEAK_TFLOPS = {
    'GB200': 2500.0,
    'B200': 2250.0,
    'H200': 989.0,
    'H100 PCIe': 756.0,
    'H100': 989.0,
    'A100': 312.0,
    'L40S': 362.0,
    'A10': 125.0,
    'L4': 121.0,
    'V100': 125.0,
}
"""Dense 16-bit matrix rates of NVIDIA's data sheets in TFLOP/s, by a part of the name that torch tells."""


def data_sheet_tflops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return what the data sheet promises for 16-bit matrices, or ``None`` where it is not known here."""
    if device.type != 'cuda' or dtype not in (torch.bfloat16, torch.float16):
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAK_TFLOPS.items() if part in name), None)


def device_name(device: torch.device) -> str:
    """Return the name of a device for a report."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), '')
    threads = torch.get_num_threads()
    return f'{model or platform.processor() or "CPU"}, {threads} thread{"s" if threads > 1 else ""}'


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> float:
    """Measure the device's matrix rate: the fastest of some products of large square matrices.

    On a CPU by both libraries that torch uses there, MKL for matrices and oneDNN for convolutions: which one
    is the faster depends on the maker of the CPU, by a factor of two.

    Args:
        device: The device.
        dtype: Type of the matrices; float32 is computed as torch's settings say (TF32 or not).
        repeats: Number of products after the first, which is not counted.

    Returns:
        Floating-point operations a second.
    """
    side = 8192 if device.type == 'cuda' else 1024
    # Random values, as zeros let a GPU run faster; of a generator of their own, as a run's draws are fixed.
    generator = torch.Generator(device).manual_seed(0)
    a, b = (
        torch.randn(side, side, device=device, generator=generator).to(dtype).requires_grad_(False)
        for _ in range(2)
    )
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        products: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
        if device.type == 'cpu':
            image = a.view(1, 32, -1, side).permute(0, 3, 1, 2)  # 32x32 pixels, channels last
            kernel = b.T.contiguous()[:, :, None, None]
            # The dilation means nothing to a kernel of 1x1; torch takes oneDNN on a single thread for it.
            products.append(lambda: F.conv2d(image, kernel, dilation=2))
        seconds = [[_seconds(product, device) for _ in range(repeats + 1)] for product in products]
    return 2 * side**3 / min(min(those[1:]) for those in seconds)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long the device works."""
    if device.type == 'cuda':
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended) / 1e3
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class AddedMemory:
    """Measure the memory that work adds at its peak: the allocator's on a GPU, the process's on a CPU.

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
        else:
            _trim_heap()  # else new tensors would find room in what earlier work has freed
            _reset_resident_peak()
            self.base = resident_mib()

    def mib(self) -> float:
        """Return the peak since the start over what was there then, in MiB."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device) / MIB - self.base
        return max(peak_resident_mib() - self.base, 0.0)


def _trim_heap() -> None:
    """Let glibc return freed memory to the system; does nothing with another C library."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def _status(key: str) -> float | None:
    """Return a value in MiB of what Linux tells about this process, or ``None`` elsewhere."""
    status = Path('/proc/self/status')
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), None)


def resident_mib() -> float:
    """Return the resident memory of this process in MiB; elsewhere than on Linux, its peak."""
    value = _status('VmRSS')
    return peak_resident_mib() if value is None else value


def peak_resident_mib() -> float:
    """Return the peak of this process's resident memory in MiB."""
    value = _status('VmHWM')
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if value is None else value


def _reset_resident_peak() -> None:
    path = '/proc/self/clear_refs'
    if os.access(path, os.W_OK):
        Path(path).write_text('5')  # Linux counts the peak from here on
