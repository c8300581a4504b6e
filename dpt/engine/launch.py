"""From a config file and command-line arguments to a runner."""

import importlib
import os
import sys
from datetime import timedelta

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from torch.distributed import PrefixStore, TCPStore

from dpt.checkpoints import read_checkpoint
from dpt.checkpoints.read import holds_unread
from dpt.checkpoints.rules import MMSEG_DPT
from dpt.config.load import TRANSLATION
from dpt.config.walk import DATALOADERS
from dpt.engine.checkpoint_files import find_resume
from dpt.engine.optim_wrapper import preferred_amp_dtype
from dpt.engine.quiet import QuietRunner
from dpt.engine.work_dir import RESTARTS, restarted

RANK_TIMEOUT = 600
"""Seconds, where the config has no ``rank_timeout``: as in configs/_base_/default_runtime.py."""
COLLECTIVE_TIMEOUT = 3600
"""Seconds, where the config has no ``env_cfg.dist_cfg.timeout``."""
ENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""Default hooks that the engine adds by itself."""
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
PROCESS_COUNT = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')
"""Environment variable in which each launcher tells the number of processes."""


def enable_amp(config: Config) -> None:
    """Switch the optimiser wrapper to mixed precision, in the better type that the device has."""
    wrapper = config.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp cannot replace optim_wrapper.type={wrapper.type!r}')
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('dtype', str(preferred_amp_dtype()).removeprefix('torch.'))


def _init_distributed_cpu(launcher: str, timeout: float) -> None:
    """Start gloo: mmengine's own start-up sets a CUDA device."""
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs; on CPUs use torchrun and --launcher pytorch')
    if 'RANK' not in os.environ:
        raise ValueError('--launcher pytorch needs torchrun: torchrun --nproc-per-node N tools/train.py ...')
    _init_process_group('gloo', timeout)


def _init_process_group(backend: str, timeout: float) -> None:
    """Connect the processes of torchrun.

    Those that it has started anew share a store with the dead ones: without a prefix of their own they would
    read the addresses that these have left there, and connect to nobody (torch 2.13).
    """
    store = None
    if restarted():
        address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        client = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=timeout))
        store = PrefixStore(f'start_{os.environ[RESTARTS]}', client)
    torch.distributed.init_process_group(
        backend,
        store=store,
        rank=int(os.environ['RANK']),
        world_size=int(os.environ['WORLD_SIZE']),
        timeout=timedelta(seconds=timeout),
    )


def _share_batch(config: Config) -> None:
    """Give each process its part of ``total_batch_size``; an explicit batch size of the loader wins."""
    total, loader = config.get('total_batch_size'), config.get('train_dataloader')
    if total is None or loader is None or 'batch_size' in loader:
        return
    variable = PROCESS_COUNT.get(config.launcher)
    processes = int(os.environ.get(variable, 1)) if variable else 1
    if total % processes:
        file = f'{config.filename}: ' if config.filename else ''
        raise ValueError(
            f'{file}total_batch_size={total} cannot be shared equally by {processes} processes; '
            'set total_batch_size or train_dataloader.batch_size'
        )
    loader.batch_size = total // processes


def _survive_broken_torchvision() -> None:
    """Hide a torchvision that does not fit this torch from mmengine, which imports it to tell its version."""
    try:
        importlib.import_module('torchvision')
    except ModuleNotFoundError:
        pass
    except (ImportError, RuntimeError, OSError):
        sys.modules['torchvision'] = None  # type: ignore[assignment]


def _choose_weights(config: Config) -> tuple[str, ...]:
    """Settle where the weights come from: a run to resume, ``load_from``, or the backbone's own file.

    Returns what had to be passed over to find the checkpoint to resume from.
    """
    passed_over: tuple[str, ...] = ()
    if config.get('resume'):
        # The engine's own search would silently start anew where there is nothing, or the folder has moved.
        config.load_from, passed_over = find_resume(config.work_dir, config.get('load_from') or 'auto')
    if not config.get('load_from'):
        return ()
    if config.get('resume'):
        _check_resumable(config.load_from)  # a damaged or unsafe file is told here, by name
    config.model.backbone.pop('init_cfg', None)  # its weights would be overwritten, and need not be there
    if not config.get('resume'):
        # Through the strict loader: the runner's own would load what fits and ignore the rest.
        config.model.init_cfg = dict(type='Pretrained', checkpoint=config.load_from)
        config.load_from = None
    return passed_over


def _check_resumable(path: str) -> None:
    content = read_checkpoint(path)
    if MMSEG_DPT.fits(content.get('state_dict') or {}) or holds_unread(content):
        raise ValueError(
            f'{path} was written by MMSegmentation or another runner: its optimiser and log cannot be '
            'resumed here. To start from its weights, set load_from instead of resuming.'
        )
    lacking = [name for name in ('meta', 'optimizer') if name not in content]
    if lacking:  # the engine would go on with a new optimiser and say nothing
        raise ValueError(
            f'{path} has no {" and no ".join(lacking)}, as published and best checkpoints: training cannot '
            'go on from it as it was. To start from its weights, set load_from instead of resuming.'
        )


def _fit_dataloaders(config: Config) -> None:
    """Settle what follows from other values of the loaders."""
    for name in DATALOADERS:
        loader = config.get(name) or ConfigDict()
        if loader.get('num_workers') == 0:
            loader.persistent_workers = False
        if torch.cuda.is_available():
            loader.setdefault('pin_memory', True)
        sampler = loader.get('sampler')
        if name != 'train_dataloader' and sampler is not None and sampler.get('type') == 'DefaultSampler':
            # Rounding up would count the first images twice where the number of processes does not divide.
            sampler.setdefault('round_up', False)


def build_runner(config: Config, launcher: str = 'none') -> Runner:
    """Build the runner; the same config serves a CPU, one GPU and many.

    With several GPUs, BN becomes SyncBN unless the config sets ``sync_bn`` itself. On CPUs, where torch has
    no SyncBN, the processes share their running statistics instead.

    Raises:
        ValueError: If the launcher cannot work here.
        FileNotFoundError: If the config says ``resume`` and there is nothing to resume from.
    """
    config.launcher = launcher
    names = ('ClassCheckHook', 'CudnnSearchHook', 'StopSignalHook')
    own = [dict(type=name) for name in names]
    hooks = [*(config.get('custom_hooks') or []), *own]
    config.setdefault('default_hooks', {}).setdefault('non_finite', dict(type='NonFiniteHook'))
    # The engine takes None for 'without' of its own hooks alone.
    unwanted = [
        name for name, hook in config.default_hooks.items() if hook is None and name not in ENGINE_HOOKS
    ]
    for name in unwanted:
        del config.default_hooks[name]
    # Without a type the engine would not look into the registry, and its own line lacks rate and memory.
    config.log_processor = config.get('log_processor') or dict(by_epoch=False)
    config.log_processor.setdefault('type', 'LogProcessor')
    if launcher != 'none':
        hooks.append(dict(type='RankWatchHook', timeout=config.get('rank_timeout', RANK_TIMEOUT)))
        dist_cfg = config.setdefault('env_cfg', {}).setdefault('dist_cfg', dict(backend='nccl'))
        dist_cfg.setdefault('timeout', COLLECTIVE_TIMEOUT)
        if torch.cuda.is_available():
            config.setdefault('sync_bn', 'torch')
            if launcher == 'pytorch' and restarted():  # else the engine does it
                torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
                _init_process_group(dist_cfg.backend, dist_cfg.timeout)
        else:
            _init_distributed_cpu(launcher, dist_cfg.timeout)
            config.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel', device_ids=None))
            hooks.append(dict(type='SyncBuffersHook'))
    config.custom_hooks = hooks
    _share_batch(config)
    _survive_broken_torchvision()
    _fit_dataloaders(config)
    passed_over = _choose_weights(config)
    runner = QuietRunner.from_cfg(config)
    for checkpoint in passed_over:
        runner.logger.warning(f'not resumed from {checkpoint}')
    if config.get(TRANSLATION):
        lines = ['config translated from MMSegmentation', *config[TRANSLATION]]
        runner.logger.info('\n  '.join(lines))
    return runner
