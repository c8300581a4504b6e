"""Building a runner from a config, and the files that a run writes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner as MMEngineRunner

from dpt.config import load_config
from dpt.engine import LogProcessor, Runner, build_runner, enable_amp
from dpt.engine.distributed import set_local_rank

ADE = 'configs/dpt_vit-b16_512x512_160k_ade20k.py'
SHORT = {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=10)}
Train = Callable[..., Runner]
Tiny = Callable[..., Config]


@pytest.fixture
def ade(repository: Path) -> Config:
    return load_config(str(repository / ADE))


@pytest.mark.parametrize(
    'content',
    [
        dict(
            state_dict={
                'backbone.patch_embed.projection.weight': torch.ones(1),
                'decode_head.fusion_blocks.0.project.conv.weight': torch.ones(1),
            }
        ),
        dict(
            state_dict={'a': torch.ones(1)}, message_hub=dict(log_scalars={'loss': HistoryBuffer([1], [1])})
        ),
    ],
    ids=['mmsegmentation', 'log of another runner'],
)
def test_checkpoints_of_other_runners_are_not_resumed(ade: Config, tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / 'iter_2.pth')
    ade.resume, ade.load_from = True, str(tmp_path / 'iter_2.pth')
    with pytest.raises(ValueError, match=r'iter_2\.pth was written by .* set load_from'):
        build_runner(ade)


@pytest.mark.parametrize(
    ('content', 'lacking'),
    [({}, 'meta and no optimizer'), ({'meta': {'iter': 2}}, 'optimizer')],
    ids=['bare', 'published'],
)
def test_checkpoints_of_weights_only_are_not_resumed(
    ade: Config, tmp_path: Path, content: dict, lacking: str
) -> None:
    """mmengine would continue at the saved iteration with a new optimiser state."""
    torch.save({'state_dict': {'neck.weight': torch.ones(1)}, **content}, tmp_path / 'best.pth')
    ade.resume, ade.load_from = True, str(tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=rf'best\.pth has no {lacking}, .* set load_from'):
        build_runner(ade)


def test_damaged_checkpoints_are_not_resumed(ade: Config, tmp_path: Path) -> None:
    (tmp_path / 'iter_1.pth').write_bytes(b'PK\x03\x04 truncated')
    ade.resume, ade.load_from = True, str(tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match='iter_1.pth'):
        build_runner(ade)


def test_cpu_processes_need_torchrun(ade: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(ValueError, match='torchrun'):
        build_runner(ade, 'pytorch')
    with pytest.raises(ValueError, match='slurm'):
        build_runner(ade, 'slurm')


def test_amp_replaces_the_plain_wrapper_only(ade: Config) -> None:
    enable_amp(ade)
    assert ade.optim_wrapper.type == 'AmpOptimWrapper'
    assert ade.optim_wrapper.optimizer.lr == 6e-5
    ade.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        enable_amp(ade)


def test_mpirun_passes_the_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '3')
    monkeypatch.setenv('LOCAL_RANK', '')
    monkeypatch.delenv('LOCAL_RANK')
    set_local_rank(0)
    assert os.environ['LOCAL_RANK'] == '3'


def test_the_precision_of_matrix_products_is_set_and_logged(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, said = 'env_cfg.float32_matmul_precision', []
    monkeypatch.setattr(torch, 'set_float32_matmul_precision', said.append)
    monkeypatch.setattr(torch, 'get_float32_matmul_precision', lambda: said[-1])
    train(tmp_path / 'a', **SHORT, **{key: 'high'})
    assert said == ['high']
    (info,) = (tmp_path / 'a').glob('run_info_*.json')
    assert json.loads(info.read_text())['precision'] == "float32; float32 matrix products at precision 'high'"
    with pytest.raises(ValueError, match=f"{key}='tf32' must be one of highest, high, medium"):
        train(tmp_path / 'b', **SHORT, **{key: 'tf32'})


def test_only_rank_0_verifies_the_checkpoint(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr('dpt.engine.runner.find_resumable', lambda *_: pytest.fail('read by rank 1'))
    monkeypatch.setattr('dpt.engine.runner.Runner.from_cfg', lambda config: SimpleNamespace())
    runner = build_runner(tiny(tmp_path), 'pytorch', 'auto')
    assert (runner._resume, runner._resumable) == (True, None)


def test_resuming_without_checkpoint_is_an_error(ade: Config, tmp_path: Path) -> None:
    ade.resume, ade.work_dir = True, str(tmp_path)
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        build_runner(ade)


def scalars(folder: Path) -> list[dict]:
    lines = [json.loads(line) for file in folder.rglob('scalars.json') for line in file.open()]
    return [line for line in lines if 'loss' in line]


def test_a_dumped_config_starts_the_same_training(train: Train, tiny: Tiny, tmp_path: Path) -> None:
    train(tmp_path / 'a', **SHORT)
    train(tmp_path / 'a', str(tmp_path / 'a' / 'iter_1.pth'), **SHORT)
    dumped = load_config(str(tmp_path / 'a' / 'quickstart.py'), work_dir=str(tmp_path / 'b'))
    given = tiny(tmp_path / 'b', **SHORT)
    assert dumped.to_dict() == dict(given.to_dict(), launcher='none')
    build_runner(dumped).train()
    one, other = (torch.load(tmp_path / run / 'iter_2.pth')['state_dict'] for run in 'ab')
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_two_trainings_in_one_process_have_separate_logs(train: Train, tmp_path: Path) -> None:
    for name in ('a', 'b'):
        train(tmp_path / name, **SHORT, experiment_name=name)
    assert [len(scalars(tmp_path / name)) for name in ('a', 'b')] == [2, 2]


def test_a_runner_of_mmengine_trains_on_the_total_batch(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path, **SHORT, total_batch_size=4)
    for name in ('visualization', 'utilization'):  # mmengine accepts None only for its own hooks
        config.default_hooks.pop(name)
    for name in ('train', 'val', 'test'):
        config[f'{name}_dataloader'].persistent_workers = False
    runner = MMEngineRunner.from_cfg(config)
    runner.train()
    assert runner.train_dataloader.batch_size == 4


def test_any_default_hook_can_be_removed(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(tmp_path)
    before = [type(hook).__name__ for hook in build_runner(config).hooks]
    config.default_hooks.update(non_finite=None, timer=None)
    after = [type(hook).__name__ for hook in build_runner(config).hooks]
    assert set(before) - set(after) == {'NonFiniteHook', 'IterTimerHook'}


def test_load_from_is_strict_and_replaces_other_weights(train: Train, tmp_path: Path) -> None:
    train(tmp_path / 'a', **SHORT)
    absent = dict(type='Pretrained', checkpoint='absent.pth')
    start = {'load_from': str(tmp_path / 'a' / 'iter_2.pth'), 'model.backbone.init_cfg': absent}
    frozen = {'optim_wrapper.optimizer': dict(type='SGD', lr=0.0, _delete_=True), 'randomness.seed': 5}
    train(tmp_path / 'b', **SHORT, **start, **frozen)
    one, other = (torch.load(tmp_path / run / 'iter_2.pth')['state_dict'] for run in 'ab')
    assert all(torch.equal(one[key], other[key]) for key in one if 'bn' not in key)
    with pytest.raises(ValueError, match='conv_seg'):
        train(tmp_path / 'c', **SHORT, **start, **{'model.decode_head.channels': 16})


@pytest.mark.parametrize('gpu', [False, True])
def test_loader_settings_match_device_and_workers(
    gpu: bool, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    config = tiny(tmp_path).val_dataloader
    config.persistent_workers = True
    loader = Runner.build_dataloader(config)
    assert loader.pin_memory is gpu
    assert not loader.persistent_workers
    config.num_workers, config.pin_memory = 1, False
    loader = Runner.build_dataloader(config)
    assert loader.persistent_workers
    assert not loader.pin_memory


@pytest.mark.parametrize('names', ['backbone', ['backbone.layers.0', 'backbone.stem']])
def test_modules_fed_with_images_cannot_use_activation_checkpointing(
    names: object, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='with_cp=True'):
        train(tmp_path, **SHORT, activation_checkpointing=names)


@pytest.mark.parametrize(('setting', 'options'), [(True, {}), (dict(backend='eager'), dict(backend='eager'))])
def test_compiling_compiles_the_losses(
    setting: object, options: dict, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(
        torch, 'compile', lambda what, **given: compiled.append((what.__name__, given)) or what
    )
    train(tmp_path, **SHORT, compile=setting)
    assert compiled == [('_losses', options)]


@pytest.mark.parametrize('given', [dict(by_epoch=False), None])
def test_the_log_processor_is_that_of_dpt_without_type(
    given: dict | None, tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny(tmp_path)
    config.log_processor = given
    processor = build_runner(config).log_processor
    assert type(processor) is LogProcessor
    assert processor.by_epoch is False


def test_the_rate_is_scaled_by_the_total_batch(train: Train, tmp_path: Path) -> None:
    scaled = dict(enable=True, base_batch_size=8)  # the config has total_batch_size=2
    runner = train(tmp_path, auto_scale_lr=scaled, param_scheduler=None, train_cfg=dict(max_iters=1))
    assert runner.optim_wrapper.get_lr()['lr'] == [1.5e-3 * 2 / 8]
