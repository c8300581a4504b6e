"""Where images come from: files, folders, patterns, arrays, videos and webcams."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')


@dataclass(frozen=True)
class File:
    """A file, and the folder that the user named to find it (its own folder for a file named itself)."""

    path: Path
    root: Path

    @property
    def is_video(self) -> bool:
        """Whether its name says that it is a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_files(source: str | Path) -> list[File]:
    """Find the images and videos that a path, a folder (with those below it) or a pattern means.

    A file named by itself may have any suffix. Patterns are those of :mod:`glob`, ``**`` included.

    Raises:
        FileNotFoundError: If there is nothing, or neither image nor video among what there is.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [File(path, path.parent)]
    if path.is_dir():
        found = [File(file, path) for file in sorted(path.rglob('*')) if _is_picture(file)]
    elif glob.has_magic(str(source)):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        root = _fixed_part(path)
        found = [File(file, root) for file in matches if _is_picture(file)]
    else:
        raise FileNotFoundError(f'{source} does not exist')
    if not found:
        suffixes = ' '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        raise FileNotFoundError(f'{source}: no image or video there (looked for {suffixes})')
    return found


def _is_picture(path: Path) -> bool:
    hidden = path.name.startswith('.')
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and not hidden and path.is_file()


def _fixed_part(pattern: Path) -> Path:
    """The leading folders of a pattern that hold no wildcard."""
    parts = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def bgr_array(image: Any) -> np.ndarray:
    """Return a BGR array, uint8, of shape HxWx3, of an array that is one or of a PIL image.

    The pixels of a PIL image are taken as they are: an orientation that its file notes is not applied. Of
    16 bits the upper 8 count, as where OpenCV reads the file.

    Raises:
        ValueError: If an array is anything else, or a PIL image has numbers of 32 bits.
        TypeError: If it is neither.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f'an image is {image.dtype} of shape {image.shape}: expected uint8, HxWx3 in BGR'
            )
        return image
    if hasattr(image, 'convert') and hasattr(image, 'mode'):  # a PIL image; PIL itself is not needed here
        if image.mode.startswith('I;16'):  # PIL would clip it to 255
            return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        if image.mode in ('I', 'F'):
            raise ValueError(
                f'an image is a PIL image of mode {image.mode!r}, whose range is not known: scale it to '
                "0..255 and convert it to mode 'L' or 'RGB', or give the path of its file"
            )
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
    raise TypeError(f'an image must be a path, a BGR array or a PIL image, not {type(image).__name__}')


class Video:
    """Frames of a video file or a webcam, BGR, uint8, of shape HxWx3; closed at the end of ``with``.

    Args:
        source: Path, or index of a webcam.

    Attributes:
        fps: Frames per second; 25 where the source does not say.
        frame_count: Number of frames that the file notes, or ``None``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be opened.
    """

    def __init__(self, source: str | Path | int) -> None:
        self.is_webcam = isinstance(source, int)
        self.name = f'webcam {source}' if self.is_webcam else str(source)
        if not self.is_webcam and not Path(source).is_file():  # type: ignore[arg-type]
            raise FileNotFoundError(f'video {source} does not exist')
        self._capture = cv2.VideoCapture(source if self.is_webcam else str(source))  # type: ignore[arg-type]
        if not self._capture.isOpened():
            self._capture.release()
            remedy = 'no such device, or no permission' if self.is_webcam else 'damaged or not a video'
            raise ValueError(f'{self.name} cannot be opened: {remedy}')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if np.isfinite(fps) and fps > 0 else 25.0
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and not self.is_webcam else None

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            read, frame = self._capture.read()
            if not read:
                return
            yield frame

    def __enter__(self) -> 'Video':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


def named_images(source: Any) -> Iterator[tuple[str, Path | np.ndarray]]:
    """Yield a name and a path or BGR array for each image that a source means.

    Args:
        source: Path of an image, video or folder, a pattern, a BGR array, a PIL image, the index of a
            webcam, or an iterable of these.
    """
    if isinstance(source, (str, Path)):
        for file in find_files(source):
            if file.is_video:
                yield from _frames(file.path)
            else:
                yield str(file.path), file.path
    elif isinstance(source, int):
        yield from _frames(source)
    elif isinstance(source, Iterable) and not isinstance(source, np.ndarray) and not hasattr(source, 'mode'):
        for i, one in enumerate(source):
            for name, image in named_images(one):
                yield f'{i}' if name == 'image' else name, image
    else:
        yield 'image', bgr_array(source)


def _frames(source: Path | int) -> Iterator[tuple[str, np.ndarray]]:
    with Video(source) as video:
        for i, frame in enumerate(video):
            yield f'{video.name}, frame {i}', frame
