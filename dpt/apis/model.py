"""``init_model`` and ``inference_model``, as MMSegmentation's users know them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast

from dpt.checkpoints import dataset_meta, load_model, read_meta
from dpt.config.load import load_config
from dpt.config.mmseg import is_mmseg_config, translate_mmseg_config
from dpt.config.walk import innermost_datasets, without_annotations
from dpt.datasets.bad_sample import name_sample
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
    dataset = first_test_dataset(config)
    return dict(dataset.get('metainfo') or DATASETS.get(dataset['type']).METAINFO)


def first_test_dataset(config: Config) -> dict:
    """Return the config of the (first) test data set, whose pipeline prepares images."""
    return innermost_datasets(config.test_dataloader.dataset)[0]


class Preparation:
    """The test pipeline of a config, without annotations: from an image to what a model takes.

    Args:
        config: Config whose ``test_dataloader`` has the pipeline.
    """

    def __init__(self, config: Config) -> None:
        init_default_scope(config.get('default_scope', 'dpt'))
        steps = without_annotations(first_test_dataset(config)['pipeline'])
        loading = [step for step in steps if step['type'] == 'LoadImageFromFile']
        self.load = Compose(loading or [dict(type='LoadImageFromFile')])
        self.rest = Compose([step for step in steps if step['type'] != 'LoadImageFromFile'])

    def read(self, path: str | Path) -> np.ndarray:
        """Read an image as the pipeline does: BGR, uint8, of shape HxWx3.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is no image, or damaged.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f'image {path} does not exist')
        try:
            return self.load(dict(img_path=str(path)))['img']
        except (AssertionError, cv2.error):  # of mmcv, and of an empty file
            raise ValueError(f'image {path} cannot be read: the file is damaged or not an image') from None

    def __call__(self, image: Image, name: str = 'array') -> dict[str, Any]:
        """Return ``inputs`` of shape CxHxW and ``data_samples``, of one image.

        Args:
            image: Path or BGR array.
            name: What to call an array in messages.

        Raises:
            FileNotFoundError: If a path does not exist.
            ValueError: If an array is not uint8 of shape HxWx3, or the image too narrow to resize.
        """
        path = None if isinstance(image, np.ndarray) else str(image)
        pixels = image if isinstance(image, np.ndarray) else self.read(image)
        is_image = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
        if path is None and not is_image:
            raise ValueError(
                f'an image is {pixels.dtype} of shape {pixels.shape}: expected uint8, HxWx3 in BGR'
            )
        shape = pixels.shape[:2]
        try:
            return self.rest(dict(img=pixels, img_path=path, img_shape=shape, ori_shape=shape))
        except cv2.error as error:
            raise name_sample(error, dict(img_path=path or name)) from error


@torch.no_grad()
def predict(
    model: EncoderDecoder, prepared: Sequence[dict[str, Any]], dtype: torch.dtype | None = None
) -> list[SegDataSample]:
    """Predict from what :class:`Preparation` returned for images that have one size by then.

    Args:
        model: What :func:`init_model` returned.
        prepared: One dict an image.
        dtype: Type in which autocast computes: float32 for none; ``None`` as the test loop does, which is
            mixed precision where the config says ``test_cfg.fp16``.
    """
    batch = dict(
        inputs=[data['inputs'] for data in prepared], data_samples=[data['data_samples'] for data in prepared]
    )
    if dtype is None:
        with autocast(enabled=bool((model.cfg.get('test_cfg') or {}).get('fp16'))):
            return model.test_step(batch)
    device = next(model.parameters()).device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        return model.test_step(batch)


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
        ValueError: If an image cannot be read, or an array is no such image.
    """
    prepare = Preparation(model.cfg)
    if isinstance(images, (str, Path, np.ndarray)):
        return predict(model, [prepare(images)])[0]
    return [predict(model, [prepare(image)])[0] for image in images]
