"""Pictures of predictions, drawn without a display."""

from .hook import SegVisualizationHook
from .local_visualizer import SegLocalVisualizer
from .mlflow_backend import MLflowVisBackend
from .overlay import compose, default_palette, draw_errors, draw_legend, draw_overlay, present_classes

__all__ = [
    'MLflowVisBackend',
    'SegLocalVisualizer',
    'SegVisualizationHook',
    'compose',
    'default_palette',
    'draw_errors',
    'draw_legend',
    'draw_overlay',
    'present_classes',
]
