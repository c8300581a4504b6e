"""``tools/export.py`` and ``tools/serve_onnx.py`` as a user runs them."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import Predictor
from dpt.export import ExportedModel

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def onnx_file(tool_main, model_file, pictures, tmp_path_factory):
    """The tiny model for any size, as ONNX."""
    path = tmp_path_factory.mktemp('onnx') / 'tiny.onnx'
    arguments = ('--format', 'onnx', '--out', path, '--check', pictures)
    assert tool_main('tools/export.py')(model_file, *arguments) == 0
    return path


def test_onnxruntime_computes_any_size_and_batch(onnx_file, model_file):
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    graph = ExportedModel(Predictor(model_file, device='cpu').model).eval()
    random = np.random.default_rng(0)
    for shape in ((1, 120, 160), (3, 97, 131), (2, 65, 250), (1, 224, 64)):
        image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = graph(torch.from_numpy(image)).numpy()
        logits = session.run(None, {'image': image})[0]
        assert logits.shape == (shape[0], 6, *shape[1:])
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
    meta = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert {'mean', 'std', 'size_divisor', 'classes', 'scale', 'keep_ratio', 'bgr_to_rgb'} <= set(meta)
    assert meta['palette'][1] == [40, 215, 7]


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


@pytest.mark.parametrize(
    ('image', 'message'),
    [('a.png', 'junk.onnx cannot be loaded'), ('gone.png', 'gone.png cannot be read')],
)
def test_the_server_reports_mistakes_in_one_line(run_tool, pictures, tmp_path, image, message):
    (tmp_path / 'junk.onnx').write_text('junk')
    arguments = (tmp_path / 'junk.onnx', pictures / image, tmp_path / 'labels.png')
    error = run_tool('tools/serve_onnx.py', *arguments, status=1).stderr
    assert 'error: ' in error
    assert message in error
    assert 'Traceback' not in error


@pytest.mark.parametrize('half', [False, True])
def test_torch_export_of_one_size(call, model_file, pictures, tmp_path, half):
    path = tmp_path / 'tiny.pt2'
    options = ['--no-dynamic', '--out', path, '--check', pictures / 'a.png', pictures / 'b.png']
    options += ['--fp16', '--min-agreement', '97'] if half else []
    status, printed, _ = call('export', model_file, '--format', 'torch_export', *options)
    assert status == 0
    assert 'agreement: ' in printed
    extra = {'dpt.json': ''}
    program = torch.export.load(str(path), extra_files=extra)
    assert json.loads(extra['dpt.json'])['classes'][0] == 'sky'
    assert (torch.float16 in {parameter.dtype for parameter in program.parameters()}) is half


def test_labels_that_disagree_leave_no_file(call, model_file, pictures, tmp_path):
    options = ['--no-dynamic', '--out', tmp_path / 'x.pt2', '--check', pictures / 'a.png']
    options += ['--min-agreement', '101']
    status, _, error = call('export', model_file, '--format', 'torch_export', *options)
    assert status == 1
    assert 'predicts other values than PyTorch; nothing written' in error
    assert list(tmp_path.iterdir()) == []
