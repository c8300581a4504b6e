"""``dpt.visualization.mlflow_backend``, without MLflow: what it is asked to store."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np

from dpt.registry import VISBACKENDS


def test_a_picture_has_a_key_and_a_step(tmp_path: Path) -> None:
    backend = VISBACKENDS.build(dict(type='MLflowVisBackend', save_dir=str(tmp_path)))
    mlflow = Mock()
    backend._mlflow, backend._env_initialized = mlflow, True
    image = np.zeros((4, 6, 3), np.uint8)
    backend.add_image('val_a', image, step=350)
    mlflow.log_image.assert_called_once_with(image, key='val_a', step=350)  # a step needs a key, not a file
