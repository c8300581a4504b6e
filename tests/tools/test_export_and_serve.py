"""``tools/export.py`` and ``tools/serve_onnx.py`` as a user runs them."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import Predictor
from dpt.export import ExportedSegmentor

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def main(tool_main):
    return tool_main('tools/export.py')


@pytest.fixture(scope='module')
def onnx_file(main, model_file, pictures, tmp_path_factory):
    """The tiny model for any size, as ONNX."""
    path = tmp_path_factory.mktemp('onnx') / 'tiny.onnx'
    assert main(model_file, '--format', 'onnx', '--out', path, '--check', pictures) == 0
    return path


def test_onnxruntime_computes_any_size_and_batch(onnx_file, model_file):
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    graph = ExportedSegmentor(Predictor(model_file, device='cpu').model).eval()
    random = np.random.default_rng(0)
    for shape in ((1, 120, 160), (3, 97, 131), (2, 65, 250), (1, 224, 64)):
        image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = graph(torch.from_numpy(image)).numpy()
        logits = session.run(None, {'image': image})[0]
        assert logits.shape == (shape[0], 6, *shape[1:])
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_server_needs_no_torch_and_gives_equal_labels(
    onnx_file, model_file, pictures, repository, tmp_path
):
    code = (
        'import sys, runpy\n'
        "for name in ('torch', 'dpt', 'mmcv', 'mmengine'): sys.modules[name] = None\n"
        f'sys.argv = {["serve", str(onnx_file), str(pictures / "a.png"), str(tmp_path / "labels.png")]!r}\n'
        f'runpy.run_path({str(repository / "tools" / "serve_onnx.py")!r}, run_name="__main__")\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    labels = cv2.imread(str(tmp_path / 'labels.png'), cv2.IMREAD_UNCHANGED)
    expected = Predictor(model_file, device='cpu')(pictures / 'a.png')
    assert labels.shape == expected.labels.shape
    assert (labels != expected.labels).mean() < 1e-3  # ties alone
    name, share = next(iter(expected.areas().items()))
    assert f'{name}: {share:.1f} %' in done.stdout


@pytest.mark.parametrize('image', ['{pictures}/a.png', 'gone.png'])
def test_the_server_reports_mistakes_in_one_line(run_tool, pictures, tmp_path, image):
    (tmp_path / 'junk.onnx').write_text('junk')
    arguments = (tmp_path / 'junk.onnx', image.format(pictures=pictures), tmp_path / 'labels.png')
    error = run_tool('tools/serve_onnx.py', *arguments, status=1).stderr
    assert 'error: ' in error
    assert 'Traceback' not in error


def test_the_metadata_are_complete(onnx_file):
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    meta = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert {'mean', 'std', 'size_divisor', 'classes', 'palette', 'scale', 'keep_ratio', 'bgr_to_rgb'} <= set(
        meta
    )
    assert meta['palette'][1] == [40, 215, 7]


@pytest.mark.parametrize('half', [False, True])
def test_torch_export_of_one_size(main, model_file, pictures, tmp_path, capsys, half):
    path = tmp_path / 'tiny.pt2'
    options = ['--no-dynamic', '--out', path, '--check', pictures / 'a.png', pictures / 'b.png']
    options += ['--fp16', '--min-agreement', '97'] if half else []
    assert main(model_file, '--format', 'torch_export', *options) == 0
    assert 'agreement: ' in capsys.readouterr().out
    extra = {'dpt.json': ''}
    program = torch.export.load(str(path), extra_files=extra)
    assert json.loads(extra['dpt.json'])['classes'][0] == 'sky'
    assert (torch.float16 in {parameter.dtype for parameter in program.parameters()}) is half


def test_labels_that_disagree_leave_no_file(main, model_file, pictures, tmp_path, capsys):
    options = ['--no-dynamic', '--out', tmp_path / 'x.pt2', '--check', pictures / 'a.png']
    options += ['--min-agreement', '101']
    assert main(model_file, '--format', 'torch_export', *options) == 1
    assert 'predicts other labels than PyTorch; nothing written' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'status', 'message'),
    [
        ('--format onnx --out x.pt2 --check {pictures}', 1, 'must end in .onnx'),
        ('--format onnx --out x.onnx --check gone', 1, 'gone does not exist'),
        ('--format onnx --out gone/x.onnx --check {pictures}', 1, 'the folder does not exist'),
        ('--format onnx --out x.onnx --size 64 64 --check {pictures}', 2, '--no-dynamic'),
        ('--format torch_export --no-dynamic --out x.pt2 --check {pictures}', 1, 'export with'),
    ],
)
def test_mistakes_are_reported_in_one_line(main, model_file, pictures, capsys, options, status, message):
    assert main(model_file, *options.format(pictures=pictures).split()) == status
    assert message in capsys.readouterr().err
