"""``tools/infer.py`` as a user runs it."""

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import Predictor
from dpt.models import EncoderDecoder


@pytest.fixture(scope='module')
def best(trained):
    return next(trained.glob('best_mIoU_iter_*.pth'))


@pytest.fixture(scope='module')
def main(tool_main):
    return tool_main('tools/infer.py')


def test_a_strip_is_reported_and_the_rest_predicted(main, best, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    for name, shape in (('a', (60, 80, 3)), ('b', (2000, 2, 3)), ('c', (60, 80, 3))):
        cv2.imwrite(str(tmp_path / f'in/{name}.png'), np.full(shape, 128, np.uint8))
    assert main(best, tmp_path / 'in', '--out', tmp_path / 'out') == 3
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.png', 'c.png']
    printed = capsys.readouterr()
    assert '2 of 3 inputs done' in printed.out
    assert 'b.png: one side would be shorter than one pixel after resizing' in printed.err


@pytest.fixture
def inputs(tiny_config, tmp_path):
    """Two images, one a folder below, a broken one, and a video of four frames."""
    source = sorted((tiny_config.parent / 'data' / 'images' / 'validation').iterdir())
    folder = tmp_path / 'in'
    (folder / 'below').mkdir(parents=True)
    (folder / 'a.jpg').write_bytes(source[0].read_bytes())
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'a.jpg').write_bytes(source[1].read_bytes())
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
    written = {
        str(path.relative_to(tmp_path)) for path in (*out.rglob('*'), *show.rglob('*')) if path.is_file()
    }
    assert len(written) == 2 + 4 + 2 + 1
    assert not any('partial' in name or '/.' in name for name in written)


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (['{best}', '{inputs}'], 2, 'give --out, --show-dir or both'),
        (['{best}', '{inputs}', '--out', '{tmp}/o', '--opacity', '2'], 2, 'from 0 to 1'),
        (['{best}', 'gone.jpg', '--out', '{tmp}/o'], 1, 'error: gone.jpg does not exist'),
        (['gone.pth', '{inputs}', '--out', '{tmp}/o'], 1, 'gone.pth'),
        (['{best}', '{inputs}', '--out', '{tmp}/o', '--show-dir', '{tmp}/o'], 1, 'must be different folders'),
        (['{best}', '{inputs}', '--out', '{tmp}/o', '--device', 'gpu'], 1, "device='gpu' cannot be used"),
        (['{best}', '{inputs}', '--out', '{inputs}'], 1, 'b.png would overwrite an input'),
        (['{best}', '{inputs}', '{tmp}/other/a.jpg', '--out', '{tmp}/o'], 1, 'both results would be named a'),
    ],
)
def test_mistakes_are_reported_in_one_line(main, best, inputs, tmp_path, capsys, arguments, status, message):
    filled = [argument.format(best=best, inputs=inputs, tmp=tmp_path) for argument in arguments]
    assert main(*filled) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'o').exists()


def test_max_frames_stops_and_junk_is_reported(main, best, inputs, tmp_path, capsys):
    clip, show = tmp_path / 'clip.avi', tmp_path / 's'
    assert main(best, clip, '--show-dir', show, '--max-frames', 2, '--legend') == 0
    assert '1 of 1 inputs done; 2 video frames' in capsys.readouterr().out
    (tmp_path / 'junk.mp4').write_bytes(b'junk')
    assert main(best, tmp_path / 'junk.mp4', '--show-dir', show) == 3
    assert 'junk.mp4 cannot be opened' in capsys.readouterr().err
    assert [path.name for path in show.iterdir()] == ['clip.mp4']


def test_a_video_that_fails_does_not_end_the_job(main, best, inputs, tmp_path, monkeypatch, capsys):
    strip = cv2.VideoWriter(str(tmp_path / 'strip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 5, (2000, 2))
    strip.write(np.zeros((2, 2000, 3), np.uint8))
    strip.release()
    (tmp_path / 'empty.mp4').write_bytes(b'')
    broken = tmp_path / 'in' / 'broken link.png'
    broken.symlink_to(tmp_path / 'gone.png')
    names = ('strip.avi', 'empty.mp4', 'clip.avi', 'in')
    assert main(best, *(tmp_path / name for name in names), '--out', tmp_path / 'o') == 3
    printed = capsys.readouterr()
    assert '3 of 7 inputs done; 4 video frames' in printed.out
    (named,) = [line for line in printed.out.splitlines() if line.startswith('not read (4)')]
    assert all(name in named for name in ('strip.avi', 'empty.mp4', 'broken link.png', 'broken.jpg'))
    assert 'strip.avi was left at frame 0: ' in printed.err
    assert len(list((tmp_path / 'o' / 'clip').iterdir())) == 4


def test_an_image_too_large_for_the_memory_is_reported(main, best, inputs, tmp_path, monkeypatch, capsys):
    def test_step(self, batch, step=EncoderDecoder.test_step):
        if len(batch['inputs']) > 1 or batch['data_samples'][0].ori_shape == (300, 400):
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 99 GiB.')
        return step(self, batch)

    cv2.imwrite(str(inputs / 'huge.png'), np.zeros((300, 400, 3), np.uint8))
    monkeypatch.setattr(EncoderDecoder, 'test_step', test_step)
    assert main(best, inputs, '--out', tmp_path / 'o', '--batch-size', 2) == 3
    printed = capsys.readouterr()
    assert '2 of 4 inputs done' in printed.out
    assert 'huge.png of 300x400 needs too much memory: CUDA out of memory' in ' '.join(printed.err.split())
    with pytest.raises(torch.OutOfMemoryError):
        Predictor(best, device='cpu')(inputs / 'huge.png')


def test_a_webcam_is_opened_by_its_index(main, best, inputs, tmp_path, monkeypatch, capsys):
    opened, capture = [], cv2.VideoCapture
    clip = str(tmp_path / 'clip.avi')
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: opened.append(source) or capture(clip))
    assert main(best, 0, '--out', tmp_path / 'o') == 0
    assert opened == [0]
    assert '1 of 1 inputs done; 4 video frames' in capsys.readouterr().out
    assert len(list((tmp_path / 'o' / 'webcam-0').iterdir())) == 4
