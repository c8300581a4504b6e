"""Whether code runs as it is written, and on a CPU: what is worth its while there alone."""

import torch


def eager_on_cpu(device: torch.device) -> bool:
    """Return whether a CPU runs the code itself, not a compiler or an exporter."""
    return (
        device.type == 'cpu'
        and not torch.compiler.is_compiling()  # true in torch.export, too
        and not torch.jit.is_tracing()
    )


def eager_on_cpu_without_autocast(device: torch.device) -> bool:
    """Return whether moreover no autocast chooses the types."""
    return eager_on_cpu(device) and not torch.is_autocast_enabled('cpu')
