"""Three lines for a user with an image.

Example:
    >>> from dpt.apis import inference_model, init_model
    >>> model = init_model('configs/quickstart.py', 'work_dirs/quickstart/iter_700.pth')
    >>> labels = inference_model(model, 'street.jpg').pred_sem_seg.data  # 1xHxW
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast

from dpt.checkpoints import dataset_meta, load_model, read_meta
from dpt.engine.launch import innermost_datasets, load_config
from dpt.engine.mmseg_config import is_mmseg_config, translate_mmseg_config
from dpt.engine.protocol import without_annotations
from dpt.models import EncoderDecoder
from dpt.registry import DATASETS, MODELS
from dpt.structures import SegDataSample

Image = str | Path | np.ndarray


def init_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
) -> EncoderDecoder:
    """Build a model for inference.

    Args:
        config: Config, or path of its file.
        checkpoint: Path or URL of its weights, of dpt or MMSegmentation; ``None`` for random ones. Where it
            names classes and their colours, these are taken, else those of the config's test data set.
        device: Where the model runs; ``None`` for the GPU if there is one.
        cfg_options: Values that override the config's, by dotted key.

    Returns:
        The segmentor in evaluation mode, with ``cfg`` and ``dataset_meta`` (``classes``, ``palette``) set.

    Raises:
        FileNotFoundError: If the config or the checkpoint is not there.
        ValueError: If the checkpoint does not fit the model.
    """
    if not isinstance(config, Config):
        config = load_config(str(config), cfg_options)
    else:
        config.merge_from_dict(cfg_options or {})
        if is_mmseg_config(config):
            config, _ = translate_mmseg_config(config)
    init_default_scope(config.get('default_scope', 'dpt'))
    model = MODELS.build(config.model)
    trained_for = None
    if checkpoint is not None:
        load_model(model, checkpoint)
        trained_for = dataset_meta(read_meta(checkpoint))
    model.cfg = config
    model.dataset_meta = trained_for or _dataset_meta(config)
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    return model.to(device or default).eval()


def _dataset_meta(config: Config) -> dict:
    dataset = innermost_datasets(config.test_dataloader.dataset)[0]
    return dict(dataset.get('metainfo') or DATASETS.get(dataset['type']).METAINFO)


def _prepare(image: Image, pipeline: list[dict]) -> dict:
    """Run the test pipeline on one image, without annotations."""
    steps = without_annotations(pipeline)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3:
            raise ValueError(
                f'an image is {image.dtype} of shape {image.shape}: expected uint8, HxWx3 in BGR'
            )
        shape = image.shape[:2]
        data: dict = dict(img=image, img_path=None, img_shape=shape, ori_shape=shape)
        steps = [step for step in steps if step['type'] != 'LoadImageFromFile']
    else:
        if not Path(image).is_file():
            raise FileNotFoundError(f'image {image} does not exist')
        data = dict(img_path=str(image))
    return Compose(steps)(data)


@torch.no_grad()
def _predict(model: EncoderDecoder, image: Image) -> SegDataSample:
    dataset = innermost_datasets(model.cfg.test_dataloader.dataset)[0]
    data = _prepare(image, dataset['pipeline'])
    with autocast(enabled=bool(model.cfg.test_cfg.get('fp16'))):  # as the test loop does
        return model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]


def inference_model(
    model: EncoderDecoder, images: Image | Sequence[Image]
) -> SegDataSample | list[SegDataSample]:
    """Predict the labels of one or several images, the way ``tools/test.py`` does.

    Args:
        model: What :func:`init_model` returned.
        images: Path, or BGR uint8 array of shape HxWx3 as OpenCV reads it, or a sequence of these.

    Returns:
        A sample with ``pred_sem_seg.data`` of shape 1xHxW at the image's size; a list for a sequence.

    Raises:
        FileNotFoundError: If an image does not exist.
        ValueError: If an array is no such image.
    """
    if isinstance(images, (str, Path, np.ndarray)):
        return _predict(model, images)
    return [_predict(model, image) for image in images]
