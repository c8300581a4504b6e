"""CheckpointHook: when it saves, which checkpoints it keeps, and the best one."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from dpt.engine.checkpointing import CheckpointHook
from dpt.evaluation import IoUMetric


class Runner:
    """Minimal runner; the bias of its model counts the iterations."""

    experiment_name, seed, epoch, iter, max_iters = 'test', 0, 0, 0, 100

    def __init__(self, work_dir: Path, **options: object) -> None:
        self.work_dir = str(work_dir)
        self.cfg, self.logger = Config(), logging.getLogger('test_checkpoint_hook')
        self.message_hub = MessageHub(f'test_checkpoint_hook_{id(self)}')
        self.model = nn.Linear(2, 1)
        self.optim_wrapper = OptimWrapper(torch.optim.AdamW(self.model.parameters()))
        self.param_schedulers: list = []
        self.train_dataloader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('a', 'b'))))
        options = dict(dict(interval=2, by_epoch=False, max_keep_ckpts=2, save_best='mIoU'), **options)
        self.hook = CheckpointHook(**options)
        self.hook.before_train(self)

    def call_hook(self, name: str, **arguments: object) -> None:
        if hasattr(self.hook, name):
            getattr(self.hook, name)(self, **arguments)

    def train(self, until: int) -> None:
        while self.iter < until:
            nn.init.constant_(self.model.bias, self.iter + 1)
            self.hook.after_train_iter(self, self.iter)
            self.iter += 1

    def validate(self, score: float) -> None:
        self.hook.after_val_epoch(self, {'mIoU': np.float64(score), 'aAcc': 90.0})

    def files(self) -> set[str]:
        self.hook.after_train(self)
        return {path.name for path in Path(self.work_dir).iterdir()}


def load(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)


def test_the_last_checkpoints_and_the_best_one_are_kept(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    for iteration, score in ((2, 40.0), (4, 50.0), (6, 30.0), (8, 45.0)):
        runner.train(iteration)
        runner.validate(score)
    best = 'best_mIoU_iter_4.pth'
    assert runner.files() == {'iter_6.pth', 'iter_8.pth', best, 'last_checkpoint'}
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_8.pth'
    assert load(tmp_path, 'iter_8.pth')['state_dict']['bias'].item() == 8
    assert load(tmp_path, best)['state_dict']['bias'].item() == 4
    assert 'optimizer' not in load(tmp_path, best)
    assert load(tmp_path, best)['meta']['metric'] == {'mIoU': 50.0, 'aAcc': 90.0}
    assert 'metric' not in load(tmp_path, 'iter_8.pth')['meta']


def test_the_best_checkpoint_survives_a_resume(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    runner.train(2)
    runner.validate(50.0)
    assert 'best_mIoU_iter_2.pth' in runner.files()
    resumed = Runner(tmp_path)
    checkpoint = load(tmp_path, 'iter_2.pth')  # saved before the validation and again after it
    assert checkpoint['meta']['metric']['mIoU'] == 50.0
    resumed.message_hub.runtime_info.update(checkpoint['message_hub']['runtime_info'])
    resumed.iter = 2
    resumed.train(4)
    resumed.validate(45.0)
    assert resumed.files() == {'iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_2.pth', 'last_checkpoint'}
    resumed.train(6)
    resumed.validate(51.0)
    assert resumed.files() == {'iter_4.pth', 'iter_6.pth', 'best_mIoU_iter_6.pth', 'last_checkpoint'}


def test_old_checkpoints_are_deleted_after_the_new_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(tmp_path, max_keep_ckpts=1)
    runner.train(2)
    assert runner.files() == {'iter_2.pth', 'last_checkpoint'}

    def full(content: dict, path: Path) -> None:
        raise OSError('no space left')

    monkeypatch.setattr('dpt.engine.checkpointing.write_checkpoint', full)
    runner.train(4)
    with pytest.raises(OSError, match='no space left'):
        runner.files()
    assert runner.files() == {'iter_2.pth', 'last_checkpoint'}
    assert (tmp_path / 'last_checkpoint').read_text() == 'iter_2.pth'


def test_a_failed_write_ends_the_training_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: dict, path: Path) -> None:
        raise OSError('no space left')

    runner = Runner(tmp_path, interval=10)
    monkeypatch.setattr('dpt.engine.checkpointing.write_checkpoint', full)
    runner.train(10)
    runner.hook.close()
    with pytest.raises(OSError, match='no space left'):
        runner.train(11)


def test_an_iteration_is_saved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr('dpt.engine.checkpointing.write_checkpoint', lambda _, path: written.append(path))
    runner = Runner(tmp_path)
    runner.train(3)
    runner.hook.save(runner)  # as after a signal
    runner.hook.save(runner)
    assert [path.name for path in written] == ['iter_2.pth', 'iter_3.pth']


def test_entries_of_the_hub_that_are_not_saved_are_named(tmp_path: Path, caplog) -> None:
    runner = Runner(tmp_path)
    runner.message_hub.update_info('seen', {1, 2})
    runner.message_hub.update_info('count', 3)
    runner.train(4)
    runner.files()
    assert [record.getMessage() for record in caplog.records if record.levelname == 'WARNING'] == [
        "checkpoints do not contain the entry 'seen' of the message hub: set is not plain data; store "
        'numbers, strings, tensors, or lists and dicts of these'
    ]
    assert load(tmp_path, 'iter_4.pth')['message_hub']['runtime_info']['count'] == 3


def test_wrong_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='intervall'):
        CheckpointHook(intervall=3)
    with pytest.raises(ValueError, match='expected a local folder'):
        Runner(tmp_path, out_dir='s3://bucket')
    runner = Runner(tmp_path, save_best='mFscore', rule='greater')
    with pytest.raises(ValueError, match="save_best='mFscore' is not one of the metrics: mIoU, aAcc"):
        runner.validate(50.0)


def test_checkpoints_may_go_to_another_folder(tmp_path: Path) -> None:
    runner = Runner(tmp_path / 'work', out_dir=str(tmp_path / 'store'))
    runner.train(2)
    assert runner.files() == {'last_checkpoint'}
    assert (tmp_path / 'work/last_checkpoint').read_text() == '../store/work/iter_2.pth'
    assert load(tmp_path / 'store/work', 'iter_2.pth')['meta']['iter'] == 2


def test_more_is_better_for_every_score_of_the_metric() -> None:
    scores = IoUMetric(iou_metrics=['mIoU', 'mDice', 'mFscore']).score_names
    assert set(CheckpointHook(save_best=list(scores)).rules) == {'greater'}
