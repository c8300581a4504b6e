"""torchmetrics, which imports torchvision, beside a CPU build of torch."""

import importlib

import torch

_OPERATORS = (
    'nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward ps_roi_align _ps_roi_align_backward '
    'ps_roi_pool _ps_roi_pool_backward deform_conv2d _deform_conv2d_backward'
)
_LIBRARIES: list[torch.library.Library] = []  # definitions live as long as these


def import_torchmetrics() -> object:
    """Import torchmetrics' metrics of classification.

    A torchvision that was built for CUDA fails to import beside a CPU build of torch, for operators that
    nothing here calls; they are declared then.

    Raises:
        RuntimeError: If torchmetrics is not installed.
    """
    try:
        importlib.import_module('torchvision')
    except ModuleNotFoundError:
        pass
    except RuntimeError:
        library = torch.library.Library('torchvision', 'DEF')
        for name in _OPERATORS.split():
            library.define(f'{name}(Tensor x) -> Tensor')
        _LIBRARIES.append(library)
    try:
        return importlib.import_module('torchmetrics.classification')
    except ModuleNotFoundError as error:
        raise RuntimeError('the evaluation link needs torchmetrics: pip install torchmetrics') from error
