"""``init_cfg=dict(type='Pretrained', ...)``: strict loading of weights at initialisation."""

from torch import nn

from dpt.checkpoints import load_backbone, load_model
from dpt.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module('Pretrained')
class PretrainedInit:
    """Load a backbone (in the keys of any source that is known) or a whole model, all or nothing.

    Args:
        checkpoint: Path or URL.
        drop: Key prefixes that are knowingly not loaded into a whole model, such as
            ``['decode_head.conv_seg']`` for another number of classes.
    """

    def __init__(self, checkpoint: str, drop: list[str] | tuple[str, ...] = ()) -> None:
        self.checkpoint = checkpoint
        self.drop = tuple(drop)

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        if hasattr(module, 'decode_head'):
            load_model(module, self.checkpoint, drop=self.drop)
        else:
            load_backbone(module, self.checkpoint)
