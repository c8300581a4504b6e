"""LogProcessor."""

from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from dpt.engine import LogProcessor


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
