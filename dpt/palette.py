"""Colours for classes without a palette."""

import cv2
import numpy as np


def default_palette(num_classes: int) -> np.ndarray:
    """Return uint8 colours of shape Kx3, each as far as possible from greys and the previous colours."""
    levels = np.linspace(40, 240, 15)
    candidates = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3).astype(np.uint8)
    seen = cv2.cvtColor(candidates, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    # The image and unlabelled pixels are grey, so even the first colour must be far from grey.
    taken = np.abs(seen[:, 1:] - 128).max(axis=1)
    colours = np.zeros((num_classes, 3), np.uint8)
    for k in range(num_classes):
        best = int(taken.argmax())
        colours[k] = candidates[best, 0]
        taken = np.minimum(taken, np.linalg.norm(seen - seen[best], axis=1))
    return colours
