"""What both workers of ``speed.py`` share: clocks, memory, synthetic samples. Imports neither framework."""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SIZE = (512, 683)
CLASSES = 150


def resident_mib(key: str = 'VmRSS') -> float:
    """Return the resident memory of this process, or with ``'VmHWM'`` its peak, in MiB (Linux)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f'{key} is not in /proc/self/status')


def measure(step: Callable[[], object], *, warmup: int, repeats: int) -> dict:
    """Return the median seconds of ``step`` and the memory that it adds at its peak, in MiB."""
    gc.collect()
    base = resident_mib()
    Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
    times = []
    for _ in range(warmup + repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return dict(
        seconds=statistics.median(times[warmup:]), added_mib=resident_mib('VmHWM') - base, all_seconds=times
    )


def regions(height: int, width: int, seed: int, void: float = 0.05) -> np.ndarray:
    """Draw a label map of blocks of 16x16 pixels, some of them without a label (255)."""
    random = np.random.default_rng(seed)
    small = random.integers(0, CLASSES, (height // 16 + 1, width // 16 + 1))
    small[random.random(small.shape) < void] = 255
    return np.kron(small, np.ones((16, 16), np.int64))[:height, :width].astype(np.uint8)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Draw a uint8 image of shape 3xHxW."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def prediction_and_truth() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a predicted and a true label map of shape HxW, int64, that agree on about half the pixels."""
    truth = torch.from_numpy(regions(*SIZE, seed=1)).long()
    predicted = truth.clone()
    predicted[truth == 255] = 0
    other = torch.from_numpy(regions(*SIZE, seed=2, void=0)).long()
    wrong = torch.from_numpy(np.random.default_rng(3).random(SIZE) < 0.4)
    predicted[wrong] = other[wrong]
    return predicted, truth


def main(rows: dict[str, Callable[[Path], dict]]) -> None:
    """Run the row named on the command line and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('row', choices=rows)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--data', type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = rows[args.row](args.data)
    print(json.dumps(result))
