"""LogProcessor."""

from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from dpt.engine import LogProcessor
from dpt.engine.loop import IterBasedTrainLoop


@pytest.mark.parametrize(('window', 'kept'), [(10, 1000), (1200, 1200), ('global', 1500)])
def test_values_needed_for_averages_are_kept(
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


def test_time_left_includes_validations_once_one_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '  eta: 0:00:00'
    monkeypatch.setattr('mmengine.runner.LogProcessor.get_log_after_iter', lambda *_: ({}, line))
    loop = object.__new__(IterBasedTrainLoop)
    loop.length, loop.val_begin = 1000, 300
    loop.dynamic_milestones, loop.dynamic_intervals = [0, 500], [100, 250]  # at 300, 400, 500, 750, 1000
    loop.validation_seconds, loop._epoch = [], 0
    hub = MessageHub('eta')
    runner = SimpleNamespace(message_hub=hub, max_iters=1000, train_loop=loop, val_loop=object())
    loop._runner = runner
    processor = LogProcessor(by_epoch=False)

    def log(iteration: int, seconds: float) -> tuple[float | None, str]:
        monkeypatch.setattr('time.time', lambda: seconds)
        runner.iter, loop._iter = iteration - 1, iteration - 1
        tag, printed = processor.get_log_after_iter(runner, 0, 'train')
        return tag.get('eta'), printed.partition(line)[2].split('  memory')[0]

    assert log(50, 100.0) == (None, '')
    assert log(100, 200.0) == (2 * 900, '  not in eta: 5 validations')
    loop.validation_seconds.append(60.0)  # at 300
    assert log(350, 760.0) == (2 * 650 + 4 * 60, '')
    assert log(1000, 2060.0) == (60, '')  # the last one
