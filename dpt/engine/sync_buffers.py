"""Batch norm statistics of several CPU processes."""

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpt.registry import HOOKS


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Average the running statistics of batch norm over the processes after every iteration.

    Without it each process would validate with statistics of its own, and the checkpoint would hold those of
    the first. mmengine's hook of this name does so once an epoch, which iteration-based training has not.
    """

    priority = 'NORMAL'  # before the checkpoint is written

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Average the statistics. Other buffers are equal: averaging would only round them."""
        names = ('running_mean', 'running_var')
        statistics = [b for name, b in runner.model.named_buffers() if name.endswith(names)]
        all_reduce_params(statistics, op='mean')
