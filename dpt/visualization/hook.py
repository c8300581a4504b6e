"""Hook that draws some of the predictions in validation and test."""

from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmengine import fileio
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import Visualizer

from dpt.registry import HOOKS
from dpt.structures import SegDataSample


def spread(size: int, count: int, step: int = 1) -> set[int]:
    """Return up to ``count`` evenly spaced multiples of ``step`` below ``size``, starting with 0."""
    places = -(-size // step)
    return {step * (i * places // count) for i in range(count)} if places else set()


@HOOKS.register_module()
class SegVisualizationHook(Hook):
    """Draw predictions of the same images in each validation and test.

    The first process passes the pictures to the visualizer's backends (TensorBoard, files in the work
    directory) with the iteration as step. In a test with ``out_dir``, every process writes files instead.

    Args:
        draw: Whether to draw at all.
        interval: Draw every image whose index in the data set is a multiple of this.
        num_images: Draw this number of images instead, spread evenly over those that the first process
            reads; None uses ``interval``.
        show: Whether to also open a window.
        wait_time: Seconds to show the window; 0 waits for a key.
        backend_args: Arguments of mmengine's file backend for reading the images.
        out_dir: Folder for ``<image stem>.png`` in a test.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        *,
        num_images: int | None = None,
        show: bool = False,
        wait_time: float = 0.0,
        backend_args: dict | None = None,
        out_dir: str | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval must be 1 or more, not {interval}')
        if num_images is not None and num_images < 1:
            raise ValueError(f'num_images must be 1 or more, or None to use interval, not {num_images}')
        self.draw = draw
        self.interval = interval
        self.num_images = num_images
        self.show = show
        self.wait_time = wait_time
        self.backend_args = backend_args
        self.out_dir = out_dir
        self._start(0)

    def _start(self, size: int) -> None:
        self._num_seen = 0
        self._files: set[str] = set()
        self._chosen = spread(size, self.num_images or 0, get_dist_info()[1])

    def before_run(self, runner: Runner) -> None:
        """Raise ValueError if the visualizer would silently draw nothing."""
        if self.draw and type(runner.visualizer).add_datasample is Visualizer.add_datasample:
            raise ValueError(
                f'SegVisualizationHook(draw=True) needs a visualizer that draws predictions, but '
                f'{type(runner.visualizer).__name__} does not: set '
                "visualizer=dict(type='SegLocalVisualizer') "
                'or default_hooks.visualization.draw=False'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        """Reset the image count."""
        self._start(len(runner.val_dataloader.dataset))

    def before_test_epoch(self, runner: Runner) -> None:
        """Reset the image count."""
        self._start(len(runner.test_dataloader.dataset))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw a batch of the validation."""
        self._draw_batch(runner, outputs or (), 'val', None)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw a batch of the test."""
        self._draw_batch(runner, outputs or (), 'test', self.out_dir)

    def _draw_batch(
        self, runner: Runner, outputs: Sequence[SegDataSample], mode: str, out_dir: str | None
    ) -> None:
        rank, world_size = get_dist_info()
        for sample in outputs:
            # The sampler assigns the images to the processes in turn.
            index = self._num_seen * world_size + rank
            self._num_seen += 1
            if not self._is_wanted(index) or (out_dir is None and rank != 0):
                continue
            name = self._name(sample.img_path, index)
            runner.visualizer.add_datasample(
                f'{mode}_{name}',
                self._image(sample),
                sample,
                show=self.show,
                wait_time=self.wait_time,
                out_file=None if out_dir is None else str(Path(out_dir, f'{name}.png')),
                step=_iteration(runner),
            )

    def _is_wanted(self, index: int) -> bool:
        return self.draw and (
            index % self.interval == 0 if self.num_images is None else index in self._chosen
        )

    def _name(self, path: str, index: int) -> str:
        stem = Path(path).stem
        name = stem if stem not in self._files else f'{stem}_{index}'
        self._files.add(stem)
        return name

    def _image(self, sample: SegDataSample) -> np.ndarray:
        """Return the image of a sample, cropped as the pipeline crops the original."""
        image = self._read(sample.img_path)
        if 'crop_box' not in sample.metainfo:
            return image
        top, bottom, left, right = sample.crop_box
        return image[top:bottom, left:right]

    def _read(self, path: str) -> np.ndarray:
        content = fileio.get(path, backend_args=self.backend_args)
        image = mmcv.imfrombytes(content) if content else None
        if image is None:
            raise ValueError(f'{path}: cannot be read as an image')
        return mmcv.bgr2rgb(image)


def _iteration(runner: Runner) -> int:
    # In a test, runner.iter would build the training loop, which requires the training data.
    return runner.iter if isinstance(runner._train_loop, BaseLoop) else 0
