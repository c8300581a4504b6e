"""The training loop that resumes exactly."""

from collections.abc import Sequence

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, LoggerHook
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

from dpt.engine.randomness import seed_step
from dpt.engine.signals import ValidationStopped
from dpt.engine.unwrapped import unwrapped
from dpt.registry import LOOPS

SAMPLES_SEEN = 'samples_seen'
"""Name, among what a checkpoint keeps of the run, of the place in the order of the samples."""
PROCESSES = 'processes'
"""Name, likewise, of the number of processes."""
_READ_METRICS = (CheckpointHook, EarlyStoppingHook, LoggerHook)  # and complain where there are none
VALIDATED = 'validated'
"""Name, likewise, of the iteration after which the last validation began."""


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

    @property
    def samples_per_iteration(self) -> int:
        """Samples of an iteration, those of all processes."""
        return self.dataloader.batch_size * get_world_size()

    def _enter_order(self) -> None:
        """Place the sampler."""
        per_iteration = self.samples_per_iteration
        place = self.runner.message_hub.get_info(SAMPLES_SEEN, self._iter * per_iteration)
        if place != self._iter * per_iteration:
            self.runner.logger.warning(
                f'{place / self._iter:g} images an iteration so far, {per_iteration} from now on: the run '
                'goes on at its place in the order, but the learning rate was chosen for another batch'
            )
        self._note_processes()
        self.dataloader.sampler.seed = self.runner.seed  # that of the run that is resumed
        self.dataloader.sampler.start_at(place)

    def _note_processes(self) -> None:
        hub, processes = self.runner.message_hub, get_world_size()
        before = hub.get_info(PROCESSES, processes)
        if before != processes:
            self.runner.logger.warning(
                f'{before} processes so far, {processes} from now on: the order of the samples goes on, but '
                'what dropout draws, and the batches of batch norm, are not what they would have been'
            )
        hub.update_info(PROCESSES, processes)

    def _validate_if_due(self) -> None:
        """Validate, if it is time and has not been done."""
        runner = self.runner
        due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
        if runner.val_loop is None or self._iter < max(self.val_begin, 1) or not due:
            return
        if runner.message_hub.get_info(VALIDATED, -1) == self._iter:
            return
        try:
            runner.message_hub.update_info(VALIDATED, self._iter)
            runner.val_loop.run()
        except ValidationStopped:
            self._leave_validation()
            runner.message_hub.update_info(VALIDATED, -1)  # the run that goes on from here begins with it

    def _leave_validation(self) -> None:
        """Let hooks take back what they changed for a validation that was broken off (EMAHook weights)."""
        for hook in self.runner.hooks:
            if not isinstance(hook, _READ_METRICS):
                hook.after_val_epoch(self.runner, metrics={})

    def run(self) -> object:
        """Train from the current iteration to the last."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        self._enter_order()
        self._place = self.dataloader.sampler.start
        self.dataloader_iterator = iter(self.dataloader)
        self._decide_current_val_interval()
        self._validate_if_due()  # a run that was stopped before it could
        model = unwrapped(runner.model)
        runner.model.train()  # a frozen part knows only by this that it stays in evaluation mode
        while self._iter < self._max_iters and not self.stop_training:
            if not (runner.model.training and model.training):  # after a validation, or a hook's prediction
                runner.model.train()
            batch = next(self.dataloader_iterator)
            self._place += self.samples_per_iteration
            runner.message_hub.update_info(SAMPLES_SEEN, self._place)
            self.run_iter(batch)
            self._decide_current_val_interval()
            if not self.stop_training:
                self._validate_if_due()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train on one batch."""
        seed_step(self.runner.seed, self._iter, get_rank())
        super().run_iter(data_batch)
