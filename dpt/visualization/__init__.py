"""Draw predictions, without a display."""

from dpt.visualization.depth import DepthScale
from dpt.visualization.hook import SegVisualizationHook
from dpt.visualization.overlay import (
    compose,
    draw_errors,
    draw_legend,
    draw_overlay,
    present_classes,
)
from dpt.visualization.visualizer import MLflowVisBackend, SegLocalVisualizer

__all__ = [
    'DepthScale',
    'MLflowVisBackend',
    'SegLocalVisualizer',
    'SegVisualizationHook',
    'compose',
    'draw_errors',
    'draw_legend',
    'draw_overlay',
    'present_classes',
]
