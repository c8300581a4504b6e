"""mmengine's MLflow backend, with pictures that MLflow takes."""

from typing import Any

import numpy as np
from mmengine.visualization import MLflowVisBackend as _MLflowVisBackend
from mmengine.visualization.vis_backend import force_init_env

from dpt.registry import VISBACKENDS


@VISBACKENDS.register_module()
class MLflowVisBackend(_MLflowVisBackend):
    """Hands pictures to MLflow with their step.

    mmengine's own (0.10.7) passes the name as that of a file, which MLflow refuses without a suffix, and no
    step, so that each validation would replace the pictures of the one before. All else is its own.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record an image.

        Args:
            name: What MLflow calls it.
            image: RGB, uint8, of shape HxWx3.
            step: Iteration that it belongs to.
        """
        self._mlflow.log_image(image, key=name, step=step)
