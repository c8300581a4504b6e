"""Log the model FLOP utilisation in training."""

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.extras.profiling.costs import training_flops
from dpt.extras.profiling.timing import matrix_rate, uses_tf32
from dpt.registry import HOOKS


@HOOKS.register_module()
class UtilizationHook(Hook):
    """Log ``mfu``, the model's FLOP/s as a share of the matrix multiplication rate of the device.

    The FLOPs of a training step and the rate of the device are determined once before training, which takes
    about a second and draws no random numbers. The rate is measured with large matrix products, because data
    sheets cover few devices, in the fastest type in use: TF32 if convolutions of a float32 model use it. If
    the FLOPs cannot be counted, the reason is logged and training continues without ``mfu``.

    The hook must come after ``timer`` among the default hooks, with the same priority, to read the time of
    the current iteration.
    """

    _seconds_at_peak: float | None = None
    """Time of an iteration at the full rate of the device."""

    def before_train(self, runner: Runner) -> None:
        """Count the FLOPs of an iteration and measure the rate of the device."""
        if not is_main_process():
            return
        try:
            preprocessor = runner.cfg.model.data_preprocessor
            if preprocessor.get('size') is None:
                raise ValueError('model.data_preprocessor.size is not set, so the size of batches may vary')
            flops = training_flops(runner.cfg.model, (1, len(preprocessor.mean), *preprocessor.size))
        except Exception as error:  # custom models may raise any exception
            runner.logger.info(f'MFU is not logged: {type(error).__name__}: {error}')
            return
        dtype = getattr(runner.optim_wrapper, 'cast_dtype', torch.float32)
        device = next(runner.model.parameters()).device
        rate = matrix_rate(device, dtype)
        kind = 'TF32' if dtype is torch.float32 and uses_tf32(device) else str(dtype)
        self._seconds_at_peak = (runner.train_dataloader.batch_size or 1) * flops / rate
        runner.logger.info(
            f'a training step takes {flops / 1e9:.4g} GFLOP per image; MFU is the share of '
            f'{rate / 1e12:.3g} TFLOP/s, measured on {kind} matrices'.replace('torch.', '')
        )

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Compute the utilisation over the last iterations.

        Uses their mean time, because a single time is not meaningful: the host does not wait for the GPU.
        """
        timed = 'train/time' in runner.message_hub.log_scalars  # not without the timer
        if self._seconds_at_peak is not None and timed:
            seconds = runner.message_hub.get_scalar('train/time').mean(runner.log_processor.window_size)
            runner.message_hub.update_scalar('train/mfu', self._seconds_at_peak / seconds)
