"""Let torchvision import beside a CPU build of torch, in tests and in the processes that they start.

A torchvision that was built for CUDA registers fakes for operators that its library does not define beside a
CPU build of torch, and fails to import. timm imports it, but uses none of these operators. Python imports
this module at its start if its folder is in ``PYTHONPATH``; the operators are declared when torchvision is
first imported.
"""

import importlib.abc
import importlib.metadata
import sys

OPERATORS = 'nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward ps_roi_align'
OPERATORS += ' _ps_roi_align_backward ps_roi_pool _ps_roi_pool_backward deform_conv2d _deform_conv2d_backward'


class DeclareOperators(importlib.abc.MetaPathFinder):
    """Declare the operators when torchvision is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == 'torchvision' and any(importlib.metadata.distributions(name=name)):
            import torch

            version = importlib.metadata.version(name)
            if '+cpu' in torch.__version__ and '+cpu' not in version and not hasattr(torch, 'declared'):
                torch.declared = torch.library.Library(name, 'DEF')  # defined as long as this object lives
                for operator in OPERATORS.split():
                    torch.declared.define(f'{operator}(Tensor x) -> Tensor')


if not any(type(finder).__name__ == 'DeclareOperators' for finder in sys.meta_path):
    sys.meta_path.insert(0, DeclareOperators())
