"""From a config file and command-line arguments to a runner."""

import difflib
import importlib
import inspect
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch.distributed import PrefixStore, TCPStore

from dpt.checkpoints import read_checkpoint
from dpt.checkpoints.read import holds_unread
from dpt.checkpoints.rules import MMSEG_DPT
from dpt.engine.checkpoint_files import find_resume
from dpt.engine.config_file import read_config
from dpt.engine.dataloaders import DATALOADERS, innermost_datasets
from dpt.engine.mmseg_config import is_mmseg_config, is_mmseg_module, translate_mmseg_config
from dpt.engine.optim_wrapper import preferred_amp_dtype
from dpt.engine.quiet import QuietRunner
from dpt.engine.work_dir import RESTARTS, restarted
from dpt.shipped import find_config

CONSUMED = set(inspect.signature(Runner.__init__).parameters) | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'data_root',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'rank_timeout',
    'sync_bn',
    'total_batch_size',
    'tta_model',
    'tta_pipeline',
}
"""Top-level keys of a config that are read after it was parsed; the others feed them while it is."""
RANK_TIMEOUT = 600
"""Seconds, where the config has no ``rank_timeout``: as in configs/_base_/default_runtime.py."""
COLLECTIVE_TIMEOUT = 3600
"""Seconds, where the config has no ``env_cfg.dist_cfg.timeout``."""
ENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
"""Default hooks that the engine adds by itself."""
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
TRANSLATION = 'translated_from_mmseg'
"""Key under which a translated config carries the account of it, a line each."""
PROCESS_COUNT = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')
"""Environment variable in which each launcher tells the number of processes."""


def _check_option(option: str, config: Config) -> None:
    """Refuse an option whose key is unknown, or read while the config is parsed and never again."""
    key = option.split('.')[0]
    if key in CONSUMED:
        return
    if key in config:
        raise ValueError(
            f'--cfg-options {option}: {key} is read only while the config file is parsed, '
            'so this would change nothing; set the keys that it feeds (such as '
            'model.decode_head.num_classes or train_dataloader.dataset.pipeline), '
            'or write a config with this one as _base_'
        )
    near = difflib.get_close_matches(key, [*config.keys(), *CONSUMED], n=1)
    hint = f'; did you mean {near[0]}?' if near else ''
    raise ValueError(f'--cfg-options {key}: no such key in the config{hint}')


def load_config(path: str, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read a config file, apply ``--cfg-options`` and set the work directory.

    ``data_root`` given as an option replaces the config's own in every data set, where it was read already.

    A config of MMSegmentation 1.x is translated after the options were applied, which are therefore in its
    names, too. The lines about it are under the key ``translated_from_mmseg``.

    Args:
        path: Python config file; where there is none, the name of one that comes with this package.
        options: Values by dotted key, as mmengine's ``DictAction`` parses them.
        work_dir: Where the run writes; ``None`` for the config's own, or ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: If the config file is not there.
        ValueError: If the file is no valid Python or its code fails, an option would change nothing, a module
            of ``custom_imports`` cannot be imported, or MMSegmentation's config cannot be translated.
    """
    path = find_config(path)
    config = read_config(path)
    options = dict(options or {})
    for option in options:
        _check_option(option, config)
    if 'data_root' in options:
        _replace_data_root(config, options['data_root'])
    config.merge_from_dict(options)
    foreign = is_mmseg_config(config)
    _import_custom_modules(config, foreign)
    if foreign:
        config, lines = translate_mmseg_config(config)
        config[TRANSLATION] = lines
    config.work_dir = work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(path).stem)
    return config


def _import_custom_modules(config: Config, foreign: bool) -> None:
    """Import what ``custom_imports`` names, but nothing of MMSegmentation's own for a config of it."""
    wanted = config.get('custom_imports') or {}
    names = wanted.get('imports') or []
    names = [names] if isinstance(names, str) else names
    names = [name for name in names if not (foreign and is_mmseg_module(name))]
    folder = str(Path(config.filename).resolve().parent) if config.filename else ''
    if names and folder and folder not in sys.path:
        sys.path.append(folder)  # modules beside the config
    try:
        import_modules_from_strings(names, wanted.get('allow_failed_imports', False))
    except ImportError as error:
        raise ValueError(f'custom_imports={list(names)}: {error} ({error.__context__})') from error


def _replace_data_root(config: Config, data_root: str) -> None:
    previous = config.get('data_root')
    loaders = [config[name] for name in DATALOADERS if config.get(name)]
    own = [dataset for loader in loaders for dataset in innermost_datasets(loader.get('dataset'))]
    matching = [dataset for dataset in own if dataset.get('data_root') == previous]
    if not matching:
        raise ValueError(
            f'--cfg-options data_root={data_root}: no data set of the config has data_root={previous!r}, so '
            'this would change nothing; set train_dataloader.dataset.data_root and those of the other loaders'
        )
    for dataset in matching:
        dataset['data_root'] = data_root


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
    names = ('ClassCheckHook', 'UtilizationHook', 'CudnnSearchHook', 'StopSignalHook')
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
