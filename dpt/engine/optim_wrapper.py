"""Mixed precision on every device."""

import torch
from mmengine.optim import AmpOptimWrapper as _AmpOptimWrapper
from mmengine.optim import OptimWrapper as _OptimWrapper

from dpt.engine.finite_steps import FiniteSteps
from dpt.registry import OPTIM_WRAPPERS


def preferred_amp_dtype() -> torch.dtype:
    """Return bfloat16 where the device computes in it (every CPU does), else float16."""
    # Older GPUs such as V100 emulate it, far slower than float16.
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(FiniteSteps, _OptimWrapper):
    """mmengine's wrapper, which takes no step that is not finite."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(FiniteSteps, _AmpOptimWrapper):
    """mmengine's wrapper for automatic mixed precision, which also runs on a CPU and takes finite steps only.

    Args:
        loss_scale: ``'dynamic'``, a fixed scale, or arguments of ``torch.amp.GradScaler``. Only float16 needs
            and gets a scaler.
        dtype: ``'bfloat16'``, ``'float16'``, or ``None`` for the better one that the device has.
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(
        self, loss_scale: str | float | dict = 'dynamic', dtype: str | torch.dtype | None = None, **kwargs
    ) -> None:
        # Not the parent's constructor, which refuses to run without a GPU.
        _OptimWrapper.__init__(self, **kwargs)
        if isinstance(dtype, str):
            if dtype not in ('bfloat16', 'float16'):
                raise ValueError(f"optim_wrapper.dtype={dtype!r} must be 'bfloat16', 'float16' or None")
            dtype = getattr(torch, dtype)
        self.cast_dtype = dtype or preferred_amp_dtype()
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if device == 'cpu' and self.cast_dtype is not torch.bfloat16:
            raise ValueError(f'optim_wrapper.dtype={dtype} needs a GPU: on a CPU use bfloat16 or None')
        if isinstance(loss_scale, str) and loss_scale != 'dynamic':
            raise ValueError(
                f"optim_wrapper.loss_scale={loss_scale!r} must be 'dynamic', a number or a dict of arguments"
            )
        options = dict(loss_scale) if isinstance(loss_scale, dict) else {}
        if isinstance(loss_scale, (int, float)):
            options['init_scale'] = float(loss_scale)
        self._scale_update_param = options['init_scale'] if isinstance(loss_scale, (int, float)) else None
        self.loss_scaler = torch.amp.GradScaler(device, enabled=self.cast_dtype is torch.float16, **options)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the optimiser's state, and a scaler's if one was saved: a bf16 run may go on in fp16."""
        if not state_dict.get('loss_scaler'):
            state_dict = {key: value for key, value in state_dict.items() if key != 'loss_scaler'}
        super().load_state_dict(state_dict)
