"""Places of processes, ports and devices; the trainings are in ``tests/tools/test_launchers.py``."""

import copy
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from dpt.engine import distributed
from dpt.engine.distributed import cpu_group, local_device, place_of, start_processes, wrap
from dpt.engine.sync_bn import SyncBatchNorm
from dpt.registry import MODELS

SLURM = dict(
    SLURM_PROCID='5', SLURM_NTASKS='8', SLURM_LOCALID='1', SLURM_NODELIST='gpu3', SLURM_JOB_ID='4242'
)
MPI = dict(
    OMPI_COMM_WORLD_RANK='1',
    OMPI_COMM_WORLD_SIZE='2',
    OMPI_COMM_WORLD_LOCAL_RANK='1',
    OMPI_COMM_WORLD_LOCAL_SIZE='2',
)


def test_slurm_gives_each_job_its_port() -> None:
    place = place_of('slurm', SLURM)
    assert (place['RANK'], place['WORLD_SIZE'], place['LOCAL_RANK'], place['MASTER_ADDR']) == (
        *('5', '8', '1', 'gpu3'),
    )
    ports = [
        int(place_of('slurm', dict(SLURM, SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step)))['MASTER_PORT'])
        for job in range(4242, 4262)
        for step in range(5)
    ]
    assert len(set(ports)) == len(ports)
    assert all(1024 < port < 32768 for port in ports)  # above 32768 Linux gives ports to connections
    assert place_of('slurm', dict(SLURM, MASTER_PORT='999', MASTER_ADDR='b'))['MASTER_PORT'] == '999'


def test_the_first_host_of_several_comes_from_scontrol(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames gpu[3-4]" ] && echo gpu3 && echo gpu4\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    assert place_of('slurm', dict(SLURM, SLURM_NODELIST='gpu[3-4]'))['MASTER_ADDR'] == 'gpu3'


def test_mpirun_on_one_machine_needs_no_address() -> None:
    assert place_of('mpi', MPI)['MASTER_ADDR'] == '127.0.0.1'
    with pytest.raises(ValueError, match='MASTER_ADDR is not set'):
        place_of('mpi', dict(MPI, OMPI_COMM_WORLD_SIZE='4'))


@pytest.mark.parametrize(
    ('launcher', 'message'),
    [('pytorch', 'needs torchrun, but RANK'), ('slurm', 'needs srun'), ('mpi', 'needs mpirun')],
)
def test_a_launcher_that_did_not_start_the_process_is_named(launcher: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place_of(launcher, {})


def test_a_process_uses_the_only_visible_gpu() -> None:
    assert [local_device(rank, 4) for rank in range(4)] == [0, 1, 2, 3]
    assert local_device(3, 1) == 0  # Slurm's --gpus-per-task shows each process its own
    with pytest.raises(ValueError, match='process 4 .* has no GPU, because 4 are visible'):
        local_device(4, 4)


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = dict(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=f'port {port} of 127.0.0.1 is in use.*set MASTER_PORT'):
            start_processes('pytorch', dict(backend='nccl', timeout=5))


def test_machines_that_gloo_cannot_connect_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**kwargs: object) -> None:
        raise RuntimeError('[gloo/transport/tcp/pair.cc:144] Gloo connectFullMesh failed\nmore')

    monkeypatch.setattr(distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch.distributed, 'new_group', refuse)
    with pytest.raises(ValueError, match='connectFullMesh failed.*GLOO_SOCKET_IFNAME'):
        cpu_group()


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('given', [None, dict(static_graph=True)])
def test_gradients_are_views_of_the_buckets(given: dict | None, process_group: None) -> None:
    torch.manual_seed(0)
    plain = MODELS.build(dict(type='Regression'))
    wrapped = wrap(copy.deepcopy(plain), Config({}), given)
    assert wrapped.gradient_as_bucket_view
    for step in range(3):
        for model in (plain, wrapped):
            torch.manual_seed(step)  # of the dropout
            model.zero_grad()
            model(torch.ones(4, 4), mode='loss')['loss'].backward()
        pairs = zip(plain.parameters(), wrapped.module.parameters(), strict=True)
        assert all(torch.equal(one.grad, other.grad) for one, other in pairs)


def test_layouts_of_kernels_cause_no_warning(process_group: None) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Conv2d(16, 4, 1))
    maps = torch.randn(2, 8, 16, 16).contiguous(memory_format=torch.channels_last)  # as a ViT's
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        torch.set_warn_always(True)
        wrapped = wrap(copy.deepcopy(plain), Config({}), None)
        for model in (plain, wrapped):
            with torch.autocast('cpu', torch.bfloat16):
                model(maps).float().sum().backward()
        torch.set_warn_always(False)
    assert [str(one.message) for one in shown if 'strides' in str(one.message)] == []
    for one, other in zip(plain.parameters(), wrapped.module.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_an_unknown_synchronisation_of_batch_norms_is_refused() -> None:
    with pytest.raises(ValueError, match='sync_bn'):
        wrap(torch.nn.BatchNorm2d(3), Config(dict(sync_bn='static')), None)


@pytest.mark.parametrize(
    ('has_gpu', 'options', 'kind'),
    [
        (True, {}, torch.nn.SyncBatchNorm),
        (True, dict(sync_bn=None), torch.nn.BatchNorm2d),
        (False, {}, torch.nn.BatchNorm2d),
        (False, dict(sync_bn='dpt'), SyncBatchNorm),
    ],
)
def test_batch_norms_are_synchronised_on_gpus(
    has_gpu: bool, options: dict, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    monkeypatch.setattr(distributed, 'get_device', lambda: 'cpu')
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    assert type(wrap(model, Config(dict(fsdp={}, **options)), None)[0]) is kind
