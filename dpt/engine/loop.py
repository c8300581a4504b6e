"""Training loops, by iterations and by epochs."""

import bisect
import functools
import time
from collections.abc import Iterator

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EMAHook
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import nn

from dpt.engine.distributed import unwrapped
from dpt.engine.sampling import DefaultSampler, broadcast_seed, seed_step
from dpt.engine.sharding import gathered
from dpt.engine.stop import ValidationStopped
from dpt.registry import LOOPS

SAMPLES_SEEN = 'samples_seen'
"""Entry of a checkpoint's message hub: position in the sample order."""
EPOCH_ITERATION = 'epoch_iteration'
"""Entry of the message hub: finished iterations of the current epoch."""
BATCH = 'samples_per_iteration'
"""Entry of the message hub: total batch size of all processes."""
PROCESSES = 'processes'
"""Entry of the message hub: number of processes."""
DATASET = 'training_images'
"""Entry of the message hub: number of images of the data set."""
VALIDATED = 'last_validation'  # not 'val...': mmengine would log it beside the metrics
"""Entry of the message hub: iteration of the last validation."""


class TrainLoop(BaseLoop):
    """Training loop that resumes exactly.

    Every random draw depends only on the seed and the iteration, or the position in the sample order. A
    resumed run starts at its position without loading the earlier batches.

    The processes share ``total_batch_size`` of the config unless the loader has a ``batch_size``.

    Raises:
        ValueError: If the sampler cannot start at a given position, the data set is smaller than a batch
            although ``drop_last`` is set, or the number of processes does not divide ``total_batch_size``.
    """

    by_epoch: bool

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        length: int,
        val_begin: int,
        val_interval: int,
        dynamic_intervals: list[tuple[int, int]] | None,
    ) -> None:
        dataloader = dict(dataloader, dataset=dict(type='SeededDataset', dataset=dataloader['dataset']))
        if 'batch_size' not in dataloader:
            dataloader['batch_size'] = _shared_batch_size(runner)
        sampler = dataloader.get('sampler') or dict(type='InfiniteSampler')
        super().__init__(runner, dict(dataloader, sampler=sampler))
        self.sampler = self.dataloader.batch_sampler.sampler
        if isinstance(self.sampler, DefaultSampler):
            self.sampler.round_up = True  # all processes need the same number of batches
        if not hasattr(self.sampler, 'start_at'):
            raise ValueError(
                f'train_dataloader.sampler.type={sampler.get("type")!r}: this sampler cannot resume at a '
                "given position; use 'InfiniteSampler' or 'DefaultSampler'"
            )
        if not len(self.dataloader):
            raise ValueError('train_dataloader.drop_last=True: the data set has fewer images than a batch')
        self._has_own_seed = sampler.get('seed') is not None
        self.length = length
        self.val_begin, self.val_interval = val_begin, val_interval
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )
        self.stop_training = False
        self._epoch = self._iter = self._epoch_iter = 0
        self.place = self.batch_start = 0
        self.is_placed = False
        self.validation_seconds: list[float] = []
        self.runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self._epoch

    @property
    def iter(self) -> int:
        """Number of finished iterations."""
        return self._iter

    @property
    def max_epochs(self) -> int:
        """Number of epochs of the training; 1 if it counts iterations."""
        return self.length if self.by_epoch else 1

    @property
    def max_iters(self) -> int:
        """Iterations of the whole training."""
        if not self.by_epoch:
            return self.length
        return self._iter - self._epoch_iter + (self.length - self._epoch) * len(self.dataloader)

    @property
    def samples_per_iteration(self) -> int:
        """Total batch size of all processes."""
        return self.dataloader.batch_sampler.batch_size * get_world_size()

    @property
    def _finished(self) -> int:
        return self._epoch if self.by_epoch else self._iter

    def run(self) -> nn.Module:
        """Train from the current iteration to the last one."""
        runner = self.runner
        runner.call_hook('before_train')
        if not self.is_placed:  # by another runner than dpt's
            self.restore_place()
        if self._iter >= self.max_iters:
            key = f'train_cfg.{"max_epochs" if self.by_epoch else "max_iters"}'
            runner.logger.warning(
                f'nothing is left to train: the checkpoint has finished {self._iter} iterations, all of '
                f'{key}={self.length}. To train on, raise {key} and the end of the schedules'
            )
        batches = self._batches()
        epoch_starts = True
        while True:
            if self.by_epoch and self._epoch_iter >= len(self.dataloader):
                self._end_epoch()
                epoch_starts = True
            if self.stop_training:
                break
            self._validate_if_due()  # also before the first iteration, if a signal stopped the last run
            if self._finished >= self.length or self.stop_training:
                break
            if epoch_starts:
                runner.call_hook('before_train_epoch')
                runner.model.train()  # frozen layers stay in evaluation mode
                epoch_starts = False
            self._train_iteration(next(batches))
        if not self.by_epoch and self._iter >= self.length:
            runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _train_iteration(self, batch: dict) -> None:
        """Forward, backward and step on one batch, with the hooks around them.

        ``train_step`` is mmengine's: it preprocesses the batch, runs ``model.forward(mode='loss')`` under the
        optimiser wrapper's context (autocast), adds up the losses, runs backward and takes the step. The
        wrapper accumulates gradients and skips steps that are not finite (``dpt/engine/optim.py``).
        """
        runner = self.runner
        index = self._epoch_iter if self.by_epoch else self._iter
        # A hook or a validation may have changed the mode.
        if not (runner.model.training and unwrapped(runner.model).training):
            runner.model.train()
        self.batch_start = self.place
        self.place = self.sampler.advance(self.place, self.samples_per_iteration)
        runner.message_hub.update_info(SAMPLES_SEEN, self.place)
        if self.by_epoch:
            runner.message_hub.update_info(EPOCH_ITERATION, self._epoch_iter + 1)
        seed_step(runner.seed, self._iter, get_rank())
        runner.call_hook('before_train_iter', batch_idx=index, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook('after_train_iter', batch_idx=index, data_batch=batch, outputs=outputs)
        self._iter += 1
        self._epoch_iter += 1

    def _end_epoch(self) -> None:
        runner = self.runner
        runner.message_hub.update_info(EPOCH_ITERATION, 0)
        runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._epoch_iter = 0

    def _batches(self) -> Iterator[dict]:
        """Yield batches endlessly, from the current position on."""
        while True:
            self.sampler.start_at(self.place)
            yield from self.dataloader  # never ends with an infinite sampler
            self.place = self.sampler.next_pass(self.place)  # drop_last may have left some samples

    def restore_place(self) -> None:
        """Set the position in the sample order from the finished iterations and the message hub.

        Warn if the batch size, the number of processes or the size of the data set differs. The runner calls
        this before mmengine reads ``max_iters``.
        """
        self.is_placed = True
        runner, hub = self.runner, self.runner.message_hub
        if not self._has_own_seed:  # else that of rank 0, which resuming restored
            self.sampler.seed = broadcast_seed(runner.seed)
        now = self.samples_per_iteration
        self.place = hub.get_info(SAMPLES_SEEN, self._iter * now)
        before = hub.get_info(BATCH) or (self.place / self._iter if self._iter else now)
        in_epoch = hub.runtime_info.pop(EPOCH_ITERATION, None)
        if not self.by_epoch:
            self._epoch = 0
        elif in_epoch is not None:  # in iterations of the previous batch size
            self._epoch_iter = round(in_epoch * before / now)
        else:  # a new training, or one that counted iterations so far
            self._epoch, self._epoch_iter = divmod(round(self._iter * before / now), len(self.dataloader))
        if self.by_epoch:
            hub.update_info(EPOCH_ITERATION, self._epoch_iter)
        hub.update_info(BATCH, now)
        if before != now:
            runner.logger.warning(
                f'the batch size has changed from {before:g} to {now} images per iteration: the sample order '
                'continues, but the learning rate is not adjusted'
            )
        processes = get_world_size()
        before = hub.get_info(PROCESSES, processes)
        if before != processes:
            runner.logger.warning(
                f'the number of processes has changed from {before} to {processes}: the sample order '
                'continues, but dropout and batch norm differ from those of an uninterrupted run'
            )
        hub.update_info(PROCESSES, processes)
        images = len(self.dataloader.dataset)
        before = hub.get_info(DATASET, images)
        if before != images:
            runner.logger.warning(
                f'the number of training images has changed from {before} to {images}: the sample order is '
                'that of the new data set, so some images may be seen more often than others'
            )
        hub.update_info(DATASET, images)

    def remaining_validations(self) -> int:
        """Return the number of validations that are still to come."""
        return len(self._validations) - bisect.bisect(self._validations, self._finished)

    @functools.cached_property
    def _validations(self) -> list[int]:
        """Iterations, or epochs, after which a validation is due."""
        return list(filter(self._is_validation_due, range(1, self.length + 1)))

    def _is_validation_due(self, done: int) -> bool:
        """Whether a validation is due after ``done`` iterations, or epochs."""
        interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        due = done >= max(self.val_begin, 1) and (done % interval == 0 or done == self.length)
        return due and self.runner.val_loop is not None

    def _validate_if_due(self) -> None:
        """Validate if a validation is due and has not run yet."""
        runner = self.runner
        if not self._is_validation_due(self._finished) or (self.by_epoch and self._epoch_iter):
            return
        hub = runner.message_hub
        if hub.get_info(VALIDATED, -1) == self._iter:
            return
        hub.update_info(VALIDATED, self._iter)
        began = time.time()
        try:
            with gathered(runner.model):
                runner.val_loop.run()
            self.validation_seconds.append(time.time() - began)
        except ValidationStopped:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # put the training's weights back
                    hook.after_val_epoch(runner)
            hub.update_info(VALIDATED, -1)  # the resumed run repeats it


def _shared_batch_size(runner: Runner) -> int:
    """Return the batch size per process.

    Raises:
        ValueError: If the config has no ``total_batch_size``, or the number of processes does not divide it.
    """
    total, processes = runner.cfg.get('total_batch_size'), get_world_size()
    file = f'{runner.cfg.filename}: ' if runner.cfg.filename else ''
    if total is None:
        raise ValueError(f'{file}set total_batch_size (all processes) or train_dataloader.batch_size (each)')
    if total % processes:
        raise ValueError(
            f'{file}total_batch_size={total} cannot be shared equally by {processes} processes; '
            'set total_batch_size or train_dataloader.batch_size'
        )
    return total // processes


@LOOPS.register_module()
class IterBasedTrainLoop(TrainLoop):
    """:class:`TrainLoop` that counts iterations.

    Args:
        runner: The runner.
        dataloader: Config of the data loader.
        max_iters: Number of iterations of the training.
        val_begin: First iteration after which to validate.
        val_interval: Iterations between validations.
        dynamic_intervals: Pairs (iteration, interval); each interval applies from its iteration on.
    """

    by_epoch = False

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals)


@LOOPS.register_module()
class EpochBasedTrainLoop(TrainLoop):
    """:class:`TrainLoop` that counts epochs, of ``len(dataloader)`` iterations each.

    With ``DefaultSampler`` the last batch of an epoch may be smaller, as in mmengine. With
    ``InfiniteSampler`` every batch is full; the last one of an epoch may contain samples of the next pass.

    Args:
        runner: The runner.
        dataloader: Config of the data loader.
        max_epochs: Number of epochs of the training.
        val_begin: First epoch after which to validate.
        val_interval: Epochs between validations.
        dynamic_intervals: Pairs (epoch, interval); each interval applies from its epoch on.
    """

    by_epoch = True

    def __init__(
        self,
        runner: Runner,
        dataloader: dict,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
