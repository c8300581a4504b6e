"""What share of the device's rate a training uses."""

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.extras.profiling import matrix_rate, training_flops
from dpt.registry import HOOKS


@HOOKS.register_module()
class UtilizationHook(Hook):
    """Find out once, before training, what an image costs and what the device can do, for the log line's MFU.

    MFU, the model FLOP utilisation, is the share of the device's matrix rate that the model's arithmetic
    reaches. The rate is measured on large products in the type in which the model computes, as data sheets
    know few devices and no CPU. Operations are counted on a second model without data (a second of time);
    nothing is drawn, so that a run's random numbers stay the same.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell the log processor, or say in the log why there is no MFU."""
        if not is_main_process():
            return
        try:
            flops = training_flops(runner.cfg.model, self._image_shape(runner))
        except Exception as error:  # of whatever model a user registered: no reason not to train it
            runner.logger.info(f'MFU is not shown: {type(error).__name__}: {error}')
            return
        dtype = getattr(runner.optim_wrapper, 'cast_dtype', torch.float32)
        rate = matrix_rate(next(runner.model.parameters()).device, dtype)
        runner.log_processor.utilization = (flops, rate)
        runner.logger.info(
            f'a training step takes {flops / 1e9:.4g} GFLOP an image; MFU is the share of '
            f'{rate / 1e12:.3g} TFLOP/s, measured on {dtype} matrices'.replace('torch.', '')
        )

    @staticmethod
    def _image_shape(runner: Runner) -> tuple[int, int, int, int]:
        preprocessor = runner.cfg.model.data_preprocessor
        if preprocessor.get('size') is None:
            raise ValueError('model.data_preprocessor.size is not set, so that batches differ in size')
        return 1, len(preprocessor.mean), *preprocessor.size
