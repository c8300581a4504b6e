"""Users' mistakes are printed in one line; bugs keep their traceback."""

import argparse
import errno
import os
import re
import sys

import pytest
from mmcv.transforms import RandomResize
from torch.utils.data import DataLoader

from dpt.cli import add_common_arguments, explain, one_line_errors
from dpt.registry import MODELS

FROM_WORKER = (
    'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
    '  File "x.py", line 1\nValueError: mask a.png: 3 channels\n'
)
UNKNOWN = "__init__() got an unexpected keyword argument 'chanels'"


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('no image in data/x'), 'no image in data/x'),
        (ValueError(FROM_WORKER), 'mask a.png: 3 channels'),
        (KeyError('model'), "the config lacks the key 'model'"),
        (KeyError('Foo is not in the registry'), 'Foo is not in the registry'),
        (
            FileExistsError(errno.EEXIST, 'File exists', 'out'),
            'out: File exists; give another path, or move it away',
        ),
        (
            OSError(errno.ENOSPC, 'No space left'),
            'No space left; the disk is full: free some space, or give a path on another disk',
        ),
        (OSError(errno.EIO, 'Input/output error', 'out'), "[Errno 5] Input/output error: 'out'"),
        (FileNotFoundError('no checkpoint in out'), 'no checkpoint in out'),
        (AssertionError('failed to load image: a.jpg'), 'failed to load image: a.jpg'),
        (AssertionError('shape'), None),
        (TypeError(UNKNOWN), UNKNOWN),
        (TypeError('unsupported operand'), None),
        (RuntimeError('CUDA error'), None),
        (
            ImportError('Please run "pip install wandb" to install wandb'),
            'Please run "pip install wandb" to install wandb',
        ),
        (ImportError("cannot import name 'x' from 'dpt'"), None),
    ],
)
def test_what_is_explained(error: Exception, line: str | None) -> None:
    assert explain(error) == line


def test_bugs_keep_their_traceback_and_mistakes_exit_with_1(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(RuntimeError, match='bug'), one_line_errors():
        raise RuntimeError('bug')
    with pytest.raises(SystemExit) as caught, one_line_errors():
        MODELS.build(dict(type='DPTHead', in_channels=4, num_classes=2, norm_cfg=None))
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert "DPTHead.__init__() got an unexpected keyword argument 'norm_cfg'" in error.splitlines()[0]


def test_an_option_without_value_is_shown(capsys: pytest.CaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a=1', 'foo'])
    assert '--cfg-options foo: expected KEY=VALUE' in capsys.readouterr().err
    assert parser.parse_args(['--cfg-options', 'a=1', 'b.c=x=2']).cfg_options == {'a': '1', 'b.c': 'x=2'}


def test_assertions_about_arguments_are_quoted() -> None:
    loader = DataLoader([0], collate_fn=RandomResize(scale=(8, 8), ratio_range=(2.0, 0.5)), num_workers=1)
    for fails in (lambda: loader.collate_fn({}), lambda: next(iter(loader))):
        with pytest.raises(AssertionError) as caught:
            fails()
        assert re.match(r'assert .*ratio.* failed in mmcv/transforms', explain(caught.value))


def test_a_closed_output_ends_silently(capsys: pytest.CaptureFixture, monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed, monkeypatch.context() as patch:
        patch.setattr(sys, 'stdout', closed)
        with pytest.raises(SystemExit), one_line_errors():
            print('a line', flush=True)
    assert not capsys.readouterr().err
    with pytest.raises(SystemExit), one_line_errors():
        raise BrokenPipeError(errno.EPIPE, 'Broken pipe')
    assert 'Broken pipe' in capsys.readouterr().err
