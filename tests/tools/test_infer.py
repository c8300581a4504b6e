"""``tools/infer.py`` as a user runs it."""

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import Predictor
from dpt.models import EncoderDecoder


@pytest.fixture
def inputs(tiny_config, tmp_path):
    """Two images, one a folder below, a broken one, and a video of four frames."""
    source = sorted((tiny_config.parent / 'data' / 'images' / 'validation').iterdir())
    folder = tmp_path / 'in'
    (folder / 'below').mkdir(parents=True)
    (folder / 'a.jpg').write_bytes(source[0].read_bytes())
    cv2.imwrite(str(folder / 'below' / 'b.png'), cv2.imread(str(source[1])))
    (folder / 'broken.jpg').write_bytes(b'junk')
    writer = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 5, (96, 64))
    frame = cv2.resize(cv2.imread(str(source[0])), (96, 64))
    for _ in range(4):
        writer.write(frame)
    writer.release()
    return folder


def test_images_and_videos_give_labels_and_overlays(run_tool, tool_module, best, inputs, tmp_path):
    out, show = tmp_path / 'labels', tmp_path / 'overlays'
    clip = tmp_path / 'clip.avi'
    options = ('--out', out, '--show-dir', show, '--opacity', 0.4, '--batch-size', 2)
    done = run_tool('tools/infer.py', best, inputs, clip, *options, status=3)
    assert '3 of 4 inputs done; 4 video frames' in done.stdout
    assert f'not read (1): {inputs / "broken.jpg"}' in done.stdout
    assert 'broken.jpg cannot be read' in done.stderr
    predictor = Predictor(best, device='cpu')
    result = predictor(inputs / 'below' / 'b.png')
    assert np.array_equal(cv2.imread(str(out / 'below' / 'b.png'), cv2.IMREAD_UNCHANGED), result.labels)
    assert np.array_equal(cv2.imread(str(show / 'below' / 'b.png'))[..., ::-1], result.overlay(0.4))
    frames = list(predictor.stream(tool_module('tools/infer.py').Video(clip).frames(None)))
    assert np.array_equal(
        cv2.imread(str(out / 'clip' / '000003.png'), cv2.IMREAD_UNCHANGED), frames[3].labels
    )
    video = cv2.VideoCapture(str(show / 'clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert video.get(cv2.CAP_PROP_FPS) == 5
    drawn = video.read()[1][..., ::-1]
    assert np.abs(drawn.astype(int) - frames[0].overlay(0.4)).mean() < 12  # but for the compression
    written = [path.name for path in (*out.rglob('*'), *show.rglob('*')) if path.is_file()]
    assert len(written) == 2 + 4 + 2 + 1


def test_a_work_directory_stands_for_its_best_checkpoint(call, trained, best, inputs, tmp_path):
    assert call('infer', trained, inputs / 'a.jpg', '--out', tmp_path / 'out')[0] == 0
    labels = Predictor(best, device='cpu')(inputs / 'a.jpg').labels
    assert np.array_equal(cv2.imread(str(tmp_path / 'out' / 'a.png'), cv2.IMREAD_UNCHANGED), labels)


def test_a_strip_is_reported_and_the_rest_predicted(call, best, tmp_path):
    (tmp_path / 'in').mkdir()
    for name, shape in (('a', (60, 80, 3)), ('b', (2000, 2, 3)), ('c', (60, 80, 3))):
        cv2.imwrite(str(tmp_path / f'in/{name}.png'), np.full(shape, 128, np.uint8))
    status, printed, error = call('infer', best, tmp_path / 'in', '--out', tmp_path / 'out')
    assert status == 3
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png', 'c.png']
    assert '2 of 3 inputs done' in printed
    assert 'b.png: one side would be shorter than one pixel after resizing' in error


def test_max_frames_stops_and_junk_is_reported(call, best, inputs, tmp_path):
    clip, show = tmp_path / 'clip.avi', tmp_path / 's'
    status, printed, _ = call('infer', best, clip, '--show-dir', show, '--max-frames', 2, '--legend')
    assert status == 0
    assert '1 of 1 inputs done; 2 video frames' in printed
    (tmp_path / 'junk.mp4').write_bytes(b'junk')
    status, _, error = call('infer', best, tmp_path / 'junk.mp4', '--show-dir', show)
    assert status == 3
    assert 'junk.mp4 cannot be opened' in error
    assert [path.name for path in show.iterdir()] == ['clip.mp4']


def test_a_video_that_fails_does_not_end_the_job(call, best, inputs, tmp_path, monkeypatch):
    strip = cv2.VideoWriter(str(tmp_path / 'strip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 5, (2000, 2))
    strip.write(np.zeros((2, 2000, 3), np.uint8))
    strip.release()
    (tmp_path / 'empty.mp4').write_bytes(b'')
    broken = tmp_path / 'in' / 'broken link.png'
    broken.symlink_to(tmp_path / 'gone.png')
    names = ('strip.avi', 'empty.mp4', 'clip.avi', 'in')
    sources = [tmp_path / name for name in names]
    status, out, error = call('infer', best, *sources, '--out', tmp_path / 'o')
    assert status == 3
    assert '3 of 7 inputs done; 4 video frames' in out
    (named,) = [line for line in out.splitlines() if line.startswith('not read (4)')]
    assert all(name in named for name in ('strip.avi', 'empty.mp4', 'broken link.png', 'broken.jpg'))
    assert 'strip.avi was left at frame 0: ' in error
    assert len(list((tmp_path / 'o' / 'clip').iterdir())) == 4


def test_an_image_too_large_for_the_memory_is_reported(call, best, inputs, tmp_path, monkeypatch):
    def test_step(self, batch, step=EncoderDecoder.test_step):
        if len(batch['inputs']) > 1 or batch['data_samples'][0].ori_shape == (300, 400):
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 99 GiB.')
        return step(self, batch)

    cv2.imwrite(str(inputs / 'huge.png'), np.zeros((300, 400, 3), np.uint8))
    monkeypatch.setattr(EncoderDecoder, 'test_step', test_step)
    options = ('--out', tmp_path / 'o', '--batch-size', 2)
    status, out, error = call('infer', best, inputs, *options)
    assert status == 3
    assert '2 of 4 inputs done' in out
    assert 'huge.png of 300x400 needs too much memory: CUDA out of memory' in ' '.join(error.split())
    with pytest.raises(torch.OutOfMemoryError):
        Predictor(best, device='cpu')(inputs / 'huge.png')


def test_a_webcam_is_opened_by_its_index(call, best, inputs, tmp_path, monkeypatch):
    opened, capture = [], cv2.VideoCapture
    clip = str(tmp_path / 'clip.avi')
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: opened.append(source) or capture(clip))
    status, printed, _ = call('infer', best, 0, '--out', tmp_path / 'o')
    assert (status, opened) == (0, [0])
    assert '1 of 1 inputs done; 4 video frames' in printed
    assert len(list((tmp_path / 'o' / 'webcam-0').iterdir())) == 4
