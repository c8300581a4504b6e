"""From config and arguments to what the runner gets."""

import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from dpt.cli import one_line_errors, set_local_rank
from dpt.config.load import load_config
from dpt.engine import build_runner, enable_amp, launch
from dpt.registry import MODELS

ADE = 'configs/dpt_vit-b16_512x512_160k_ade20k.py'


@pytest.fixture
def ade(repository: Path) -> Config:
    return load_config(str(repository / ADE))


def test_data_root_reaches_every_data_set(repository: Path) -> None:
    config = load_config(str(repository / ADE), dict(data_root='/elsewhere'))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert config[loader].dataset.data_root == '/elsewhere'


def test_data_root_reaches_wrapped_data_sets_or_is_refused(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text(
        "data_root = 'a'\n"
        "both = dict(type='ConcatDataset', datasets=[dict(data_root=data_root), dict(data_root=data_root)])\n"
        "train_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=both))\n"
    )
    loaded = load_config(str(config), dict(data_root='/elsewhere'))
    assert [one.data_root for one in loaded.train_dataloader.dataset.dataset.datasets] == ['/elsewhere'] * 2
    config.write_text("train_dataloader = dict(dataset=dict(data_root='a'))\n")
    with pytest.raises(ValueError, match='would change nothing'):
        load_config(str(config), dict(data_root='/elsewhere'))


def test_dotted_options_and_work_dir(repository: Path) -> None:
    config = load_config(str(repository / ADE), {'model.neck.channels': 64}, 'out')
    assert config.model.neck.channels == 64
    assert config.work_dir == 'out'
    assert load_config(str(repository / ADE)).work_dir == 'work_dirs/dpt_vit-b16_512x512_160k_ade20k'


def test_an_option_that_would_change_nothing_is_refused(repository: Path) -> None:
    with pytest.raises(ValueError, match='num_classes is read only while the config file is parsed'):
        load_config(str(repository / ADE), dict(num_classes=3))
    with pytest.raises(ValueError, match='train_pipeline'):
        load_config(str(repository / ADE), {'train_pipeline.0.type': 'X'})


def test_a_missing_config_is_named() -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.py'):
        load_config('nowhere.py')


def test_amp_replaces_the_plain_wrapper_only(ade: Config) -> None:
    enable_amp(ade)
    assert ade.optim_wrapper.type == 'AmpOptimWrapper'
    assert ade.optim_wrapper.optimizer.lr == 6e-5
    ade.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        enable_amp(ade)


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')],
)
def test_the_total_batch_is_shared_equally(
    ade: Config, monkeypatch: pytest.MonkeyPatch, launcher: str, variable: str
) -> None:
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    built = []
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: built.append(config))
    monkeypatch.setenv(variable, '5')
    with pytest.raises(ValueError, match='total_batch_size=16 cannot be shared equally by 5'):
        build_runner(ade, launcher)
    monkeypatch.setenv(variable, '8')
    build_runner(ade, launcher)
    assert built[0].train_dataloader.batch_size == 2
    assert built[0].sync_bn == 'torch'
    assert built[0].val_dataloader.batch_size == 1


def test_one_process_takes_the_whole_batch_and_an_explicit_size_wins(
    ade: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    monkeypatch.setenv('SLURM_NTASKS', '8')  # inside an allocation, without a launcher
    build_runner(ade)
    assert ade.train_dataloader.batch_size == 16
    assert 'sync_bn' not in ade
    ade.train_dataloader.batch_size = 3
    build_runner(ade)
    assert ade.train_dataloader.batch_size == 3


def test_resume_in_a_config_never_starts_silently_anew(
    ade: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    ade.resume, ade.work_dir = True, str(tmp_path)
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        build_runner(ade)
    torch.save(dict(state_dict={}, meta={}, optimizer={}), tmp_path / 'iter_8.pth')
    (tmp_path / 'last_checkpoint').write_text('/gone/iter_8.pth')
    assert build_runner(ade).load_from == str(tmp_path / 'iter_8.pth')


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
def test_a_checkpoint_of_another_runner_is_not_resumed(
    ade: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict
) -> None:
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    torch.save(content, tmp_path / 'iter_2.pth')
    ade.resume, ade.load_from = True, str(tmp_path / 'iter_2.pth')
    with pytest.raises(ValueError, match=r'iter_2\.pth was written by .* set load_from'):
        build_runner(ade)


@pytest.mark.parametrize(
    ('content', 'lacking'),
    [({}, 'meta and no optimizer'), ({'meta': {'iter': 2}}, 'optimizer')],
    ids=['bare', 'published'],
)
def test_weights_alone_are_not_resumed(
    ade: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict, lacking: str
) -> None:
    """The engine would take the iteration, and go on with an optimiser that has forgotten everything."""
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    torch.save({'state_dict': {'neck.weight': torch.ones(1)}, **content}, tmp_path / 'best.pth')
    ade.resume, ade.load_from = True, str(tmp_path / 'best.pth')
    with pytest.raises(ValueError, match=rf'best\.pth has no {lacking}, .* set load_from'):
        build_runner(ade)


def test_mpirun_tells_the_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', '3')
    monkeypatch.setenv('LOCAL_RANK', '')
    monkeypatch.delenv('LOCAL_RANK')
    set_local_rank(0)
    assert os.environ['LOCAL_RANK'] == '3'


@pytest.mark.parametrize('given', [dict(by_epoch=False), None])
def test_the_log_line_is_ours_without_a_type(
    ade: Config, monkeypatch: pytest.MonkeyPatch, given: dict | None
) -> None:
    ade.log_processor = given
    monkeypatch.setattr('dpt.engine.runner.Runner.from_cfg', lambda config: config)
    assert build_runner(ade).log_processor == dict(by_epoch=False, type='LogProcessor')


def test_any_default_hook_can_be_left_out(ade: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dpt.engine.runner.Runner.from_cfg', lambda config: config)
    ade.default_hooks.update(visualization=None, non_finite=None, timer=None)
    hooks = build_runner(ade).default_hooks
    assert not {'visualization', 'non_finite'} & set(hooks)
    assert hooks['timer'] is None  # one of the engine's: without an entry it would add it


def test_a_wrong_argument_is_one_line_and_a_bug_is_not(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        MODELS.build(dict(type='DPTHead', in_channels=4, num_classes=2, norm_cfg=None))
    assert "DPTHead.__init__() got an unexpected keyword argument 'norm_cfg'" in capsys.readouterr().err
    with pytest.raises(TypeError), one_line_errors():
        len(1)  # type: ignore[arg-type]


def test_cpu_processes_need_torchrun(ade: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(ValueError, match='torchrun'):
        build_runner(ade, 'pytorch')
    with pytest.raises(ValueError, match='slurm'):
        build_runner(ade, 'slurm')


def test_weights_come_from_one_place(ade: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    build_runner(ade)
    assert ade.model.backbone.init_cfg.checkpoint == 'pretrain/vit-b16_p16_224-80ecf9dd.pth'
    ade.load_from = 'trained.pth'
    build_runner(ade)
    assert ade.model.backbone.init_cfg is None
    assert ade.model.init_cfg == dict(type='Pretrained', checkpoint='trained.pth')
    assert ade.load_from is None


def test_a_misspelt_key_is_told_with_its_neighbour(repository: Path) -> None:
    with pytest.raises(ValueError, match='dataroot: no such key in the config; did you mean data_root'):
        load_config(str(repository / ADE), dict(dataroot='/x'))


def test_modules_can_be_named_as_an_option(repository: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'parts_named_as_an_option.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    load_config(str(repository / ADE), {'custom_imports.imports': ['parts_named_as_an_option']})
    assert 'parts_named_as_an_option' in sys.modules


def test_loading_in_the_main_process_just_works(ade: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', lambda config: config)
    ade.train_dataloader.num_workers = 0
    build_runner(ade)
    assert ade.train_dataloader.persistent_workers is False
    assert ade.val_dataloader.persistent_workers is True


def test_a_damaged_checkpoint_is_told_before_resuming(ade: Config, tmp_path: Path) -> None:
    (tmp_path / 'iter_1.pth').write_bytes(b'PK\x03\x04 cut short')
    ade.resume, ade.load_from = True, str(tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match='iter_1.pth'):
        build_runner(ade)


def test_a_config_that_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / 'broken.py'
    path.write_text('max_iters = 1\nmodel = dict(\n')
    with pytest.raises(ValueError, match=r"broken\.py or a base of it, line 2: '\(' was never closed: model"):
        load_config(str(path))


@pytest.mark.parametrize('gpu', [False, True])
def test_batches_for_a_gpu_are_page_locked(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    config = Config(
        dict(train_dataloader=dict(batch_size=1), val_dataloader=dict(pin_memory=False), test_dataloader=None)
    )
    launch._fit_dataloaders(config)
    assert config.train_dataloader.get('pin_memory', False) == gpu
    assert config.val_dataloader.pin_memory is False
