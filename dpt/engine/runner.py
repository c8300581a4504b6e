"""Build a runner from a config."""

import importlib
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor
from mmengine.runner import Runner as _Runner
from mmengine.runner.base_loop import BaseLoop
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from dpt.checkpoints import load_backbone, load_model, read_checkpoint
from dpt.config.load import TRANSLATION
from dpt.engine.checkpointing import CheckpointHook, write_pointer
from dpt.engine.distributed import LAUNCHERS, is_first, start_processes, unwrapped, wrap
from dpt.engine.hooks import check_class_names
from dpt.engine.logging import is_no_table
from dpt.engine.loop import TrainLoop
from dpt.engine.optim import describe_frozen
from dpt.engine.resume import Resumable, find_resumable, restore
from dpt.engine.sharding import check_sharding, is_sharded, shard
from dpt.engine.stop import StopSignalHook
from dpt.engine.training_check import check_training
from dpt.registry import WEIGHT_INITIALIZERS

MATMUL_PRECISIONS = ('highest', 'high', 'medium')
"""Values of ``env_cfg.float32_matmul_precision``, which ``torch.set_float32_matmul_precision`` explains."""
FROM_IMAGES = ('backbone', 'backbone.patch_embed', 'backbone.stem')
"""Modules whose input is the image, which requires no gradient."""


def build_runner(config: Config, launcher: str = 'none', resume: str | None = None) -> 'Runner':
    """Build the runner; the same config works on a CPU, one GPU and several GPUs.

    Adds only ``launcher`` to the config. The hooks that run are those of the config; the loop is in
    ``dpt/engine/loop.py``.

    Args:
        config: The config.
        launcher: Launcher of the processes, one of ``LAUNCHERS``.
        resume: ``'auto'`` for the newest checkpoint of the work directory, or the path of a checkpoint;
            ``None`` uses ``resume`` and ``load_from`` of the config.

    Raises:
        ValueError: If the launcher cannot be used, or the checkpoint cannot be resumed.
        FileNotFoundError: If there is no checkpoint to resume from.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher={launcher!r} must be one of {", ".join(LAUNCHERS)}')
    if resume is None and config.get('resume'):
        resume = config.get('load_from') or 'auto'
    # Find the checkpoint first, so that a wrong path fails before anything is written. Only rank 0 verifies.
    resumable = find_resumable(config.work_dir, resume) if resume and is_first(launcher) else None
    config.launcher = launcher
    runner = Runner.from_cfg(config)
    if resume:
        runner._resume, runner._resumable = True, resumable
    if config.get(TRANSLATION):
        runner.logger.info('\n  '.join(['config translated from MMSegmentation', *config[TRANSLATION]]))
    return runner


class Runner(_Runner):
    """mmengine's runner, for one process or many, on CPUs and GPUs.

    Differences from mmengine:

    - Several CPU processes are supported (gloo). On several GPUs BN becomes SyncBN unless the config has
      ``sync_bn``; ``'dpt'`` is :class:`~dpt.engine.sync_bn.SyncBatchNorm`.
    - Data loaders without workers accept ``persistent_workers=True``; ``pin_memory`` is on by default with a
      GPU.
    - Checkpoints are loaded strictly, and damaged ones are skipped when resuming.
    - Only training writes the config to the work directory.
    - ``compile`` compiles the losses of the model. mmengine compiles whole steps, and recompiles them if the
      image size or the learning rate changes.
    - Tables of hundreds of lines are written to the log file only.
    """

    _has_loaded: bool
    _resumable: Resumable | None = None
    _starts: ClassVar[Counter[str]] = Counter()
    """Number of runs that this process started in each second."""

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment and the process group."""
        if self.distributed and not is_distributed():
            start_processes(self.launcher, env_cfg.get('dist_cfg') or {})
        if precision := env_cfg.get('float32_matmul_precision'):
            if precision not in MATMUL_PRECISIONS:
                raise ValueError(
                    f'env_cfg.float32_matmul_precision={precision!r} must be one of '
                    f'{", ".join(MATMUL_PRECISIONS)}'
                )
            torch.set_float32_matmul_precision(precision)
        super().setup_env(env_cfg)
        self._starts[self._timestamp] += 1
        if (start := self._starts[self._timestamp]) > 1:  # logger, hub and folder are named after the second
            self._timestamp += f'_{start}'

    def _log_env(self, env_cfg: dict) -> None:
        try:
            importlib.import_module('torchvision')  # mmengine imports it to log its version
        except ModuleNotFoundError:
            pass
        except (ImportError, RuntimeError, OSError):  # it does not match this torch
            sys.modules['torchvision'] = None  # type: ignore[assignment]
        super()._log_env(env_cfg)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs) -> MMLogger:
        """Build the logger."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_no_table)
        return logger

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Build the log processor; ``type`` defaults to dpt's, and an empty dict logs by iterations."""
        if isinstance(log_processor, dict):
            log_processor = dict(dict(type='LogProcessor'), **(log_processor or dict(by_epoch=False)))
        return super().build_log_processor(log_processor)

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer, under a different name for each run in a process."""
        if isinstance(visualizer, dict):
            name = f'{visualizer.get("name", "visualizer")}_{self.experiment_name}'
            visualizer = ConfigDict(visualizer, name=name)
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes; ``fsdp`` shards it later, before the optimiser is built."""
        if not self.distributed or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        return wrap(model, self.cfg, model_wrapper_cfg)

    def register_default_hooks(self, hooks: dict[str, Hook | dict] | None = None) -> None:
        """Register the default hooks; ``None`` removes any hook, not only those of mmengine."""
        engine_hooks = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        hooks = hooks or {}
        kept = {name: hook for name, hook in hooks.items() if hook is not None or name in engine_hooks}
        super().register_default_hooks(kept)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; without ``type``, ``by_epoch`` selects the class, as in mmengine."""
        if isinstance(loop, dict) and 'by_epoch' in loop and 'type' not in loop:
            kind = 'EpochBasedTrainLoop' if loop['by_epoch'] else 'IterBasedTrainLoop'
            loop = dict({key: value for key, value in loop.items() if key != 'by_epoch'}, type=kind)
        return super().build_train_loop(loop)

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate by the batch size, which may be a share of ``total_batch_size``."""
        self._train_dataloader = self.train_loop.dataloader
        super().scale_lr(optim_wrapper, auto_scale_lr)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader; set ``persistent_workers`` and ``pin_memory`` to match workers and device."""
        if isinstance(dataloader, dict):
            dataloader = dict(dataloader)
            if dataloader.get('num_workers') == 0:
                dataloader['persistent_workers'] = False
            dataloader.setdefault('pin_memory', torch.cuda.is_available())
        return _Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def _init_model_weights(self) -> None:
        model = unwrapped(self.model)
        if is_sharded(model):
            return
        # Skip weights that the checkpoint replaces; their files may be missing.
        replaced = (model, getattr(model, 'backbone', model)) if self._resume or self._load_from else ()
        given = [getattr(part, 'init_cfg', None) for part in replaced]
        for part in replaced:
            part.init_cfg = None
        super()._init_model_weights()
        for part, init_cfg in zip(replaced, given, strict=True):  # names the weights below LoRA adapters
            part.init_cfg = init_cfg

    def load_or_resume(self) -> None:
        """Load ``load_from`` strictly, or resume; mmengine would load matching keys and ignore the rest."""
        if self._has_loaded:
            return
        if self._resume:
            found, self._resumable = self._resumable, None  # frees the content below
            if found is None and is_main_process():
                found = find_resumable(self.work_dir, self._load_from or 'auto')
            for checkpoint in found.skipped if found else ():
                self.logger.warning(f'not resumed from {checkpoint}')
            paths = [found.path if found else '']
            broadcast_object_list(paths)
            restore(self, found.content if found else read_checkpoint(paths[0]))
            # A run killed before its next save resumes from this checkpoint, not from a newer one.
            if is_main_process():
                write_pointer(Path(self.work_dir), Path(paths[0]))
        elif self._load_from and not is_sharded(self.model):  # else done before
            model = unwrapped(self.model)
            load_model(model, self._load_from)
            if isinstance(self._test_loop, BaseLoop):
                check_class_names(self._load_from, getattr(self.test_dataloader.dataset, 'metainfo', {}))
            # As in mmengine's load_checkpoint; EMAHook copies the weights.
            self.call_hook('after_load_checkpoint', checkpoint=dict(state_dict=model.state_dict()))
        self._has_loaded = True
        if isinstance(self._train_loop, TrainLoop):
            if not self._train_loop.is_placed:
                self._train_loop.restore_place()  # mmengine reads max_iters next
            check_training(self)
            line = describe_frozen(unwrapped(self.model), getattr(self.optim_wrapper, 'optimizer', None))
            if line:
                self.logger.info(line)

    def dump_config(self) -> None:
        """Do nothing, so that a test does not overwrite the config of the training; see :meth:`train`."""

    def train(self) -> nn.Module:
        """Write the config to the work directory and train.

        Raises:
            ValueError: If ``activation_checkpointing`` names a module whose input requires no gradient, for
                which mmengine would silently compute no gradients.
        """
        names = self.cfg.get('activation_checkpointing') or ()
        for name in [names] if isinstance(names, str) else names:
            if name in FROM_IMAGES:
                raise ValueError(
                    f'activation_checkpointing={names!r}: {name} would not be trained. Set '
                    'model.backbone.with_cp=True, or list inner modules such as backbone.layers.0'
                )
        target = Path(self.work_dir, Path(self.cfg.filename or '').name)
        if not (self.cfg.filename and target.exists() and target.samefile(self.cfg.filename)):
            super().dump_config()  # do not overwrite the user's config
        self._shard()
        try:
            return super().train()
        finally:
            for hook in self.hooks:  # also after an error
                if isinstance(hook, (CheckpointHook, StopSignalHook)):
                    hook.close()

    def _shard(self) -> None:
        """Shard the model if the config has ``fsdp``; load its weights first, while tensors are whole."""
        if self.cfg.get('fsdp') is None:
            return
        if not self.distributed:
            self.logger.warning('fsdp needs several processes, so it has no effect')
            return
        check_sharding(self)
        self._init_model_weights()
        if self._load_from and not self._resume:
            load_model(self.model, self._load_from)
        shard(self.model, **self.cfg.fsdp)

    def _maybe_compile(self, target: str) -> None:
        model = unwrapped(self.model)
        options = self.cfg.get('compile')
        if options is None or options is False or not hasattr(model, 'compile_losses'):
            super()._maybe_compile(target)
        elif target == 'train_step':
            model.compile_losses(**(options if isinstance(options, dict) else {}))
            self.logger.info('the losses are compiled in the first iteration, which takes minutes')


@WEIGHT_INITIALIZERS.register_module('Pretrained')
class PretrainedInit:
    """Strict loading of a backbone or a whole model, for ``init_cfg=dict(type='Pretrained', ...)``.

    Args:
        checkpoint: Path or URL, see :func:`~dpt.checkpoints.read_checkpoint`. A backbone may use the keys of
            any supported source.
        drop: Key prefixes to skip when loading a whole model, such as ``['decode_head.conv_seg']`` if the
            number of classes differs.
    """

    def __init__(self, checkpoint: str, drop: list[str] | tuple[str, ...] = ()) -> None:
        self.checkpoint = checkpoint
        self.drop = tuple(drop)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into ``module``."""
        if hasattr(module, 'decode_head'):
            load_model(module, self.checkpoint, drop=self.drop)
        else:
            load_backbone(module, self.checkpoint)
