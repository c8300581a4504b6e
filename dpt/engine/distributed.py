"""Distributed training: process groups, ranks and buffers."""

import os
import subprocess
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm, is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import nn
from torch.distributed import PrefixStore, TCPStore
from torch.nn.parallel import DistributedDataParallel

from dpt.engine.sync_bn import use_sync_batch_norm
from dpt.registry import HOOKS

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
RANK = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
"""Environment variable with the rank, by launcher."""
PLACE = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
"""Environment variables that describe the place of a process, as torchrun sets them."""
RESTARTS = 'TORCHELASTIC_RESTART_COUNT'
"""Environment variable with torchrun's restart count."""
COLLECTIVE_TIMEOUT = 1800
"""Default timeout of collectives in seconds; ``env_cfg.dist_cfg.timeout`` overrides it."""


def unwrapped(model: nn.Module) -> Any:
    """Return the model without wrappers such as DistributedDataParallel."""
    return model.module if is_model_wrapper(model) else model


def restarted() -> bool:
    """Whether torchrun has restarted the processes of this run (``--max-restarts``)."""
    return os.environ.get(RESTARTS, '0') != '0'


def set_local_rank(local_rank: int) -> None:
    """Set ``LOCAL_RANK`` for mmengine if the launcher did not set it; mpirun uses another variable."""
    os.environ.setdefault('LOCAL_RANK', os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK', str(local_rank)))


def is_first(launcher: str) -> bool:
    """Whether this process has rank 0, also before the process group is started."""
    return os.environ.get(RANK.get(launcher, ''), '0') == '0'


def place_of(launcher: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` of this process.

    On Slurm the port depends on the job and the step, so that two jobs of a node do not collide.

    Args:
        launcher: One of ``LAUNCHERS``, except ``'none'``.
        environ: Environment variables; a ``MASTER_ADDR`` or ``MASTER_PORT`` among them takes precedence.

    Raises:
        ValueError: If the launcher did not start this process.
    """
    try:
        if launcher == 'pytorch':
            return {name: environ[name] for name in PLACE}
        if launcher == 'slurm':
            nodes = environ.get('SLURM_STEP_NODELIST') or environ['SLURM_NODELIST']
            number = 7 * int(environ['SLURM_JOB_ID']) + int(environ.get('SLURM_STEP_ID', 0))
            found = (
                environ[RANK['slurm']],
                environ.get('SLURM_STEP_NUM_TASKS') or environ['SLURM_NTASKS'],
                environ['SLURM_LOCALID'],
                environ.get('MASTER_ADDR') or _first_host(nodes),
                environ.get('MASTER_PORT') or str(15000 + number % 15000),
            )
        else:
            world, here = environ['OMPI_COMM_WORLD_SIZE'], environ['OMPI_COMM_WORLD_LOCAL_SIZE']
            local = {'MASTER_ADDR': '127.0.0.1'} if world == here else {}
            found = (
                environ[RANK['mpi']],
                world,
                environ['OMPI_COMM_WORLD_LOCAL_RANK'],
                {**local, **environ}['MASTER_ADDR'],
                environ.get('MASTER_PORT', '29500'),
            )
    except KeyError as error:
        starter = dict(pytorch='torchrun', slurm='srun', mpi='mpirun')[launcher]
        raise ValueError(
            f'--launcher {launcher} needs {starter}, but {error.args[0]} is not set in the environment: '
            f'start the tool with {starter} (several processes), or leave --launcher out (one process)'
        ) from None
    return dict(zip(PLACE, found, strict=True))


def _first_host(nodes: str) -> str:
    """Return the first host of a Slurm node list such as ``gpu[3-5,9]``."""
    if not set(nodes) & set('[,'):
        return nodes
    listed = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True)
    return listed.stdout.split('\n')[0]


def start_processes(launcher: str, dist_cfg: Mapping[str, Any]) -> None:
    """Select the GPU of this process and start the process group, with gloo on CPUs.

    After a restart by torchrun, processes share a store with the dead ones and would read their stale
    addresses (torch 2.13), so the store gets a prefix.

    Args:
        launcher: One of ``LAUNCHERS``, except ``'none'``.
        dist_cfg: ``env_cfg.dist_cfg`` of the config: ``backend``, ``timeout`` in seconds, ``port``, and other
            arguments of ``torch.distributed.init_process_group``.

    Raises:
        ValueError: If the launcher did not start this process, the process has no GPU although the machine
            has some, or the port is in use.
    """
    given = dict(os.environ, MASTER_PORT=str(dist_cfg['port'])) if 'port' in dist_cfg else os.environ
    os.environ.update(place_of(launcher, given))
    if torch.cuda.is_available():
        device = local_device(int(os.environ['LOCAL_RANK']), torch.cuda.device_count())
        torch.cuda.set_device(device)
        os.environ['LOCAL_RANK'] = str(device)  # from which mmengine takes the device
    options = dict(dist_cfg, timeout=timedelta(seconds=dist_cfg.get('timeout', COLLECTIVE_TIMEOUT)))
    options.pop('port', None)
    options['backend'] = dist_cfg.get('backend', 'nccl') if torch.cuda.is_available() else 'gloo'
    if restarted():
        address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        client = TCPStore(address, port, is_master=False, timeout=options['timeout'])
        options['store'] = PrefixStore(f'start_{os.environ[RESTARTS]}', client)
        options.update(rank=int(os.environ['RANK']), world_size=int(os.environ['WORLD_SIZE']))
    try:
        torch.distributed.init_process_group(**options)
    except RuntimeError as error:
        if 'EADDRINUSE' not in str(error):
            raise
        raise ValueError(
            f'port {os.environ["MASTER_PORT"]} of {os.environ["MASTER_ADDR"]} is in use, perhaps by another '
            'training: set MASTER_PORT in the environment of all processes to a free port'
        ) from error


def local_device(local_rank: int, count: int) -> int:
    """Return the index of the GPU for a process; Slurm may show each process only one of them.

    Args:
        local_rank: Rank of the process on its machine.
        count: Number of visible GPUs.

    Raises:
        ValueError: If there are fewer GPUs than processes.
    """
    if count == 1:
        return 0
    if local_rank >= count:
        raise ValueError(
            f'process {local_rank} (counted from 0) of this machine has no GPU, because {count} are visible: '
            'start at most one process per GPU'
        )
    return local_rank


def cpu_group() -> torch.distributed.ProcessGroup | None:
    """Return a group of all processes that communicates between CPUs; ``None`` for a single process.

    Raises:
        ValueError: If the processes cannot reach each other.
    """
    if get_world_size() == 1:
        return None
    try:
        return torch.distributed.new_group(backend='gloo')
    except RuntimeError as error:
        raise ValueError(
            f'the CPUs of the processes cannot connect by gloo ({str(error).splitlines()[0]}). If the name '
            'of a machine resolves to 127.0.0.1, set GLOO_SOCKET_IFNAME to its network interface (eth0 ...)'
        ) from error


def wrap(model: nn.Module, config: Config, model_wrapper_cfg: dict | None) -> nn.Module:
    """Move the model to the device, synchronise its batch norms, and wrap it for several processes.

    ``fsdp`` shards the model later, before the optimiser is built.

    Args:
        model: The model.
        config: Config with ``sync_bn``, ``fsdp`` and ``find_unused_parameters``.
        model_wrapper_cfg: Arguments of the wrapper, by default DistributedDataParallel.
    """
    has_gpu = torch.cuda.is_available()
    sync_bn = config.get('sync_bn', 'torch' if has_gpu else None)
    if sync_bn == 'dpt':
        use_sync_batch_norm(model)
    elif sync_bn is not None:
        model = convert_sync_batchnorm(model, sync_bn)
    model = model.to(get_device())
    if config.get('fsdp') is not None:
        return model
    given = model_wrapper_cfg or dict(
        broadcast_buffers=False, find_unused_parameters=config.get('find_unused_parameters', False)
    )
    wrapper = ConfigDict(dict(type='MMDistributedDataParallel'), **given)
    kind = MODEL_WRAPPERS.get(wrapper.type)
    if kind is not None and issubclass(kind, DistributedDataParallel):
        wrapper.setdefault('device_ids', [torch.cuda.current_device()] if has_gpu else None)
        wrapper.setdefault('gradient_as_bucket_view', True)  # saves a copy of all gradients
        # Only kernels of 1x1 cause this warning: torch gives all other gradients the strides of their
        # parameters. Along sides of length 1 strides mean nothing (github.com/pytorch/pytorch/issues/157862).
        warnings.filterwarnings('ignore', 'Grad strides do not match bucket view strides')
    return MODEL_WRAPPERS.build(wrapper, default_args=dict(module=model))


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Average the running statistics of batch norm over several CPU processes after every iteration.

    torch has no SyncBN on CPUs, so each process would validate with different statistics, and only those of
    rank 0 would be saved. On GPUs, where batch norm is converted to SyncBN, the hook does nothing. mmengine's
    hook of the same name averages once per epoch.
    """

    priority = 'NORMAL'  # before the checkpoint is written

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Average the statistics; other buffers are equal in all processes."""
        if get_world_size() == 1 or torch.cuda.is_available():
            return
        names = ('running_mean', 'running_var')
        statistics = [b for name, b in runner.model.named_buffers() if name.endswith(names)]
        all_reduce_params(statistics, op='mean')
