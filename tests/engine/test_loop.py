"""Training loops: sample order, resuming, stopping, validation, logs."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from dpt.engine import Runner
from dpt.engine.stop import STOPPED, stop_status
from dpt.extras.logs import read_run
from dpt.registry import HOOKS

Train = Callable[..., Runner]
ITERATIONS = {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=8, val_interval=8)}
EPOCHS = {
    'train_cfg': dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=2, val_interval=2),
    'param_scheduler': [dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=True, begin=0, end=4)],
    'default_hooks.checkpoint.by_epoch': True,
    'log_processor.by_epoch': True,
}
SHUFFLED = {'train_dataloader.sampler': dict(type='DefaultSampler', shuffle=True)}
ENDLESS = {'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True)}
DROPPING = {'train_dataloader.drop_last': True}


@HOOKS.register_module()
class Recorder(Hook):
    """Records the images of each iteration and the hook calls; can send SIGTERM after an iteration."""

    images: list[list[str]] = []
    calls: list[str] = []
    stop_after: int | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self.images.append([Path(one.img_path).stem for one in data_batch['data_samples']])
        self.calls.append(f'iter {batch_idx}')
        assert runner.model.training

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: object, **__: object) -> None:
        if self.stop_after == runner.iter + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_train_epoch(self, runner: Runner) -> None:
        self.calls.append(f'epoch {runner.epoch} begins')

    def after_train_epoch(self, runner: Runner) -> None:
        self.calls.append(f'epoch {runner.epoch} ends')

    def before_val(self, runner: Runner) -> None:
        self.calls.append(f'validation after {runner.iter}')


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    for name, value in (('images', []), ('calls', []), ('stop_after', None)):
        monkeypatch.setattr(Recorder, name, value)
    return Recorder


RECORD = {'custom_hooks': [dict(type='Recorder')]}


def weights(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)['state_dict']


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ('options', 'middle', 'last'),
    [
        ({**ITERATIONS, **ENDLESS}, 'iter_3.pth', 'iter_8.pth'),
        ({**ITERATIONS, **SHUFFLED}, 'iter_3.pth', 'iter_8.pth'),
        ({**ITERATIONS, **SHUFFLED, **DROPPING}, 'iter_3.pth', 'iter_8.pth'),
        ({**EPOCHS, **ENDLESS}, 'epoch_1.pth', 'epoch_2.pth'),
        ({**EPOCHS, **SHUFFLED}, 'epoch_1.pth', 'epoch_2.pth'),
        ({**EPOCHS, **SHUFFLED, **DROPPING}, 'epoch_1.pth', 'epoch_2.pth'),
    ],
    ids=['iterations', 'iterations-finite', 'iterations-drop', 'epochs-endless', 'epochs', 'epochs-drop'],
)
def test_resumed_trainings_equal_uninterrupted_ones(
    options: dict, middle: str, last: str, train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    train(tmp_path / 'a', **options, **RECORD)
    whole, recorder.images = recorder.images, []
    train(tmp_path / 'b', str(tmp_path / 'a' / middle), **options, **RECORD)
    assert recorder.images
    assert recorder.images == whole[-len(recorder.images) :]
    assert equal(weights(tmp_path / 'a', last), weights(tmp_path / 'b', last))


@pytest.mark.parametrize(
    ('options', 'last'), [({**ITERATIONS, **ENDLESS}, 'iter_8.pth'), ({**EPOCHS, **SHUFFLED}, 'epoch_2.pth')]
)
def test_stopped_trainings_resume_exactly(
    options: dict, last: str, train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    train(tmp_path / 'a', **options)
    recorder.stop_after = 6  # in the middle of the second epoch
    stopped = train(tmp_path / 'b', **options, **RECORD)
    assert stop_status(stopped) == STOPPED
    assert stopped.iter == 6
    assert (tmp_path / 'b' / 'last_checkpoint').read_text() == 'iter_6.pth'
    recorder.stop_after = None
    resumed = train(tmp_path / 'b', 'auto', **options)
    assert stop_status(resumed) == 0
    assert equal(weights(tmp_path / 'a', last), weights(tmp_path / 'b', last))


def test_epochs_resume_from_checkpoints_by_iteration(
    train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    options = {**EPOCHS, **SHUFFLED, 'default_hooks.checkpoint.by_epoch': False}
    train(tmp_path / 'a', **options)
    train(tmp_path / 'b', str(tmp_path / 'a' / 'iter_4.pth'), **options, **RECORD)  # between the epochs
    assert recorder.calls == [
        *('epoch 0 ends', 'epoch 1 begins', 'iter 0', 'iter 1', 'iter 2', 'iter 3', 'epoch 1 ends'),
        'validation after 8',
    ]
    assert equal(weights(tmp_path / 'a', 'iter_8.pth'), weights(tmp_path / 'b', 'iter_8.pth'))
    done = train(tmp_path / 'c', str(tmp_path / 'a' / 'iter_8.pth'), **options)
    assert done.iter == 8


@pytest.mark.parametrize('hook', [dict(type='EMAHook'), dict(type='EMAHook', momentum=0.5)])
def test_averaged_weights_resume_exactly(hook: dict, train: Train, tmp_path: Path) -> None:
    train(tmp_path / 'a', **ITERATIONS, **ENDLESS, custom_hooks=[hook])
    train(tmp_path / 'b', str(tmp_path / 'a' / 'iter_3.pth'), **ITERATIONS, **ENDLESS, custom_hooks=[hook])
    assert equal(weights(tmp_path / 'a', 'iter_8.pth'), weights(tmp_path / 'b', 'iter_8.pth'))


def test_another_batch_continues_the_epoch_at_its_place(
    train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    recorder.stop_after = 2
    train(tmp_path, **EPOCHS, **SHUFFLED, **RECORD)
    seen = [name for batch in recorder.images for name in batch]
    recorder.stop_after, recorder.images, recorder.calls = None, [], []
    runner = train(tmp_path, 'auto', **EPOCHS, **SHUFFLED, **RECORD, total_batch_size=4)
    rest = recorder.images[0]
    assert len({*seen, *rest}) == 7  # the first epoch holds every image once
    assert recorder.calls[:2] == ['epoch 0 begins', 'iter 1']
    assert runner.epoch == 2
    assert runner.iter == runner.max_iters


@pytest.mark.parametrize(
    'options', [{'default_hooks.checkpoint': None}, {'default_hooks.checkpoint.save_optimizer': False}]
)
def test_a_stop_without_checkpoints_says_so(
    options: dict, train: Train, tmp_path: Path, recorder: type[Recorder], capsys: pytest.CaptureFixture
) -> None:
    recorder.stop_after = 2
    given = {**ITERATIONS, **RECORD}
    assert stop_status(train(tmp_path, **{**given, **options})) == 1
    assert 'no resumable checkpoint was saved' in capsys.readouterr().out


def test_epochs_call_hooks_as_mmengine_does(train: Train, tmp_path: Path, recorder: type[Recorder]) -> None:
    options = {**EPOCHS, **SHUFFLED, **RECORD}
    train(tmp_path, **{**options, 'train_cfg': {**EPOCHS['train_cfg'], 'val_interval': 1}})
    iterations = ['iter 0', 'iter 1', 'iter 2', 'iter 3']
    assert recorder.calls == [
        *('epoch 0 begins', *iterations, 'epoch 0 ends', 'validation after 4'),
        *('epoch 1 begins', *iterations, 'epoch 1 ends', 'validation after 8'),
    ]
    first, second = recorder.images[:4], recorder.images[4:]
    assert [len(batch) for batch in first] == [2, 2, 2, 1]
    assert len({name for batch in first for name in batch}) == 7
    assert first != second


def test_a_resumed_epoch_continues_where_it_stopped(
    train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    recorder.stop_after = 2
    train(tmp_path, **EPOCHS, **SHUFFLED, **RECORD)
    recorder.stop_after, recorder.calls = None, []
    train(tmp_path, 'auto', **EPOCHS, **SHUFFLED, **RECORD)
    assert recorder.calls[:4] == ['epoch 0 begins', 'iter 2', 'iter 3', 'epoch 0 ends']
    assert not (tmp_path / 'iter_2.pth').exists() or (tmp_path / 'epoch_2.pth').exists()


@pytest.mark.parametrize(
    ('given', 'validations'),
    [
        (dict(by_epoch=False, max_iters=6, val_interval=4), [4, 6]),
        (dict(by_epoch=True, max_epochs=2), [4, 8]),
        (dict(type='IterBasedTrainLoop', max_iters=6, val_begin=5, val_interval=2), [6]),
        (dict(type='IterBasedTrainLoop', max_iters=8, val_interval=4, dynamic_intervals=[(5, 2)]), [4, 6, 8]),
    ],
)
def test_validations_follow_the_config(
    given: dict, validations: list[int], train: Train, tmp_path: Path, recorder: type[Recorder]
) -> None:
    options = EPOCHS if given.get('by_epoch') else ITERATIONS
    runner = train(tmp_path, **dict(options, train_cfg=dict(given, _delete_=True)), **RECORD)
    found = [int(call.split()[-1]) for call in recorder.calls if call.startswith('validation')]
    assert found == validations
    assert type(runner.train_loop).__module__ == 'dpt.engine.loop'


def test_logs_of_epochs_have_the_iteration(train: Train, tmp_path: Path) -> None:
    options = {**EPOCHS, **SHUFFLED, 'default_hooks.logger.log_metric_by_epoch': True}
    train(tmp_path, **options)
    lines = [json.loads(line) for file in tmp_path.rglob('scalars.json') for line in file.open()]
    assert [line['iter'] for line in lines if 'loss' in line] == list(range(1, 9))
    assert [line['epoch'] for line in lines if 'loss' in line] == [1, 1, 1, 1, 2, 2, 2, 2]
    run = read_run(str(tmp_path))
    assert [line['step'] for line in run.val] == [8]


def test_the_batch_size_is_that_of_the_config(train: Train, tmp_path: Path) -> None:
    given = {'train_dataloader.batch_size': 3, 'total_batch_size': None}
    runner = train(tmp_path, **{**ITERATIONS, **given})
    assert runner.train_dataloader.batch_size == 3
    with pytest.raises(ValueError, match='set total_batch_size'):
        train(tmp_path, **ITERATIONS, total_batch_size=None)
    with pytest.raises(ValueError, match='fewer images than a batch'):
        train(tmp_path, **ITERATIONS, **DROPPING, total_batch_size=16)


def test_processes_must_share_the_total_batch(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('dpt.engine.loop.get_world_size', lambda: 3)
    with pytest.raises(ValueError, match='total_batch_size=2 cannot be shared equally by 3 processes'):
        train(tmp_path, **ITERATIONS)


def test_samplers_that_cannot_resume_are_rejected(train: Train, tmp_path: Path) -> None:
    options = {**ITERATIONS, 'train_dataloader.sampler': dict(type='mmengine.DefaultSampler', _delete_=True)}
    with pytest.raises(ValueError, match="use 'InfiniteSampler' or 'DefaultSampler'"):
        train(tmp_path, **options)
