"""Segment images, folders, videos or a webcam with a trained model.

MODEL is one file: config, classes and colours come from it. Label maps are written as PNG files of class
indices, overlays as pictures; a video gives a video (mp4v) of overlays, and a folder of label maps.

Exit status: 0 if all was done, 1 for a mistake that stopped it, 3 if some inputs could not be read and the
rest was done.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dpt.apis import PRECISIONS, Segmentation, Segmenter
from dpt.apis.sources import File, Video, find_files
from dpt.checkpoints.write import write_whole
from dpt.cli import add_config_options, one_line_errors

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
    parser.add_argument('model', help='published model or checkpoint: a path or http(s) address')
    parser.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='image, video, folder, pattern or webcam index'
    )
    parser.add_argument('--config', help='config file, instead of the config in MODEL')
    parser.add_argument('--out', metavar='DIR', help='write label maps: PNG files of class indices')
    parser.add_argument('--show-dir', metavar='DIR', help='write overlays: PNG pictures, MP4 videos')
    parser.add_argument(
        '--opacity', type=float, default=0.6, help="of the classes' colours, 0 to 1 (default 0.6)"
    )
    parser.add_argument('--legend', action='store_true', help='class names beneath each overlay')
    parser.add_argument('--batch-size', type=int, default=1, help='neighbours of one size computed at once')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_argument('--precision', choices=PRECISIONS, help="default: as the config's test does")
    parser.add_argument(
        '--max-frames', type=int, metavar='N', help='stop each video or webcam after N frames'
    )
    add_config_options(parser)
    args = parser.parse_args()
    if not args.out and not args.show_dir:
        parser.error('nothing would be written: give --out, --show-dir or both')
    if not 0 <= args.opacity <= 1:
        parser.error(f'--opacity {args.opacity}: from 0 to 1')
    if args.max_frames is not None and args.max_frames < 1:
        parser.error(f'--max-frames {args.max_frames}: 1 or more')
    return args


@dataclass
class Plan:
    """What is read, and the name of each result below the folders of results, without suffix."""

    images: dict[Path, Path] = field(default_factory=dict)
    videos: dict[Path | int, Path] = field(default_factory=dict)


def make_plan(inputs: list[str], folders: list[Path]) -> Plan:
    """Find the inputs and settle the names of the results, before any work is done.

    Raises:
        FileNotFoundError: An input is not there.
        ValueError: Two results would have one name, or a result that of an input.
    """
    plan = Plan()
    for given in inputs:
        if given.isdigit() and not Path(given).exists():
            plan.videos[int(given)] = Path(f'webcam-{given}')
            continue
        for file in find_files(given):
            (plan.videos if file.is_video else plan.images)[file.path] = _result_name(file)  # type: ignore[index]
    _check_names(plan, folders)
    return plan


def _result_name(file: File) -> Path:
    return file.path.relative_to(file.root).with_suffix('')


def _check_names(plan: Plan, folders: list[Path]) -> None:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError('--out and --show-dir must be two folders: the names in them are the same')
    sources: dict[Path, Path | int] = {}
    for source, name in [*plan.images.items(), *plan.videos.items()]:
        if name in sources and sources[name] != source:
            raise ValueError(
                f'{sources[name]} and {source}: both results would be named {name}; run them apart'
            )
        sources[name] = source
    inputs = {path.resolve() for path in sources.values() if isinstance(path, Path)}
    for folder in folders:
        for name in sources:
            for suffix in ('.png', '.mp4'):
                target = (folder / name).with_name(f'{name.name}{suffix}')
                if target.resolve() in inputs:
                    raise ValueError(f'the result {target} would replace an input: choose another folder')


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write a BGR picture or a label map, whole or not at all."""
    if picture.dtype.kind == 'i':
        picture = picture.astype(np.uint16)
    _, content = cv2.imencode('.png', picture)
    write_whole(content.tobytes(), path)


class VideoFile:
    """An MP4 file that has its name only once it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._partial = path.with_name(f'.{path.stem}.{uuid.uuid4().hex}.mp4')
        self._writer: cv2.VideoWriter | None = None

    def write(self, rgb: np.ndarray) -> None:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = (rgb.shape[1], rgb.shape[0])
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self._partial), codec, self.fps, size)
            if not self._writer.isOpened():
                raise OSError(f'{self.path} cannot be written as a video')
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))

    def close(self, *, keep: bool) -> None:
        if self._writer is not None:
            self._writer.release()
        if keep and self._partial.exists():
            self._partial.replace(self.path)
        self._partial.unlink(missing_ok=True)


class Job:
    """The run: reads, predicts, writes, counts."""

    def __init__(
        self, args: argparse.Namespace, plan: Plan, segmenter: Segmenter, progress: Progress
    ) -> None:
        self.args, self.plan, self.segmenter, self.progress = args, plan, segmenter, progress
        self.out = Path(args.out) if args.out else None
        self.show = Path(args.show_dir) if args.show_dir else None
        self.done, self.frames = 0, 0
        self.unreadable: list[str] = []

    def report(self, name: str, error: Exception) -> None:
        self.unreadable.append(name)
        self.progress.console.print(f'not read: {error}', markup=False, highlight=False, soft_wrap=True)

    def run_images(self) -> None:
        bar = self.progress.add_task('images', total=len(self.plan.images))

        def failed(name: str, error: Exception) -> None:
            self.report(name, error)
            self.progress.advance(bar)

        for result in self.segmenter.stream(list(self.plan.images), on_error=failed):
            name = self.plan.images[Path(result.name)]
            if self.out:
                write_png(result.labels, (self.out / name).with_name(f'{name.name}.png'))
            if self.show:
                picture = result.overlay(self.args.opacity, legend=self.args.legend)
                target = (self.show / name).with_name(f'{name.name}.png')
                write_png(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), target)
            self.done += 1
            self.progress.advance(bar)

    def run_video(self, source: Path | int, name: Path) -> None:
        try:
            video = Video(source)
        except (OSError, ValueError) as error:
            self.report(str(source), error)
            return
        with video:
            limit = self.args.max_frames
            counts = [count for count in (video.frame_count, limit) if count]
            bar = self.progress.add_task(video.name, total=min(counts, default=None))
            frames = (frame for _, frame in zip(range(limit), video, strict=False)) if limit else iter(video)
            count = self._write_video(self.segmenter.stream(frames), video, name, bar)
        self.frames += count
        expected = min(counts, default=0)
        if count == 0 or (count < expected and not video.is_webcam):
            short = ValueError(
                f'{video.name} ended after {count} of {expected or "an unknown number of"} frames'
            )
            self.report(str(source), short)
        else:
            self.done += 1

    def _write_video(self, results: Iterator[Segmentation], video: Video, name: Path, bar: int) -> int:
        count, keep = 0, False
        legend = range(len(self.segmenter.classes)) if self.args.legend else False  # of one height throughout
        file = VideoFile((self.show / name).with_name(f'{name.name}.mp4'), video.fps) if self.show else None
        try:
            for result in results:
                if self.out:
                    write_png(result.labels, self.out / name / f'{count:06}.png')
                if file:
                    file.write(result.overlay(self.args.opacity, legend=legend))
                count += 1
                self.progress.advance(bar)  # type: ignore[arg-type]
            keep = True
        except KeyboardInterrupt:
            keep = video.is_webcam  # that is how a webcam is stopped
            if not keep:
                raise
        finally:
            if file:
                file.close(keep=keep)
        return count

    def summary(self, seconds: float) -> str:
        parts = [f'{self.done} of {len(self.plan.images) + len(self.plan.videos)} inputs done']
        if self.frames:
            parts.append(f'{self.frames} video frames')
        parts.append(f'{seconds:.1f} s')
        if self.done:
            parts += [f'labels in {self.out}'] if self.out else []
            parts += [f'overlays in {self.show}'] if self.show else []
        lines = ['; '.join(parts)]
        if self.unreadable:
            lines.append(f'not read ({len(self.unreadable)}): {", ".join(self.unreadable)}')
        return '\n'.join(lines)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error; the time left is from the speed of the last half minute."""
    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=30) as progress:
        yield progress


def main() -> int:
    with one_line_errors():
        args = parse_args()
        folders = [Path(folder) for folder in (args.out, args.show_dir) if folder]
        plan = make_plan(args.inputs, folders)
        segmenter = Segmenter(
            args.model,
            args.config,
            device=args.device,
            precision=args.precision,
            batch_size=args.batch_size,
            cfg_options=args.cfg_options,
        )
        began = time.monotonic()
        with progress_bar() as progress:
            job = Job(args, plan, segmenter, progress)
            try:
                if plan.images:
                    job.run_images()
                for source, name in plan.videos.items():
                    job.run_video(source, name)
            except KeyboardInterrupt:
                progress.stop()
                print(f'interrupted: {job.summary(time.monotonic() - began)}', file=sys.stderr)
                return 130
        print(job.summary(time.monotonic() - began))
        return SOME_UNREADABLE if job.unreadable else 0


if __name__ == '__main__':
    sys.exit(main())
