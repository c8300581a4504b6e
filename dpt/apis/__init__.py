"""A few lines for a user with images.

Example:
    >>> from dpt.apis import Segmenter
    >>> labels = Segmenter('model.safetensors')('street.jpg').labels  # HxW

    >>> from dpt.apis import inference_model, init_model
    >>> model = init_model('configs/quickstart.py', 'work_dirs/quickstart/iter_700.pth')
    >>> labels = inference_model(model, 'street.jpg').pred_sem_seg.data  # 1xHxW
"""

from .from_file import config_of
from .model import inference_model, init_model
from .segmentation import Segmentation
from .segmenter import PRECISIONS, Segmenter

__all__ = ['PRECISIONS', 'Segmentation', 'Segmenter', 'config_of', 'inference_model', 'init_model']
