"""Draw segmentations and depth and send the pictures to files, trackers or a window."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmengine.structures import PixelData
from mmengine.visualization import MLflowVisBackend as _MLflowVisBackend
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import force_init_env

from dpt.palette import default_palette
from dpt.registry import VISBACKENDS, VISUALIZERS
from dpt.structures import SegDataSample
from dpt.visualization.depth import (
    ColourBar,
    DepthScale,
    aligned,
    draw_depth_errors,
    error_bar,
    measured,
    thickened,
)
from dpt.visualization.overlay import check_size, compose, draw_errors, draw_overlay, present_classes

Panels = list[tuple[str, np.ndarray]]


@VISUALIZERS.register_module()
class SegLocalVisualizer(Visualizer):
    """Draw the image, the ground truth, the prediction and its errors side by side, above a legend.

    Depth is drawn in colours from near to far, above scale bars.

    The runner's loops set ``dataset_meta``, whose classes and colours replace the arguments. Without a
    palette, default colours are used.

    Args:
        name: Name of the instance.
        image: Initial RGB image, of shape HxWx3.
        vis_backends: Configs of the backends that store pictures and scalars.
        save_dir: Folder of the backends; without it, backends that need a folder store nothing.
        classes: Names of the K classes.
        palette: K colours (red, green, blue) from 0 to 255.
        alpha: Weight of the colours over the image, between 0 and 1.
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
        """Metainfo of the data set, with ``classes`` and ``palette``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        classes = (dataset_meta or {}).get('classes') or ()
        palette = (dataset_meta or {}).get('palette')
        colours = default_palette(len(classes)) if palette is None else np.asarray(palette)
        if classes and colours.shape != (len(classes), 3):
            raise ValueError(
                f'the palette must have a colour (red, green, blue) for each of the {len(classes)} classes, '
                f'but has shape {colours.shape}: correct metainfo of the dataset, or omit the palette'
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
            data_sample: Sample with or without ``gt_sem_seg``, ``pred_sem_seg``, ``gt_depth_map`` and
                ``pred_depth_map``.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.

        Raises:
            ValueError: If there are labels but no classes, or labels or depth and image differ in size.
        """
        drawn = [('gt', draw_gt), ('pred', draw_pred)]
        truth, prediction = (
            _labels(data_sample, f'{name}_sem_seg') if wanted else None for name, wanted in drawn
        )
        depth = [_depth(data_sample, f'{name}_depth_map') if wanted else None for name, wanted in drawn]
        panels, present = self._label_panels(image, truth, prediction)
        relative = data_sample is not None and bool(data_sample.get('relative_depth'))
        of_depth, bars = depth_panels(image, *depth, relative=relative)
        panels = [('image', image), *panels, *of_depth]
        return compose(panels, [self._classes[k] for k in present], self._palette[present], bars=bars)

    def _label_panels(
        self, image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray | None
    ) -> tuple[Panels, list[int]]:
        """Return the panels of a segmentation, and the classes that occur in it."""
        drawn = [labels for labels in (truth, prediction) if labels is not None]
        if drawn and not self._classes:
            raise ValueError('SegLocalVisualizer needs class names: set classes or dataset_meta')
        num_classes = len(self._classes)
        panels = []
        if truth is not None:
            unlabelled = 100 * np.mean((truth < 0) | (truth >= num_classes))
            title = f'ground truth ({unlabelled:.1f} % unlabelled)' if unlabelled else 'ground truth'
            panels.append((title, draw_overlay(image, truth, self._palette, self.alpha)))
        if prediction is not None:
            panels.append(('prediction', draw_overlay(image, prediction, self._palette, self.alpha)))
        if truth is not None and prediction is not None:
            picture, share = draw_errors(image, prediction, truth, num_classes)
            title = 'errors (nothing labelled)' if np.isnan(share) else f'errors {100 * share:.1f} %'
            panels.append((title, picture))
        return panels, present_classes(num_classes, *drawn)

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
        """Draw one image with :meth:`render`, and show or store it.

        All processes write files; only the first one shows windows and uses backends.

        Args:
            name: Name of the window and of the picture in the backends.
            image: RGB, uint8, of shape HxWx3.
            data_sample: Ground truth and prediction of the image.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to open a window.
            wait_time: Seconds to show the window; 0 waits for a key.
            out_file: Picture file to write instead of passing the picture to the backends.
            step: Step for the backends.

        Raises:
            ValueError: As :meth:`render`, or if ``show`` is set without a display.
        """
        picture = self.render(image, data_sample, draw_gt, draw_pred)
        if show:
            names = ('DISPLAY', 'WAYLAND_DISPLAY', 'MPLBACKEND')
            if sys.platform == 'linux' and not any(os.environ.get(name) for name in names):
                # mmengine would wait for a key press without showing a window.
                raise ValueError(
                    'show=True needs a display, but none was found: write files with out_file or out_dir'
                )
            self.show(picture, win_name=name, wait_time=wait_time)
        if out_file is None:
            self.add_image(name, picture, step)
        elif not mmcv.imwrite(mmcv.rgb2bgr(picture), str(out_file)):
            raise ValueError(f'{out_file}: could not write the picture')


def _labels(data_sample: SegDataSample | None, key: str) -> np.ndarray | None:
    """Return the labels of a field as int64 of shape HxW, or None."""
    if data_sample is None or key not in data_sample:
        return None
    pixels: PixelData = getattr(data_sample, key)
    return pixels.cpu().numpy().data[0].astype(np.int64)


def _depth(data_sample: SegDataSample | None, key: str) -> np.ndarray | None:
    """Return the depth of a field as float32 of shape HxW, or None."""
    if data_sample is None or key not in data_sample:
        return None
    pixels: PixelData = getattr(data_sample, key)
    return pixels.cpu().numpy().data[0].astype(np.float32)


def depth_panels(
    image: np.ndarray, truth: np.ndarray | None, prediction: np.ndarray | None, *, relative: bool
) -> tuple[Panels, list[ColourBar]]:
    """Return the panels of depth and its errors, and their scale bars.

    Truth and prediction have the same colours. A relative prediction is fitted to the truth, if there is one.

    Args:
        image: RGB, uint8, of shape HxWx3.
        truth: True depth of shape HxW, or None.
        prediction: Predicted depth of shape HxW, or None.
        relative: Whether the prediction is inverse depth up to an unknown scale and shift.
    """
    maps = [depth for depth in (truth, prediction) if depth is not None]
    for depth in maps:
        check_size(image, depth, 'depth')
    if not maps:
        return [], []
    title = 'predicted depth (relative)' if relative else 'predicted depth'
    reference = truth if truth is not None and measured(truth).any() else None
    unit = '' if relative else 'm'  # relative models are trained on depth of any unit
    if relative and reference is not None and prediction is not None:
        prediction, relative = aligned(prediction, reference), False
        title = 'predicted depth (scale and shift fitted)'
    shown = maps[-1] if reference is None else reference
    scale = DepthScale.of(shown, relative=relative and reference is None, unit=unit)
    panels, bars = [], [scale.bar()]
    if truth is not None:
        absent = 100 * (1 - measured(truth).mean())
        name = f'true depth ({absent:.1f} % not measured)' if absent else 'true depth'
        panels.append((name, scale.draw(thickened(truth))))
    if prediction is not None:
        panels.append((title, scale.draw(prediction)))
    if truth is not None and prediction is not None:
        picture, error = draw_depth_errors(prediction, truth)
        title = 'error (nothing measured)' if np.isnan(error) else f'mean relative error {100 * error:.1f} %'
        panels.append((title, picture))
        bars.append(error_bar())
    return panels, bars


@VISBACKENDS.register_module()
class MLflowVisBackend(_MLflowVisBackend):
    """mmengine's MLflow backend, but with a key and a step for each picture.

    mmengine 0.10.7 passes the name as a file name, which MLflow rejects without a suffix, and no step, so
    that each validation would overwrite the pictures of the previous one.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Record an RGB image, uint8, of shape HxWx3."""
        self._mlflow.log_image(image, key=name, step=step)
