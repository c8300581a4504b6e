"""When checkpoints are saved, which are kept, and which is the best."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from dpt.engine.background import Background
from dpt.engine.checkpoint_files import remove_leftovers, write_checkpoint, write_pointer
from dpt.engine.checkpoint_state import HostCopies, plain, plain_entries, run_state
from dpt.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's checkpoint hook, with files that are whole, safe to load, and written beside the training.

    The state is copied, and the copy is written by a thread: to a temporary file, which is renamed once it
    is on the disk. Only then ``last_checkpoint`` names it and those that are no longer kept are deleted.
    What goes wrong there ends the training with an error. The next save, and the end of the training, wait
    for the thread.

    The files hold nothing but tensors and plain values, so that they load under torch's safe
    ``weights_only=True``. The smoothing windows of the training log are not stored: after a resume they start
    anew. The best checkpoint, and a regular one of the same iteration, holds what its evaluation gave as
    ``meta['metric']``.

    Args:
        interval: Iterations (or epochs) between checkpoints; -1 for none but the last.
        by_epoch: Whether ``interval`` counts epochs.
        save_optimizer: Whether the optimiser's state is stored; without it a run cannot be resumed.
        save_param_scheduler: Whether the states of the schedules are.
        out_dir: Folder in which one named like the work directory holds the checkpoints; the work directory
            itself by default.
        max_keep_ckpts: How many are kept, the best one not counted; -1 for all.
        save_last: Whether the last iteration is saved whatever the interval.
        save_best: Name of the metric (or metrics) whose best checkpoint is kept as well.
        rule: ``'greater'`` or ``'less'`` for what is better; known for the usual metrics.
        filename_tmpl: Name of a file with ``{}`` for the iteration; ``'iter_{}.pth'`` by default.
        save_begin: First iteration that may be saved.
    """

    out_dir: str

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | None = None,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | list[str] | None = None,
        rule: str | list[str] | None = None,
        filename_tmpl: str | None = None,
        save_begin: int = 0,
    ) -> None:
        super().__init__(
            interval,
            by_epoch,
            save_optimizer,
            save_param_scheduler,
            out_dir,
            max_keep_ckpts,
            save_last,
            save_best,
            rule,
            filename_tmpl=filename_tmpl,
            save_begin=save_begin,
        )
        self._background, self._copies = Background(), HostCopies()
        self._saved_step: int | None = None
        self._metrics: Mapping | None = (
            None  # of the evaluation that the weights being saved have just passed
        )

    def before_train(self, runner: Runner) -> None:
        """Settle where checkpoints go, and clear away what a killed run has left half-written there.

        Raises:
            ValueError: If that is not a folder of this machine.
        """
        if '://' in str(self.out_dir):
            raise ValueError(f'checkpoint.out_dir={self.out_dir}: expected a folder of the file system')
        if self.out_dir is None:
            self.out_dir = runner.work_dir
        elif str(self.out_dir) != runner.work_dir:
            self.out_dir = str(Path(self.out_dir) / Path(runner.work_dir).name)
        if is_main_process():
            remove_leftovers(Path(self.out_dir))
        runner.logger.info(f'checkpoints go to {self.out_dir}')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save if it is time, and tell what went wrong with the last save."""
        self._background.check()
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train(self, runner: Runner) -> None:
        """Wait until the last checkpoint is written."""
        self._background.join()

    def save(self, runner: Runner, iteration: int) -> None:
        """Save after ``iteration`` unless that was done, and wait until the file is written."""
        if self._saved_step != iteration:
            meta = dict(epoch=runner.epoch, iter=iteration)
            self._save_checkpoint_with_step(runner, iteration, meta)
        self._background.join()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace what could not be loaded safely, before a file is written."""
        hub = checkpoint['message_hub']
        runtime_info = plain_entries(hub['runtime_info'])
        checkpoint['message_hub'] = dict(log_scalars={}, runtime_info=runtime_info, resumed_keys={})
        if self._metrics is not None:
            checkpoint['meta']['metric'] = plain_entries(self._metrics)
        for key in ('meta', 'state_dict', 'optimizer', 'param_schedulers'):
            if key in checkpoint:
                checkpoint[key] = plain(checkpoint[key])

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        path = self._path(self.filename_tmpl.format(step))
        outdated = self._keep(runner, step)
        self._saved_step = step
        runner.message_hub.update_info('last_ckpt', path.name)
        if not is_main_process():
            return
        state = self._copy(runner, meta, whole=True)
        pointer = Path(runner.work_dir)
        self._background.submit(lambda: _write(state, path, outdated, pointer))

    def _path(self, name: str) -> Path:
        return Path(self.out_dir) / name

    def _keep(self, runner: Runner, step: int) -> list[Path]:
        """Note the new checkpoint, and return those that are to be deleted once it is written."""
        hub = runner.message_hub
        known = [one for one in hub.runtime_info.get('keep_ckpt_ids', []) if one != step] + [step]
        count = self.max_keep_ckpts if self.max_keep_ckpts > 0 else len(known)
        hub.update_info('keep_ckpt_ids', known[-count:])
        return [self._path(self.filename_tmpl.format(one)) for one in known[:-count]]

    def _copy(self, runner: Runner, meta: dict, *, whole: bool) -> dict:
        self._background.join()  # it still writes the copies of before
        optimizer, schedules = whole and self.save_optimizer, whole and self.save_param_scheduler
        return self._copies.of(run_state(runner, meta, optimizer=optimizer, param_scheduler=schedules))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        better = [key for key in self.key_indicators if self._improves(runner, key, metrics)]
        if not better:
            return
        step = runner.epoch if self.by_epoch else runner.iter
        replaced = [path for key in better for path in self._note_best(runner, key, metrics[key], step)]
        if not is_main_process():
            return
        self._metrics = dict(metrics)
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        # The regular checkpoint of this iteration was saved before it was known to be the best.
        regular = self._saved_step == step
        state = self._copy(runner, meta, whole=regular)
        self._metrics = None
        weights = {key: state[key] for key in ('meta', 'state_dict', 'message_hub')}
        paths = [self._path(self._best_name(key, step)) for key in better]
        again = self._path(self.filename_tmpl.format(step)) if regular else None

        def write() -> None:
            for path in paths:
                write_checkpoint(weights, path)
            if again is not None:
                write_checkpoint(state, again)
            _remove(replaced)

        self._background.submit(write)

    def _best_keys(self, key: str) -> tuple[str, str]:
        suffix = f'_{key}' if len(self.key_indicators) > 1 else ''
        return f'best_score{suffix}', f'best_ckpt{suffix}'

    def _best_name(self, key: str, step: int) -> str:
        return f'best_{key}_{self.filename_tmpl.format(step)}'.replace('/', '_')

    def _improves(self, runner: Runner, key: str, metrics: Mapping) -> bool:
        if key not in metrics:
            raise ValueError(f'checkpoint.save_best={key!r} is none of the metrics: {", ".join(metrics)}')
        rule = self.rules[self.key_indicators.index(key)]
        before = runner.message_hub.runtime_info.get(self._best_keys(key)[0], self.init_value_map[rule])
        return metrics[key] is not None and self.is_better_than[key](metrics[key], before)

    def _note_best(self, runner: Runner, key: str, score: float, step: int) -> list[Path]:
        """Note the new best checkpoint, and return the one that it replaces."""
        score_key, file_key = self._best_keys(key)
        name = self._best_name(key, step)
        before = Path(runner.message_hub.runtime_info.get(file_key) or name).name  # mmengine's are absolute
        runner.message_hub.update_info(score_key, score)
        runner.message_hub.update_info(file_key, name)
        runner.logger.info(f'best {key} so far: {score:0.4f}; its checkpoint is {name}')
        return [self._path(before)] if before != name else []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint of another model: the runner would load what fits and ignore the rest."""
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        expected, found = set(model.state_dict()), set(checkpoint['state_dict'])
        if expected != found:
            raise ValueError(
                'the checkpoint to resume from belongs to another model: missing '
                f'{sorted(expected - found)[:5]}, unexpected {sorted(found - expected)[:5]}. '
                'To start from its weights, set load_from instead of resuming.'
            )
        # Equal metainfo must be the same object, else the runner warns of a changed data set.
        meta, dataset = checkpoint['meta'], runner.train_dataloader.dataset
        if meta.get('dataset_meta') == plain(dataset.metainfo):
            meta['dataset_meta'] = dataset.metainfo


def _write(state: dict, path: Path, outdated: list[Path], work_dir: Path) -> None:
    write_checkpoint(state, path)
    write_pointer(work_dir, path)
    _remove(outdated)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
