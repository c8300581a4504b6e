"""Where images come from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dpt.apis.sources import Video, bgr_array, find_files, named_images


def test_folders_and_patterns_are_searched_in_order(pictures: Path) -> None:
    (pictures / 'notes.txt').write_text('no image')
    (pictures / '.hidden.png').write_bytes((pictures / 'a.png').read_bytes())
    found = find_files(pictures)
    assert [str(file.path.relative_to(file.root)) for file in found] == [
        'a.png',
        'b.png',
        'below/d.jpg',
        'c.png',
    ]
    found = find_files(f'{pictures}/**/*.jpg')
    assert [str(file.path.relative_to(file.root)) for file in found] == ['below/d.jpg']
    assert find_files(pictures / 'notes.txt')[0].root == pictures  # named by itself: it is tried


def test_nothing_there_is_an_error(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no image or video there'):
        find_files(tmp_path)
    with pytest.raises(FileNotFoundError, match='no image or video there'):
        find_files(f'{pictures}/*.webp')
    with pytest.raises(FileNotFoundError, match='gone does not exist'):
        find_files('gone')


def test_pil_images_become_bgr() -> None:
    red = Image.new('RGB', (3, 2), (255, 0, 0))
    assert bgr_array(red).shape == (2, 3, 3)
    assert bgr_array(red)[0, 0].tolist() == [0, 0, 255]
    assert bgr_array(red.convert('L').convert('P')).shape == (2, 3, 3)
    assert bgr_array(red.convert('RGBA'))[1, 2].tolist() == [0, 0, 255]


def test_pil_images_of_16_bits_are_as_read_by_path(tmp_path: Path) -> None:
    path = str(tmp_path / 'grey.png')
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16))
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    for mode in ('I;16', 'I;16B'):
        image = Image.frombytes(mode, (30, 20), stored.astype('<u2' if mode == 'I;16' else '>u2').tobytes())
        assert image.mode == mode
        assert np.array_equal(bgr_array(image), cv2.imread(path))


@pytest.mark.parametrize('mode', ['I', 'F'])
def test_pil_images_of_32_bits_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"an image is a PIL image of mode '{mode}'.*'L' or 'RGB'"):
        bgr_array(Image.new(mode, (3, 2), 300))


@pytest.mark.parametrize(
    ('image', 'error'),
    [
        (np.zeros((4, 4, 3), np.float32), ValueError),
        (np.zeros((4, 4), np.uint8), ValueError),
        (np.zeros((4, 4, 4), np.uint8), ValueError),
        (object(), TypeError),
    ],
)
def test_anything_else_is_refused(image: object, error: type[Exception]) -> None:
    with pytest.raises(error, match='an image'):
        bgr_array(image)


def test_a_video_tells_its_speed_and_frames(clip: Path, tmp_path: Path) -> None:
    with Video(clip) as video:
        assert (video.fps, video.frame_count) == (5, 5)
        means = [frame.mean() for frame in video]
    assert np.allclose(means, [0, 50, 100, 150, 200], atol=3)
    with pytest.raises(FileNotFoundError, match='gone.mp4'):
        Video(tmp_path / 'gone.mp4')
    (tmp_path / 'junk.mp4').write_bytes(b'junk')
    with pytest.raises(ValueError, match='junk.mp4 cannot be opened'):
        Video(tmp_path / 'junk.mp4')


def test_a_webcam_is_opened_by_its_index(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def capture(source: object) -> cv2.VideoCapture:
        opened.append(source)
        return real(str(clip))

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', capture)
    names = [name for name, _ in named_images(0)]
    assert opened == [0]
    assert names[0] == 'webcam 0, frame 0'
    assert Video(0).frame_count is None
