"""What saving a checkpoint costs the training: a state of the size of DPT-ViT-B and its AdamW.

Example:
    python benchmarks/checkpoint_cost.py --mb 1300 --dir /tmp
"""

import argparse
import statistics
import tempfile
import time
import zipfile
from pathlib import Path

import torch

from dpt.engine.checkpointing import Background, HostCopies, write_checkpoint


def seconds(work, *arguments: object) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--mb', type=int, default=1300, help='size of the state')
    parser.add_argument('--dir', help='where to write (default: the folder for temporary files)')
    parser.add_argument('--repeat', type=int, default=3)
    args = parser.parse_args()
    count, size = 300, args.mb * 1_000_000 // 1200
    state = {str(i): torch.randn(size) for i in range(count)}
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        path, plain = Path(folder, 'iter_1.pth'), Path(folder, 'plain.pth')
        copies, background = HostCopies(), Background()
        first = seconds(copies.of, state)
        for _ in range(args.repeat):
            figures.setdefault('torch.save alone', []).append(seconds(torch.save, state, plain))
            figures.setdefault('written in the foreground', []).append(seconds(write_checkpoint, state, path))
            stall = seconds(copies.of, state) + seconds(
                background.submit, lambda: write_checkpoint(state, path)
            )
            figures.setdefault('stall, written in the background', []).append(stall)
            background.join()
        figures['stall at the first save'] = [first]
        figures['verified at a resume (CRC-32)'] = [seconds(lambda: zipfile.ZipFile(path).testzip())]
    for name, values in figures.items():
        print(f'{name:<36}{1000 * statistics.median(values):8.0f} ms')


if __name__ == '__main__':
    main()
