"""Model FLOP utilisation in the training log."""

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.extras.profiling.costs import training_flops
from dpt.extras.profiling.timing import matrix_rate
from dpt.registry import HOOKS


@HOOKS.register_module()
class UtilizationHook(Hook):
    """Log ``mfu``, the share of the device's matrix rate that the model's arithmetic reaches.

    The operations of a training step and the rate of the device are determined once, before training: a
    second of work that draws no random numbers. The rate is measured on large products in the type in which
    the model computes, because data sheets cover few devices. If the operations cannot be counted, training
    continues without ``mfu``, and the log says why.

    As a default hook after ``timer``, with the same priority, it reads the time of the current iteration.
    """

    _seconds_at_peak: float | None = None
    """Time of an iteration at the full matrix rate."""

    def before_train(self, runner: Runner) -> None:
        """Count the operations of an iteration and measure the device."""
        if not is_main_process():
            return
        try:
            preprocessor = runner.cfg.model.data_preprocessor
            if preprocessor.get('size') is None:
                raise ValueError('model.data_preprocessor.size is not set, so that batches differ in size')
            flops = training_flops(runner.cfg.model, (1, len(preprocessor.mean), *preprocessor.size))
        except Exception as error:  # from whatever model a user registered
            runner.logger.info(f'MFU is not shown: {type(error).__name__}: {error}')
            return
        dtype = getattr(runner.optim_wrapper, 'cast_dtype', torch.float32)
        rate = matrix_rate(next(runner.model.parameters()).device, dtype)
        self._seconds_at_peak = (runner.train_dataloader.batch_size or 1) * flops / rate
        runner.logger.info(
            f'a training step takes {flops / 1e9:.4g} GFLOP an image; MFU is the share of '
            f'{rate / 1e12:.3g} TFLOP/s, measured on {dtype} matrices'.replace('torch.', '')
        )

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Compute the utilisation of the last iterations.

        Their mean time counts: the host does not wait for a GPU, so that a single time means little.
        """
        timed = 'train/time' in runner.message_hub.log_scalars  # not without the timer
        if self._seconds_at_peak is not None and timed:
            seconds = runner.message_hub.get_scalar('train/time').mean(runner.log_processor.window_size)
            runner.message_hub.update_scalar('train/mfu', self._seconds_at_peak / seconds)
