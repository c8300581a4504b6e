"""A short video."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of five frames, 96x64."""
    path = tmp_path_factory.mktemp('clip') / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, (96, 64))
    for i in range(5):
        writer.write(np.full((64, 96, 3), 50 * i, np.uint8))
    writer.release()
    return path
