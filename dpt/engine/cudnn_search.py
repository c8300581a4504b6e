"""cuDNN's search for the fastest algorithm, where images have one size."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.registry import HOOKS


@HOOKS.register_module()
class CudnnSearchHook(Hook):
    """Let cuDNN search in training alone, where ``env_cfg.cudnn_benchmark`` asks for it.

    It tries several algorithms of each convolution for each size of its input. Training has one size; images
    to test have hundreds (ADE20K's validation images 332), met too seldom to make up for the search.
    """

    def __init__(self) -> None:
        self._searches = False

    def before_val(self, runner: Runner) -> None:
        """Stop the search."""
        self._searches = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False

    def after_val(self, runner: Runner) -> None:
        """Go on with it in training."""
        torch.backends.cudnn.benchmark = self._searches

    def before_test(self, runner: Runner) -> None:
        """Stop the search."""
        self.before_val(runner)

    def after_test(self, runner: Runner) -> None:
        """Put the setting back."""
        self.after_val(runner)
