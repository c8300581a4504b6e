"""Distributed training: process groups, ranks and buffers."""

import os
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.distributed import PrefixStore, TCPStore

from dpt.registry import HOOKS

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
RANK = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
"""Environment variable with the rank, by launcher."""
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


def start_processes(launcher: str, dist_cfg: dict) -> None:
    """Initialise the process group in the cases that mmengine does not support; otherwise do nothing.

    mmengine sets a CUDA device even on a machine without GPUs. After a restart by torchrun, processes share a
    store with the dead ones and would read their stale addresses (torch 2.13), so the store gets a prefix.

    Args:
        launcher: One of ``LAUNCHERS``, except ``'none'``.
        dist_cfg: ``env_cfg.dist_cfg`` of the config, with ``backend`` and ``timeout`` in seconds.

    Raises:
        ValueError: If the launcher needs GPUs, or torchrun did not start this process.
    """
    has_gpu = torch.cuda.is_available()
    if has_gpu and not (launcher == 'pytorch' and restarted()):
        return
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs; on CPUs use torchrun and --launcher pytorch')
    if 'RANK' not in os.environ:
        raise ValueError('--launcher pytorch needs torchrun: torchrun --nproc-per-node N tools/train.py ...')
    timeout = timedelta(seconds=dist_cfg.get('timeout', COLLECTIVE_TIMEOUT))
    store = None
    if restarted():
        address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        client = TCPStore(address, port, is_master=False, timeout=timeout)
        store = PrefixStore(f'start_{os.environ[RESTARTS]}', client)
    if has_gpu:
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    torch.distributed.init_process_group(
        dist_cfg.get('backend', 'nccl') if has_gpu else 'gloo',
        store=store,
        rank=int(os.environ['RANK']),
        world_size=int(os.environ['WORLD_SIZE']),
        timeout=timeout,
    )


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
