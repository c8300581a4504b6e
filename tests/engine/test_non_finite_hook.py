"""NonFiniteHook: skipped steps are counted, reported with their files, and limited."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper

from dpt.engine import non_finite
from dpt.engine.non_finite import SKIPPED, NonFiniteError, NonFiniteHook

SAMPLES = [SimpleNamespace(img_path='a.jpg'), SimpleNamespace(img_path='b.jpg')]


class Runner:
    """Minimal runner for the hook."""

    experiment_name, seed, epoch, iter = 'test', 0, 0, 0
    param_schedulers: list = []

    def __init__(self, folder: Path, count: int = 1) -> None:
        self.work_dir, self.cfg = str(folder), Config()
        self.logger = logging.getLogger('test_non_finite_hook')
        self.message_hub = MessageHub(f'test_non_finite_{id(self)}')
        self.model = torch.nn.Linear(1, 1)
        self.optim_wrapper = OptimWrapper(torch.optim.SGD(self.model.parameters()), accumulative_counts=count)
        self.train_dataloader = SimpleNamespace(dataset=None)
        self.train_loop = SimpleNamespace(batch_start=6)

    def call_hook(self, name: str, checkpoint: dict) -> None:
        pass

    def step(self, hook: NonFiniteHook, skipped: object, loss: float = 1.0, samples: list = SAMPLES) -> None:
        self.message_hub.update_info('samples_seen', 2 * (self.iter + 1))
        self.optim_wrapper.skipped = skipped
        outputs = dict(loss=torch.tensor(loss))
        self.optim_wrapper._inner_count += 1
        hook.after_train_iter(self, self.iter, dict(data_samples=samples), outputs)
        self.iter += 1


def test_skipped_steps_are_reported_with_a_state_to_repeat_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner, hook = Runner(tmp_path), NonFiniteHook()
    with caplog.at_level('WARNING'):
        for step in range(5):
            runner.step(hook, step == 3, torch.nan if step == 3 else 1.0)
    assert 'iteration 4: loss not finite; files: a.jpg, b.jpg' in caplog.text
    report = json.loads((tmp_path / 'non_finite/iter_3.json').read_text())
    assert report['batches'] == [dict(files=['a.jpg', 'b.jpg'], losses=dict(loss='nan'))]
    state = torch.load(tmp_path / 'non_finite/iter_3.pth', weights_only=True)
    assert state['meta']['iter'] == 3
    assert state['message_hub']['runtime_info']['samples_seen'] == 6
    assert runner.message_hub.get_info(SKIPPED) == 1


def test_all_accumulated_batches_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner, hook = Runner(tmp_path, count=2), NonFiniteHook()
    with caplog.at_level('WARNING'):
        runner.step(hook, False, torch.nan)
        runner.step(hook, True, samples=[SimpleNamespace(img_path='c.jpg')])
    assert 'iteration 2: loss not finite; files: a.jpg, b.jpg (' in caplog.text
    report = json.loads((tmp_path / 'non_finite/iter_1.json').read_text())
    assert [one['files'] for one in report['batches']] == [['a.jpg', 'b.jpg'], ['c.jpg']]
    assert not list(tmp_path.glob('non_finite/*.pth'))  # the gradients of the first batch are lost


def test_checkpoints_count_the_step_before_them(tmp_path: Path) -> None:
    runner, hook = Runner(tmp_path), NonFiniteHook(max_consecutive=1)
    runner.step(hook, torch.tensor(True))
    hook.before_checkpoint(runner)
    assert runner.message_hub.get_info(SKIPPED) == 1
    resumed = Runner(tmp_path)
    resumed.message_hub.runtime_info.update(runner.message_hub.runtime_info)
    with pytest.raises(NonFiniteError, match='2 steps in a row'):
        resumed.step(NonFiniteHook(max_consecutive=1), True)


def test_only_the_first_states_are_written(tmp_path: Path) -> None:
    runner, hook = Runner(tmp_path), NonFiniteHook(states=1)
    for _ in range(3):
        runner.step(hook, True)
    assert len(list(tmp_path.glob('non_finite/*.json'))) == 3
    assert len(list(tmp_path.glob('non_finite/*.pth'))) == 1


@pytest.mark.parametrize('on_device', [False, True])
def test_too_many_skipped_steps_are_an_error(tmp_path: Path, on_device: bool) -> None:
    def flag(value: bool) -> object:
        return torch.tensor(value) if on_device else value

    runner, hook = Runner(tmp_path), NonFiniteHook(max_consecutive=2, max_total=5)
    run(runner, hook, [flag(skipped) for skipped in (True, True, False, True, True, False, True, False)])
    with pytest.raises(NonFiniteError, match='gradient not finite.*max_total=5'):
        run(runner, hook, [flag(True), flag(False)])  # on a device the report is one step late
    runner, hook = Runner(tmp_path), NonFiniteHook(max_consecutive=2)
    with pytest.raises(NonFiniteError, match='3 steps in a row'):
        run(runner, hook, [flag(True)] * 3)


def run(runner: Runner, hook: NonFiniteHook, flags: list) -> None:
    for skipped in flags:
        runner.step(hook, skipped)
    hook.after_train(runner)


def test_the_policy_stop_raises_at_the_first_skipped_step(tmp_path: Path) -> None:
    runner, hook = Runner(tmp_path), NonFiniteHook('stop')
    runner.step(hook, False)
    with pytest.raises(NonFiniteError, match='iteration 2: gradient not finite; files: a.jpg'):
        runner.step(hook, True)
    with pytest.raises(ValueError, match='expected one of skip, stop'):
        NonFiniteHook('ignore')


def test_a_flag_on_a_gpu_is_read_after_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    flag, done = torch.tensor(False), []
    monkeypatch.setattr(torch.cuda, 'Event', lambda: SimpleNamespace(record=lambda: None, synchronize=arrive))

    def arrive() -> None:
        done.append(True)
        flag.fill_(True)

    on_gpu = SimpleNamespace(is_cuda=True, to=lambda device, non_blocking: flag)
    answer = non_finite._to_host(on_gpu)
    assert not done
    assert answer()
