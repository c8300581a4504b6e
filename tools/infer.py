"""Predict images, folders, videos or a webcam with a trained model.

MODEL is what dpt.load takes: a checkpoint, a work directory, a URL, hf://OWNER/NAME, or a name of the model
zoo. --out writes label maps as PNG files of
class indices, --show-dir writes overlays. A video yields a folder of label maps and an MP4 video of overlays.

With a depth model, --out writes .npy files (float32, in the unit of the training data) or, with
--depth-scale-factor, 16-bit PNG files; --show-dir writes depth in colours above a scale bar. All frames of a
video have the colours of the first.

Exit status: 0 if all inputs were predicted, 1 on an error, 2 for invalid arguments, 3 if some inputs could
not be read and were skipped.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Iterator, Sized
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import dpt
from dpt.apis import PRECISIONS, Depth
from dpt.cli import add_config_options, one_line_errors
from dpt.extras.files import find_files, is_video, write_depth, write_labels, write_picture
from dpt.results import Result
from dpt.visualization import DepthScale

EXAMPLE = """example:
  python tools/infer.py dpt_mine.safetensors photos/ 'more/**/*.jpg' --show-dir overlays --out labels
  python tools/infer.py dpt_mine.safetensors drive.mp4 --show-dir overlays
  python tools/infer.py work_dirs/mine/iter_16000.pth 0 --show-dir overlays     # webcam 0, until Ctrl-C
"""
SOME_UNREADABLE = 3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'model', help='checkpoint, work directory, URL, hf://OWNER/NAME or a name of the model zoo'
    )
    parser.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='image, video, folder, pattern or webcam index'
    )
    parser.add_argument('--config', help='config file, instead of the config in MODEL')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='write label maps: PNG files of class indices'
    )
    parser.add_argument(
        '--show-dir', type=Path, metavar='DIR', help='write overlays: PNG pictures, MP4 videos'
    )
    parser.add_argument(
        '--opacity', type=float, help='opacity of the colours, 0 to 1 (default: classes 0.6, depth 1)'
    )
    parser.add_argument('--legend', action='store_true', help='draw a legend below each overlay')
    parser.add_argument(
        '--depth-scale-factor',
        type=float,
        metavar='FACTOR',
        help='write depth as 16-bit PNG files of depth times this: 1000 for millimetres, 256 for KITTI',
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, help='most images of one size per batch (default 1)'
    )
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_argument('--precision', choices=PRECISIONS, help="precision (default: the config's)")
    parser.add_argument(
        '--max-frames', type=int, metavar='N', help='stop each video or webcam after N frames'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if not args.out and not args.show_dir:
        parser.error('nothing would be written: give --out, --show-dir or both')
    if args.opacity is not None and not 0 <= args.opacity <= 1:
        parser.error(f'--opacity {args.opacity}: from 0 to 1')
    if args.depth_scale_factor is not None and args.depth_scale_factor <= 0:
        parser.error(f'--depth-scale-factor {args.depth_scale_factor}: above 0')
    if args.max_frames is not None and args.max_frames < 1:
        parser.error(f'--max-frames {args.max_frames}: 1 or more')
    return args


def name_results(inputs: list[str], folders: list[Path]) -> dict[Path | int, Path]:
    """Find all inputs and name their results.

    Returns:
        For each file or webcam index, the name of its result, relative to the output folders and without
        suffix.

    Raises:
        FileNotFoundError: If an input does not exist.
        ValueError: If two results would have the same name, or a result would overwrite an input.
    """
    names: dict[Path | int, Path] = {}
    for given in inputs:
        if given.isdigit() and not Path(given).exists():
            names[int(given)] = Path(f'webcam-{given}')
        else:
            names |= {path: path.relative_to(root).with_suffix('') for path, root in find_files(given)}
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError('--out and --show-dir must be different folders: their files have the same names')
    sources: dict[Path, Path | int] = {}
    for source, name in names.items():
        if name in sources:
            raise ValueError(
                f'{sources[name]} and {source}: both results would be named {name}; run them separately'
            )
        sources[name] = source
    files = {source.resolve() for source in names if isinstance(source, Path)}
    for target in (
        folder / f'{name}{end}' for folder in folders for name in sources for end in ('.png', '.npy', '.mp4')
    ):
        if target.resolve() in files:
            raise ValueError(f'the result {target} would overwrite an input: choose another folder')
    return names


class Video:
    """Frames of a video file or a webcam, BGR, uint8, of shape HxWx3.

    Args:
        source: Path, or index of a webcam.

    Attributes:
        fps: Frames per second; 25 if unknown.
        frame_count: Number of frames according to the file, or ``None``.

    Raises:
        ValueError: If the source cannot be opened.
    """

    def __init__(self, source: Path | int) -> None:
        self.is_webcam = isinstance(source, int)
        self.name = f'webcam {source}' if self.is_webcam else str(source)
        self.capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self.capture.isOpened():
            reason = 'device not found, or permission denied' if self.is_webcam else 'damaged or not a video'
            raise ValueError(f'{self.name} cannot be opened: {reason}')
        fps = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if np.isfinite(fps) and fps > 0 else 25.0
        count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count = count if count > 0 and not self.is_webcam else None

    def frames(self, limit: int | None, failed: Sized = ()) -> Iterator[np.ndarray]:
        """Yield up to ``limit`` frames, or until ``failed`` is not empty, then close the source."""
        count = 0
        while (limit is None or count < limit) and not failed:
            try:
                read, frame = self.capture.read()
            except cv2.error:
                read, frame = False, None
            if not read or frame is None:
                break
            yield frame
            count += 1
        self.capture.release()


class VideoFile:
    """Write an MP4 file under a temporary name and rename it when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._partial = path.with_name(f'.{path.stem}.{uuid.uuid4().hex}.mp4')
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, rgb: np.ndarray) -> None:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = (rgb.shape[1], rgb.shape[0])
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), codec, self.fps, size)
            if not self._writer.isOpened():
                raise OSError(f'{self.path} cannot be written as a video')
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self, *, keep: bool) -> None:
        if self._writer is not None:
            self._writer.release()
        try:
            if keep and self._writer is not None:
                written = int(cv2.VideoCapture(str(self._partial)).get(cv2.CAP_PROP_FRAME_COUNT))
                if written < self._count:  # OpenCV reports neither a full disk nor a refused frame
                    raise OSError(f'{self.path}: only {written} of {self._count} frames could be written')
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


class Job:
    """Predict all inputs, write the results and count them."""

    def __init__(self, args: argparse.Namespace, names: dict[Path | int, Path], progress: Progress) -> None:
        self.args, self.names, self.progress = args, names, progress
        self.predictor = dpt.load(
            args.model,
            args.config,
            device=args.device,
            precision=args.precision,
            batch_size=args.batch_size,
            cfg_options=args.cfg_options,
        )
        if args.depth_scale_factor is not None and getattr(self.predictor.model, 'relative', True):
            what = (
                'labels' if self.predictor.classes else 'inverse depth without a unit: omit it for .npy files'
            )
            raise ValueError(f'--depth-scale-factor needs a model of depth, but {args.model} predicts {what}')
        self.done = self.frames = 0
        self.unreadable: list[str] = []

    def run(self) -> None:
        images = [one for one in self.names if isinstance(one, Path) and not is_video(one)]
        if images:
            self.run_images(images)
        for source in self.names:
            if isinstance(source, int) or is_video(source):
                self.run_video(source)

    def report(self, name: str, error: Exception) -> None:
        self.unreadable.append(name)
        self.progress.console.print(f'not read: {error}', markup=False, highlight=False, soft_wrap=True)

    def run_images(self, images: list[Path]) -> None:
        bar = self.progress.add_task('images', total=len(images))

        def failed(name: str, error: Exception) -> None:
            self.report(name, error)
            self.progress.advance(bar)

        for result in self.predictor.stream(images, on_error=failed):
            name = str(self.names[Path(result.name)])
            if self.args.out:
                self.write(self.args.out / name, result)
            if self.args.show_dir:
                write_picture(self.args.show_dir / f'{name}.png', self.draw(result))
            self.done += 1
            self.progress.advance(bar)

    def write(self, target: Path, result: Result) -> None:
        """Write labels or depth to a path without suffix."""
        if isinstance(result, Depth):
            write_depth(target, result.depth, self.args.depth_scale_factor)
        else:
            write_labels(target.with_name(f'{target.name}.png'), result.labels)

    def draw(self, result: Result, scale: DepthScale | None = None, every_class: bool = False) -> np.ndarray:
        """Return the picture of a result, with a constant range of depth or a legend of all classes."""
        opacity = {} if self.args.opacity is None else dict(opacity=self.args.opacity)
        if isinstance(result, Depth):
            return result.overlay(**opacity, legend=True, scale=scale)
        legend = range(len(result.classes)) if every_class else True
        return result.overlay(**opacity, legend=legend if self.args.legend else False)

    def run_video(self, source: Path | int) -> None:
        try:
            video = Video(source)
        except ValueError as error:
            self.report(str(source), error)
            return
        counts = [count for count in (video.frame_count, self.args.max_frames) if count]
        expected = min(counts, default=None)
        bar = self.progress.add_task(video.name, total=expected)
        failed: list[Exception] = []
        results = self.predictor.stream(
            video.frames(self.args.max_frames, failed), on_error=lambda _, error: failed.append(error)
        )
        count = self.write_video(results, video, self.names[source], bar)
        self.frames += count
        if failed:
            message = f'{video.name} was left at frame {count}: {failed[0]}'
            self.report(str(source), ValueError(message))
        elif count == 0 or (count < (expected or 0) and not video.is_webcam):
            of = expected or 'an unknown number of'
            self.report(str(source), ValueError(f'{video.name} ended after {count} of {of} frames'))
        else:
            self.done += 1

    def write_video(self, results: Iterator[Result], video: Video, name: Path, bar: int) -> int:
        """Write the results of a video; return the number of frames."""
        args, count, keep, file = self.args, 0, False, None
        scale: DepthScale | None = None
        if args.show_dir:
            file = VideoFile(args.show_dir / f'{name}.mp4', video.fps)
        try:
            for result in results:
                if args.out:
                    self.write(args.out / name / f'{count:06}', result)
                if file:
                    if isinstance(result, Depth):
                        scale = scale or result.scale()
                    # Listing all classes keeps the height of the legend constant.
                    file.write(self.draw(result, scale, every_class=True))
                count += 1
                self.progress.advance(bar)  # type: ignore[arg-type]
            keep = True
        except KeyboardInterrupt:
            keep = video.is_webcam  # users stop a webcam with Ctrl-C
            if not keep:
                raise
        finally:
            if file:
                file.close(keep=keep)
        return count

    def summary(self, seconds: float) -> str:
        parts = [f'{self.done} of {len(self.names)} inputs done']
        if self.frames:
            parts.append(f'{self.frames} video frames')
        parts.append(f'{seconds:.1f} s')
        if self.done:
            what, drawn = ('labels', 'overlays') if self.predictor.classes else ('depth', 'pictures')
            parts += [f'{what} in {self.args.out}'] if self.args.out else []
            parts += [f'{drawn} in {self.args.show_dir}'] if self.args.show_dir else []
        lines = ['; '.join(parts)]
        if self.unreadable:
            lines.append(f'not read ({len(self.unreadable)}): {", ".join(self.unreadable)}')
        return '\n'.join(lines)


def main() -> int:
    with one_line_errors():
        args = parse_args()
        names = name_results(args.inputs, [folder for folder in (args.out, args.show_dir) if folder])
        columns = (
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
        )
        # Estimate the time left from the speed of the last 30 s.
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=30) as progress:
            job = Job(args, names, progress)
            began = time.monotonic()
            try:
                job.run()
            except KeyboardInterrupt:
                progress.stop()
                print(f'interrupted: {job.summary(time.monotonic() - began)}', file=sys.stderr)
                return 130
        print(job.summary(time.monotonic() - began))
        return SOME_UNREADABLE if job.unreadable else 0


if __name__ == '__main__':
    sys.exit(main())
