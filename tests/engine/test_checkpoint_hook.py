"""Checkpoints hold nothing that unpickling would have to run."""

import collections
import logging

import numpy as np
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub

from dpt.engine.checkpoint_hook import CheckpointHook, plain, plain_entries


def test_plain_keeps_values_and_containers(tmp_path) -> None:
    value = {'a': (1, [np.float64(2.5), np.int64(3)]), 'b': torch.ones(2), 'c': np.arange(3), 4: None}
    copy = plain(collections.OrderedDict(value))
    torch.save(copy, tmp_path / 'plain.pth')
    loaded = torch.load(tmp_path / 'plain.pth', weights_only=True)
    assert loaded['a'] == (1, [2.5, 3])
    assert torch.equal(loaded['b'], torch.ones(2))
    assert loaded['c'].tolist() == [0, 1, 2]
    assert loaded[4] is None


def test_other_objects_are_refused_or_left_out() -> None:
    with pytest.raises(TypeError, match='deque'):
        plain({'a': [collections.deque()]})
    assert plain_entries({'a': 1, 'b': collections.deque()}) == {'a': 1}


class Runner:
    """What the hook needs of a runner that saves a best checkpoint."""

    def __init__(self, hook: CheckpointHook) -> None:
        self.hook, self.saved = hook, []
        self.iter = self.epoch = 0
        self.message_hub = MessageHub('test_checkpoint_hook')
        self.logger = logging.getLogger('test_checkpoint_hook')

    def save_checkpoint(self, out_dir: str, *, filename: str, meta: dict, **options: object) -> None:
        checkpoint = dict(meta=dict(meta), state_dict={}, message_hub=self.message_hub.state_dict())
        self.hook.before_save_checkpoint(self, checkpoint)
        self.saved.append((filename, checkpoint['meta'].get('metric')))


def test_the_metric_stands_in_the_best_checkpoint_alone(tmp_path) -> None:
    hook = CheckpointHook(by_epoch=False, save_best='mIoU', rule='greater')
    hook.out_dir, hook.file_backend, hook.best_ckpt_path = str(tmp_path), LocalBackend(), None
    runner = Runner(hook)
    hook._save_best_checkpoint(runner, {'mIoU': np.float64(40.5), 'aAcc': 90.0})
    hook._save_best_checkpoint(runner, {'mIoU': 30.0, 'aAcc': 95.0})
    runner.save_checkpoint(str(tmp_path), filename='iter_1.pth', meta={})
    assert runner.saved == [
        ('best_mIoU_iter_0.pth', {'mIoU': 40.5, 'aAcc': 90.0}),
        ('iter_1.pth', None),
    ]
