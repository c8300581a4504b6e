"""Write images for ``speed.py``: smooth noise with the layout and sizes of ADE20K."""

import sys
from pathlib import Path

import cv2
import numpy as np

# (height, width) at 32 quantiles of the area of ADE20K's 20,210 training images.
SIZES = (
    (240, 240), (256, 256), (256, 256), (256, 256), (256, 256), (256, 256), (256, 256),
    (230, 300), (313, 249), (300, 300), (370, 305), (449, 298), (333, 500), (375, 500),
    (428, 539), (450, 600), (480, 640), (481, 686), (512, 683), (512, 683), (512, 683),
    (512, 683), (512, 683), (512, 683), (512, 683), (512, 683), (512, 683), (683, 512),
    (512, 741), (512, 768), (512, 768), (512, 790),
)  # fmt: skip


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Draw an image with detail at every scale, so that JPEG decoding costs the same as for photographs."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 9):
        small = random.standard_normal((2**octave, 2**octave, 3)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) / 2 ** (0.9 * octave)
    low, high = total.min(), total.max()
    return (255 * (total - low) / (high - low)).astype(np.uint8)


def segments(height: int, width: int, seed: int) -> np.ndarray:
    """Draw 14 segments with smooth outlines, labelled 0 to 150, with about as many edges as in ADE20K."""
    random = np.random.default_rng(seed)
    fields = random.standard_normal((14, 5, 5)).astype(np.float32)
    offsets = random.normal(0, 0.5, 14)
    smooth = [cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in fields]
    largest = np.argmax(np.stack(smooth) + offsets[:, None, None], axis=0)
    return random.choice(151, 14, replace=False).astype(np.uint8)[largest]


def main(root: Path) -> None:
    for folder in ('images/training', 'annotations/training'):
        (root / folder).mkdir(parents=True)
    for i, (height, width) in enumerate(SIZES):
        name = f'ADE_train_{i:08d}'
        cv2.imwrite(
            str(root / f'images/training/{name}.jpg'), photo(height, width, i), [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        # Filters are chosen per row, as in ADE20K's files; they account for a third of the decoding time.
        cv2.imwrite(
            str(root / f'annotations/training/{name}.png'),
            segments(height, width, i),
            [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS, cv2.IMWRITE_PNG_STRATEGY, 0],
        )


if __name__ == '__main__':
    main(Path(sys.argv[1]))
