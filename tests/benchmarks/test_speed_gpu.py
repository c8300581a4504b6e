"""Arguments, verdicts and measurements of speed_gpu.py, on a CPU; its figures need a GPU."""

import json
import math
import subprocess
import time
from pathlib import Path

import cv2
import pytest
import speed
import speed_gpu
import torch
from mmengine.config import Config
from speed_data import photo, segments
from speed_gpu import ROWS, Line, parse_args
from speed_gpu_worker import MEASUREMENTS, Settings
from speed_worker import DPTSide

BASE = dict(seconds=16 / 400, added_mib=100.0, flops=16 * 1.3e12, matrix_rate=8e14)


def found(**changes: dict) -> speed_gpu.Found:
    one = {
        'train': BASE,
        'train-compiled': dict(BASE, seconds=16 / 380, added_mib=1000.0),
        'reference-fp32': dict(seconds=16 / 90, added_mib=900.0),
        'reference-amp': dict(seconds=16 / 130, added_mib=400.0),
        'train-2': dict(seconds=2 / 150),
        'train-2-compiled': dict(seconds=2 / 200),
        'train-2-graphs': dict(seconds=2 / 300),
        'loss-torch': dict(seconds=0.01, error=1e-6),
        'loss-triton': dict(seconds=0.002, error=1e-6),
        'infer': dict(seconds=16 / 1000),
        'latency': dict(seconds=3.5e-3),
        'evaluate': dict(seconds=50.0),
        'evaluate-amp': dict(seconds=29.0),
        'evaluate-views': dict(seconds=170.0),
        'evaluate-views-amp': dict(seconds=400.0),
        'data': dict(data_wait=0.02, images_per_s=290.0),
    }
    return {name: [dict(result, **changes.get(name, {}))] for name, result in one.items()}


def failing(**changes: dict) -> list[str]:
    """Return the lines that do not hold, by what they are about."""
    measured = found(**{name.replace('_', '-'): change for name, change in changes.items()})
    lines = []
    for row in ROWS:
        lines += row.lines({name: measured[name] for name in row.measurements}, Settings())
    return [line.what.strip() for line in lines if not line.holds()]


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, []),
        (dict(train=dict(BASE, machine='NVIDIA H200')), []),
        (dict(train=dict(BASE, seconds=16 / 390, machine='NVIDIA H200')), ['the faster one']),
        (dict(infer=dict(seconds=16 / 1000, machine='NVIDIA H200')), ['inference, bf16, batch 16']),
        (dict(train=dict(added_mib=210.0)), ['memory added per image, against bf16 AMP']),
        (dict(reference_amp=dict(seconds=16 / 140)), ['against bf16 AMP']),
        (dict(train_2_graphs=dict(seconds=2 / 270)), ['the fastest, against 16 images']),
        (dict(loss_triton=dict(seconds=0.02)), ['cross-entropy by Triton, against torch']),
        (dict(loss_triton=dict(error=1e-4)), ['largest error of the gradient']),
        (dict(infer=dict(seconds=16 / 890)), ['inference, bf16, batch 16']),
        (dict(latency=dict(seconds=4.1e-3)), ['inference, bf16, batch 1, median latency']),
        (dict(evaluate_amp=dict(seconds=31.0)), ['the faster one']),
        (dict(evaluate_views=dict(seconds=181.0)), ['the faster one']),
        (dict(data=dict(data_wait=0.031)), ['time spent waiting for data']),
    ],
)
def test_figures_beyond_limits_fail_their_lines(changes: dict, expected: list[str]) -> None:
    assert failing(**changes) == expected


def test_the_faster_training_counts_with_its_own_memory() -> None:
    slow = dict(seconds=16 / 300)
    assert failing(train=slow) == ['against bf16 AMP', 'memory added per image, against bf16 AMP']
    assert 'the faster one' in failing(train=slow, train_compiled=slow)


def test_line_shows_figures_limit_and_verdict() -> None:
    line = Line('rate', 300.0, 'images/s', 3, at_least=True, reference=90.0)
    assert line.text(judged=True) == '| rate | 300.00 | 90.00 | images/s | 3.333 | at least 3 | holds |'
    slow = Line('rate', 260.0, 'images/s', 270, at_least=True)
    assert slow.text(judged=True) == '| rate | 260.00 |  | images/s |  | at least 270 | **fails** |'
    assert line.text(judged=False).endswith('| at least 3 |  |')  # a smoke run


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--rows', 'infer,speed'], "unknown ['speed']"),
        (['--rows', 'infer', '--batch-size', '0'], '--batch-size 0'),
        (['--rows', 'infer', '--size', '100'], '--size 100'),
    ],
)
def test_wrong_arguments_exit_with_message(arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        parse_args(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Figures that stand for those of a GPU; an exception is raised instead."""
    figures = found()
    for name, (result,) in figures.items():
        figures[name] = dict(result, machine='fake')

    def worker(python: str, script: str, arguments: list[str], **options: object) -> dict:
        result = figures[arguments[0]]
        assert (python == 'peer') == arguments[0].startswith('reference')
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(speed_gpu, 'run_worker', worker)
    monkeypatch.setattr(speed_gpu, 'write_data', lambda root, count: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    return figures


def test_smoke_run_exits_with_2(tmp_path, measured: dict, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    rows = ['--rows', 'train,latency', '--rounds', '1', '--peer-python', 'peer']
    assert speed_gpu.main([*rows, '--device', 'cpu', '--json', str(tmp_path / 'a.json')]) == 2
    assert 'smoke run' in capsys.readouterr().out
    assert set(json.loads((tmp_path / 'a.json').read_text())['found']) == {
        *('train', 'train-compiled', 'reference-fp32', 'reference-amp', 'latency')
    }
    assert speed_gpu.main(rows) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('`python benchmarks/speed_gpu.py --rows train,latency --rounds 1 ')
    assert '| training, bf16, eager | 400.00 |  | images/s |  |  |  |' in printed
    measured['latency']['seconds'] = 1.0
    assert speed_gpu.main(rows) == 1
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert speed_gpu.main(rows) == 2
    assert capsys.readouterr().err.endswith('found; use --device cpu for a smoke run, see --help\n')


@pytest.mark.parametrize('failed', sorted(found()))
def test_failed_measurement_leaves_the_others(failed: str, measured: dict, capsys) -> None:
    whole = speed_gpu.main(['--peer-python', 'peer'])
    lines = capsys.readouterr().out.splitlines()
    measured[failed] = speed.WorkerError('out of memory')
    assert whole == 0
    assert speed_gpu.main(['--peer-python', 'peer']) == 1
    printed = capsys.readouterr().out
    assert f'{failed}, round 1: out of memory' in printed
    same = set(lines) & set(printed.splitlines())
    assert len(same) >= len(lines) - 8  # the longest row
    assert 'nan' in printed


def test_rounds_end_with_the_time(measured: dict, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now.__setitem__(0, now[0] + 1) or now[0])
    rows = ['--rows', 'infer,latency', '--peer-python', 'peer', '--minutes']
    assert speed_gpu.main([*rows, str(6.5 / 60)]) == 0  # the second round has begun
    assert 'no time was left' not in capsys.readouterr().out
    assert speed_gpu.main([*rows, str(2 / 60)]) == 1
    assert 'latency, round 1: no time was left: raise --minutes' in capsys.readouterr().out


def test_worker_is_ended_with_its_own_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'slow').write_text(f'sleep 1000 & touch {tmp_path}/started; wait')
    (tmp_path / 'wrong').write_text('echo no such device >&2; exit 1')
    communicate = subprocess.Popen.communicate

    def wait(worker: subprocess.Popen, timeout: float | None = None) -> tuple[str, str]:
        while timeout is not None and not (tmp_path / 'started').exists():
            time.sleep(0.01)
        # After the end, any process that is left would keep the pipes open.
        return communicate(worker, timeout=60 if timeout is None else 0)

    monkeypatch.setattr(speed, 'HERE', tmp_path)
    with pytest.raises(speed.WorkerError, match='no such device'):
        speed.run_worker('/bin/sh', 'wrong', [])
    monkeypatch.setattr(subprocess.Popen, 'communicate', wait)
    with pytest.raises(speed.WorkerError, match='slow .*took longer than 400 s'):
        speed.run_worker('/bin/sh', 'slow', [], timeout=400)


class Tiny(DPTSide):
    """The published config with a narrow model."""

    def config(self) -> Config:
        loaded = super().config()
        model = loaded.model
        model.backbone.update(embed_dims=24, num_layers=4, num_heads=3, out_indices=(0, 1, 2, 3))
        model.neck.update(in_channels=24, channels=8, post_process_channels=(4, 6, 8, 12))
        model.decode_head.update(in_channels=8)
        return loaded


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images for training and validation."""
    root = tmp_path_factory.mktemp('data')
    for part, name in (('training', 'ADE_train'), ('validation', 'ADE_val')):
        for kind, draw, suffix in (('images', photo, 'jpg'), ('annotations', segments, 'png')):
            folder = root / kind / part
            folder.mkdir(parents=True)
            for i in range(3):
                cv2.imwrite(str(folder / f'{name}_{i:08d}.{suffix}'), draw(64, 80, i))
    return root


@pytest.mark.parametrize(
    'name',
    ['train', 'loss-torch', 'infer', 'latency', 'evaluate-views-amp', 'data'],
)
def test_measurements_run_on_a_cpu(name: str, images: Path) -> None:
    sizes = dict(batch_size=2, size=64, images=3, iterations=2, warmup=1, workers=1)
    result = MEASUREMENTS[name](Settings(device='cpu', data=str(images), **sizes), Tiny())
    assert json.loads(json.dumps(result)) == result
    assert all(math.isfinite(value) and value >= 0 for value in result.values())
    expected = {'train': {'seconds', 'added_mib', 'flops', 'matrix_rate'}, 'loss': {'seconds', 'error'}}
    expected['data'] = {'data_wait', 'images_per_s'}
    assert result.keys() == expected.get(name.partition('-')[0], {'seconds'})
    assert result.get('error', 0) < 1e-5
