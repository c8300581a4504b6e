"""The visualizer that draws segmentations and hands them to files, TensorBoard or a window."""

import os
import sys
from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer

from dpt.registry import VISUALIZERS
from dpt.structures import SegDataSample

from .overlay import compose, default_palette, draw_errors, draw_overlay, present_classes


@VISUALIZERS.register_module()
class SegLocalVisualizer(Visualizer):
    """Draw the image, the truth, the prediction and its errors side by side, over a legend.

    The classes and their colours are those of ``dataset_meta``, which the engine's loops set, and until then
    those given here. Classes without colours get some.

    Args:
        name: name of the instance.
        image: RGB image to begin with, of shape HxWx3.
        vis_backends: configs of the backends that store pictures and scalars.
        save_dir: folder of the backends; None makes those that need one store nothing.
        classes: names of the K classes.
        palette: K colours, each of red, green and blue between 0 and 255.
        alpha: weight of the colours over the image, between 0 and 1.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        image: np.ndarray | None = None,
        *,
        vis_backends: list[dict] | None = None,
        save_dir: str | None = None,
        classes: Sequence[str] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        alpha: float = 0.6,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha must be between 0 and 1, not {alpha}')
        super().__init__(name, image, vis_backends, save_dir)
        self.alpha = alpha
        self.dataset_meta = dict(classes=classes, palette=palette)

    @property
    def dataset_meta(self) -> dict | None:
        """Metainfo of the data set, in which ``classes`` and ``palette`` are looked at."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        classes = (dataset_meta or {}).get('classes') or ()
        palette = (dataset_meta or {}).get('palette')
        colours = default_palette(len(classes)) if palette is None else np.asarray(palette)
        if classes and colours.shape != (len(classes), 3):
            raise ValueError(
                f'the palette must hold a colour (red, green, blue) for each of the {len(classes)} classes, '
                f'but is of shape {colours.shape}: correct metainfo of the dataset, or leave the palette out'
            )
        self._dataset_meta = dataset_meta
        self._classes, self._palette = classes, colours.astype(np.uint8)

    def render(
        self,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
    ) -> np.ndarray:
        """Return the picture for one image.

        Args:
            image: RGB, uint8, of shape HxWx3.
            data_sample: ``gt_sem_seg`` and ``pred_sem_seg`` are drawn where it has them.
            draw_gt: whether to draw the truth.
            draw_pred: whether to draw the prediction.

        Raises:
            ValueError: if there are labels but no classes, or a map has not the size of the image.
        """
        truth = _labels(data_sample, 'gt_sem_seg') if draw_gt else None
        prediction = _labels(data_sample, 'pred_sem_seg') if draw_pred else None
        drawn = [labels for labels in (truth, prediction) if labels is not None]
        if drawn and not self._classes:
            raise ValueError('SegLocalVisualizer needs the names of the classes: set classes or dataset_meta')
        num_classes = len(self._classes)
        panels = [('image', image)]
        if truth is not None:
            unlabelled = 100 * np.mean((truth < 0) | (truth >= num_classes))
            title = f'truth ({unlabelled:.1f} % unlabelled)' if unlabelled else 'truth'
            panels.append((title, draw_overlay(image, truth, self._palette, self.alpha)))
        if prediction is not None:
            panels.append(('prediction', draw_overlay(image, prediction, self._palette, self.alpha)))
        if truth is not None and prediction is not None:
            picture, share = draw_errors(image, prediction, truth, num_classes)
            title = 'errors (nothing labelled)' if np.isnan(share) else f'errors {100 * share:.1f} %'
            panels.append((title, picture))
        present = present_classes(num_classes, *drawn)
        return compose(panels, [self._classes[k] for k in present], self._palette[present])

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
    ) -> None:
        """Draw one image as :meth:`render` does, and show or store it.

        Files are written by any process; windows and backends belong to the first.

        Args:
            name: name in the backends and of the window.
            image: RGB, uint8, of shape HxWx3.
            data_sample: truth and prediction of the image.
            draw_gt: whether to draw the truth.
            draw_pred: whether to draw the prediction.
            show: whether to open a window.
            wait_time: seconds to show the window for; 0 waits for a key.
            out_file: picture file to write instead of handing the picture to the backends.
            step: step that the backends note.

        Raises:
            ValueError: as :meth:`render`, or if there is no display to show a window on.
        """
        picture = self.render(image, data_sample, draw_gt, draw_pred)
        if show:
            _check_display()
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is None:
            self.add_image(name, picture, step)
        elif not mmcv.imwrite(mmcv.rgb2bgr(picture), str(out_file)):
            raise ValueError(f'{out_file}: could not write the picture')


def _labels(data_sample: SegDataSample | None, key: str) -> np.ndarray | None:
    """The HxW labels of a field, wide enough to compare with any other; None where it is absent."""
    if data_sample is None or key not in data_sample:
        return None
    pixels: PixelData = getattr(data_sample, key)
    return pixels.cpu().numpy().data[0].astype(np.int64)


def _check_display() -> None:
    """Without a display the engine's window would wait for a key for ever."""
    names = ('DISPLAY', 'WAYLAND_DISPLAY', 'MPLBACKEND')
    if sys.platform == 'linux' and not any(os.environ.get(name) for name in names):
        raise ValueError('show=True needs a display, and there is none: write files with out_file or out_dir')
