"""The training loop that resumes exactly."""

from collections.abc import Sequence

from mmengine.dist import get_rank, get_world_size
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

from dpt.engine.randomness import seed_step
from dpt.registry import LOOPS

SAMPLES_SEEN = 'samples_seen'
"""Name, among what a checkpoint keeps of the run, of the place in the order of the samples."""


@LOOPS.register_module()
class IterBasedTrainLoop(_IterBasedTrainLoop):
    """mmengine's loop over iterations, in which every random draw follows from the seed and the iteration.

    A run that is resumed therefore goes on as if it had never stopped, and enters the order of the samples at
    its place: nothing is loaded to be thrown away.

    Args:
        runner: The runner.
        dataloader: Config of the data loader; its sampler has to be ``InfiniteSampler``.
        max_iters: Iterations in all.
        val_begin: First iteration that may be followed by a validation.
        val_interval: Iterations between validations.
        dynamic_intervals: Pairs (iteration, interval) from which on another interval holds.

    Raises:
        ValueError: If the sampler is another one.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        sampler = (dataloader.get('sampler') or {}).get('type')
        if sampler != 'InfiniteSampler':
            raise ValueError(
                f"train_dataloader.sampler.type={sampler!r}: training by iterations needs 'InfiniteSampler', "
                'whose order can be entered anywhere'
            )
        dataset = dict(type='SeededDataset', dataset=dataloader['dataset'])
        # Not the parent's constructor: it starts the workers, before it is known where the order is entered.
        BaseLoop.__init__(self, runner, dict(dataloader, dataset=dataset))
        self._max_iters, self._max_epochs = max_iters, 1
        self._iter = self._epoch = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )

    def _enter_order(self) -> int:
        """Place the sampler; return the samples of an iteration, those of all processes."""
        per_iteration = self.dataloader.batch_size * get_world_size()
        place = self.runner.message_hub.get_info(SAMPLES_SEEN, self._iter * per_iteration)
        if place != self._iter * per_iteration:
            self.runner.logger.warning(
                f'{place / self._iter:g} images an iteration so far, {per_iteration} from now on: the run '
                'goes on at its place in the order, but the learning rate was chosen for another batch'
            )
        self.dataloader.sampler.seed = self.runner.seed  # that of the run that is resumed
        self.dataloader.sampler.start_at(place)
        return per_iteration

    def run(self) -> object:
        """Train from the current iteration to the last."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        per_iteration = self._enter_order()
        self._place = self.dataloader.sampler.start
        self.dataloader_iterator = iter(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            batch = next(self.dataloader_iterator)
            self._place += per_iteration
            runner.message_hub.update_info(SAMPLES_SEEN, self._place)
            self.run_iter(batch)
            self._decide_current_val_interval()
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if runner.val_loop is not None and self._iter >= self.val_begin and due:
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train on one batch."""
        seed_step(self.runner.seed, self._iter, get_rank())
        super().run_iter(data_batch)
