"""Arguments, verdicts and data of speed_gpu.py; what it measures needs a GPU."""

import json

import pytest
import speed_gpu
import torch
from speed_gpu import ROWS, Line, parse_args
from speed_gpu_worker import Settings

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
    assert ' '.join(line.text(judged=True).split()) == 'rate 300.00 90.00 images/s 3.333 >= 3 holds'
    assert Line('rate', 260.0, 'images/s', 270, at_least=True).text(judged=True).endswith('FAILS')
    assert line.text(judged=False).endswith('-')  # a smoke run


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


def test_smoke_run_exits_with_2(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    measured = found()
    calls = []

    def worker(python: str, script: str, arguments: list[str], **environment: str) -> dict:
        calls.append((python, script, arguments[0]))
        return dict(measured[arguments[0]][0], machine='fake')

    monkeypatch.setattr(speed_gpu, 'run_worker', worker)
    monkeypatch.setattr(speed_gpu, 'write_data', lambda root, count: None)
    rows = ['--rows', 'train,latency', '--rounds', '1', '--peer-python', 'peer']
    assert speed_gpu.main([*rows, '--device', 'cpu', '--json', str(tmp_path / 'a.json')]) == 2
    assert 'smoke run' in capsys.readouterr().out
    assert [script for python, script, _ in calls if python == 'peer'] == 2 * ['speed_gpu_worker.py']
    assert set(json.loads((tmp_path / 'a.json').read_text())['found']) == {'train', 'latency'}
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert speed_gpu.main(rows) == 2
    assert capsys.readouterr().err.endswith('found; use --device cpu for a smoke run, see --help\n')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert speed_gpu.main(rows) == 0
    measured['latency'][0]['seconds'] = 1.0
    assert speed_gpu.main(rows) == 1
