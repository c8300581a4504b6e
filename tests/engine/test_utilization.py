"""MFU in the line of the log."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from dpt.config.load import load_config
from dpt.engine import LogProcessor, UtilizationHook, build_runner
from dpt.extras.profiling import training_flops


class Log:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def config(repository: Path) -> Config:
    return load_config(str(repository / 'configs' / 'quickstart.py'))


def runner(config: Config, **attributes: object) -> SimpleNamespace:
    plain = SimpleNamespace()
    return SimpleNamespace(
        cfg=config,
        model=torch.nn.Linear(1, 1),
        optim_wrapper=plain,
        log_processor=LogProcessor(by_epoch=False),
        logger=Log(),
        **attributes,
    )


def test_the_step_is_counted_and_the_device_measured_in_the_type_of_the_run(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        'dpt.extras.profiling.utilization.matrix_rate', lambda *what: asked.append(what) or 5e12
    )
    one = runner(config)
    one.optim_wrapper.cast_dtype = torch.bfloat16
    UtilizationHook().before_train(one)
    assert asked == [(torch.device('cpu'), torch.bfloat16)]
    assert one.log_processor.utilization == (training_flops(config.model, (1, 3, 96, 128)), 5e12)
    assert 'MFU is the share of 5 TFLOP/s, measured on bfloat16 matrices' in one.logger.lines[0]


def test_nothing_is_drawn(config: Config) -> None:
    def state() -> tuple:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    one = runner(config)
    before = state()
    UtilizationHook().before_train(one)
    assert one.log_processor.utilization is not None
    assert state() == before


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda config: config.model.data_preprocessor.pop('size'), 'size is not set'),
        (lambda config: config.model.update(type='Nonsense'), 'KeyError'),
    ],
)
def test_where_it_cannot_be_counted_training_goes_on_and_the_log_says_why(
    config: Config, change, reason: str
) -> None:
    change(config)
    one = runner(config)
    UtilizationHook().before_train(one)
    assert one.log_processor.utilization is None
    assert one.logger.lines[0].startswith('MFU is not shown: ')
    assert reason in one.logger.lines[0]


def test_every_training_has_the_hook(config: Config, tmp_path: Path) -> None:
    config.work_dir = str(tmp_path)
    for loader in ('train', 'val', 'test'):
        for key in ('cfg', 'dataloader', 'evaluator'):
            config.pop(f'{loader}_{key}', None)
    config.optim_wrapper = config.param_scheduler = None
    assert any(isinstance(hook, UtilizationHook) for hook in build_runner(config).hooks)


@pytest.mark.parametrize('processes', [1, 4])
def test_the_line_shows_the_share(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr('dpt.engine.logging.get_world_size', lambda: processes)
    tag = dict(time=0.5, data_time=0.05)
    monkeypatch.setattr(
        'mmengine.runner.LogProcessor.get_log_after_iter', lambda *_: (dict(tag), 'Iter(train)')
    )
    processor = LogProcessor(by_epoch=False)
    loader = SimpleNamespace(batch_size=3)
    loop = SimpleNamespace(train_dataloader=loader, iter=0, max_iters=9, message_hub=MessageHub('line'))
    _, line = processor.get_log_after_iter(loop, 0, 'train')
    assert 'MFU' not in line
    processor.utilization = (10, 240.0)
    tag, line = processor.get_log_after_iter(loop, 1, 'train')
    # 3 images in half a second on each device: 60 of 240 operations a second.
    assert tag['mfu'] == pytest.approx(0.25)
    assert 'MFU: 25.0%  data wait: 10%' in line


@pytest.mark.parametrize(('window', 'kept'), [(10, 1000), (1200, 1200), ('global', 1500)])
def test_of_a_long_training_the_values_that_lines_average_over_are_kept(
    monkeypatch: pytest.MonkeyPatch, window: int | str, kept: int
) -> None:
    monkeypatch.setattr('mmengine.runner.LogProcessor.get_log_after_iter', lambda *_: ({}, ''))
    hub = MessageHub('long')
    for value in range(1500):
        hub.update_scalar('train/loss', value)
        hub.update_scalar('val/mIoU', value)
    one = dict(data_src='loss', method_name='mean', window_size=window)
    processor = LogProcessor(by_epoch=False, custom_cfg=[one])
    processor._began = (0.0, 0)
    processor.get_log_after_iter(SimpleNamespace(message_hub=hub, iter=1499, max_iters=2000), 0, 'train')
    assert hub.get_scalar('train/loss').data[0].tolist() == list(range(1500 - kept, 1500))
    assert len(hub.get_scalar('val/mIoU').data[0]) == 1500
    hub.update_scalar('train/loss', 1500)
    assert hub.get_scalar('train/loss').current() == 1500
