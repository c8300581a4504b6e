"""Python API for inference.

Example:
    >>> from dpt.apis import Predictor
    >>> labels = Predictor('model.safetensors')('street.jpg').labels  # HxW

    >>> from dpt.apis import inference_model, init_model
    >>> model = init_model('configs/quickstart.py', 'work_dirs/quickstart/iter_700.pth')
    >>> labels = inference_model(model, 'street.jpg').pred_sem_seg.data  # 1xHxW
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import Registry, init_default_scope
from mmengine.runner.amp import autocast

from dpt.checkpoints import dataset_meta, load_model, read_checkpoint
from dpt.checkpoints.meta import config_values, meta_of
from dpt.checkpoints.published import is_published, published_of
from dpt.checkpoints.read import state_dict_of
from dpt.config.load import load_config
from dpt.config.mmseg import is_mmseg_config, translate_mmseg_config
from dpt.config.mmseg.old import OLD_NAMES
from dpt.config.names import name_config_types, name_types
from dpt.config.walk import first_test_dataset, walk, without_annotations
from dpt.datasets.bad_sample import name_sample
from dpt.hub import Shared
from dpt.models import DepthEstimator
from dpt.models.dense import DensePredictor
from dpt.palette import default_palette
from dpt.registry import DATASETS, MODELS, TRANSFORMS
from dpt.results import Depth, Result, Segmentation
from dpt.structures import SegDataSample

__all__ = ['PRECISIONS', 'Depth', 'Predictor', 'Segmentation', 'config_of', 'inference_model', 'init_model']

PASS_CONFIG = 'Predictor(checkpoint, config=...) or --config FILE'
PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}

Image = Any
"""A path, a BGR uint8 array of shape HxWx3 (as OpenCV reads it), or a PIL image."""


def init_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    cfg_options: dict | None = None,
) -> DensePredictor:
    """Build a model for inference.

    Args:
        config: Config, which is not modified, or path of a config file.
        checkpoint: Path or URL of a checkpoint of dpt or MMSegmentation; ``None`` for random weights. Its
            class names and colours take precedence over those of the config's test data set.
        device: Device of the model; ``None`` for the GPU if there is one.
        cfg_options: Overrides of the config, by dotted key.

    Returns:
        The model in evaluation mode, with ``cfg`` and ``dataset_meta`` (``classes``, ``palette``; empty for
        depth) set.

    Raises:
        FileNotFoundError: If the config or the checkpoint does not exist.
        ValueError: If the checkpoint does not fit the model.
    """
    if not isinstance(config, Config):
        config = load_config(str(config), cfg_options)
    else:
        config = copy.deepcopy(config)
        config.merge_from_dict(cfg_options or {})
        name_config_types(config)
        if is_mmseg_config(config):
            config, _ = translate_mmseg_config(config)
    init_default_scope(config.get('default_scope', 'dpt'))
    model = MODELS.build(config.model)
    meta = None
    if checkpoint is not None:
        content = read_checkpoint(checkpoint)
        load_model(model, checkpoint, content=content)
        meta = dataset_meta(meta_of(content, checkpoint))
    if meta is None and isinstance(model, DepthEstimator):
        meta = {}
    elif meta is None:
        dataset = first_test_dataset(config)
        meta = dict(dataset.get('metainfo') or DATASETS.get(dataset['type']).METAINFO)
    model.cfg, model.dataset_meta = config, meta
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    return model.to(device or default).eval()


def inference_model(
    model: DensePredictor, images: Image | Sequence[Image]
) -> SegDataSample | list[SegDataSample]:
    """Predict one or several images in the same way as ``tools/test.py``.

    Args:
        model: Model from :func:`init_model`.
        images: Path, BGR uint8 array of shape HxWx3 as OpenCV reads it, or PIL image; or a list of these.

    Returns:
        A sample with ``pred_sem_seg.data``, or ``pred_depth_map.data``, of shape 1xHxW at the image size; or
        a list of samples if ``images`` is a list.

    Raises:
        FileNotFoundError: If an image does not exist.
        ValueError: If an image cannot be read, or an array has the wrong type or shape.
    """
    prepare = Preparation(model.cfg)
    if isinstance(images, (list, tuple)):
        return [predict(model, [prepare(image)])[0] for image in images]
    return predict(model, [prepare(images)])[0]


class Preparation:
    """Prepare images with the config's test pipeline, without loading annotations.

    Args:
        config: Config with the pipeline in ``test_dataloader``.
    """

    def __init__(self, config: Config) -> None:
        init_default_scope(config.get('default_scope', 'dpt'))
        steps = without_annotations(first_test_dataset(config)['pipeline'])
        loading = [step for step in steps if step['type'] == 'LoadImageFromFile']
        self._load = Compose(loading or [dict(type='LoadImageFromFile')])
        self._rest = Compose([step for step in steps if step['type'] != 'LoadImageFromFile'])

    def read(self, image: Image) -> np.ndarray:
        """Return an image as a BGR uint8 array of shape HxWx3.

        The EXIF orientation of PIL images is not applied. 16-bit images are reduced to their upper 8 bits,
        as OpenCV does when it reads a file.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is damaged or not an image, the array has the wrong type or shape, or the
                PIL image has 32 bits per pixel.
            TypeError: If ``image`` has any other type.
        """
        if isinstance(image, (str, Path)):
            if not Path(image).is_file():
                problem = 'is a folder' if Path(image).is_dir() else 'does not exist'
                raise FileNotFoundError(f'image {image} {problem}')
            try:
                return self._load(dict(img_path=str(image)))['img']
            except (AssertionError, cv2.error):  # AssertionError from mmcv, cv2.error for empty files
                message = f'image {image} cannot be read: the file is damaged or not an image'
                raise ValueError(message) from None
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(
                    f'got an image array of {image.dtype} and shape {image.shape}: expected uint8, HxWx3, BGR'
                )
            return image
        if not hasattr(image, 'convert') or not hasattr(image, 'mode'):  # avoids a dependency on PIL
            kind = type(image).__name__
            raise TypeError(f'an image must be a path, a BGR array or a PIL image, not {kind}')
        if image.mode.startswith('I;16'):  # convert() would clip the values to 255
            return cv2.cvtColor((np.asarray(image) >> 8).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        if image.mode in ('I', 'F'):
            raise ValueError(
                f'the value range of a PIL image of mode {image.mode!r} is unknown: scale it to 0..255 and '
                "convert it to mode 'L' or 'RGB', or pass the path of its file"
            )
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])

    def __call__(self, image: Image, name: str = 'array') -> dict[str, Any]:
        """Return ``inputs`` of shape CxHxW and ``data_samples`` for one image.

        Args:
            image: Any image that :meth:`read` accepts.
            name: Name of the image in error messages if it is not a path.

        Raises:
            FileNotFoundError, ValueError, TypeError: As in :meth:`read`; also ValueError if the image is too
                narrow to resize.
        """
        path = str(image) if isinstance(image, (str, Path)) else None
        pixels = self.read(image)
        size = pixels.shape[:2]
        try:
            return self._rest(dict(img=pixels, img_path=path, img_shape=size, ori_shape=size))
        except cv2.error as error:
            raise name_sample(error, dict(img_path=path or name)) from error


@torch.no_grad()
def predict(
    model: DensePredictor, prepared: Sequence[dict[str, Any]], dtype: torch.dtype | None = None
) -> list[SegDataSample]:
    """Predict a batch of prepared images of the same size.

    Args:
        model: Model from :func:`init_model`.
        prepared: Output of :class:`Preparation` for each image.
        dtype: Autocast type; float32 disables autocast. ``None`` follows ``test_cfg.fp16`` of the config, as
            the test loop does.
    """
    batch = {key: [data[key] for data in prepared] for key in ('inputs', 'data_samples')}
    if dtype is None:
        with autocast(enabled=bool((model.cfg.get('test_cfg') or {}).get('fp16'))):
            return model.test_step(batch)
    device = next(model.parameters()).device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        return model.test_step(batch)


class Predictor(Shared):
    """Predict images with a trained model from a single checkpoint file.

    The checkpoint, written by training or by ``tools/publish_model.py``, contains config, class names and
    colours. The config is parsed as data; no code in the file runs. Predictions equal those of
    :func:`inference_model` and ``tools/test.py``.

    Args:
        checkpoint: Path or URL of the checkpoint.
        config: Config, or path of a config file, to use instead of the config in the checkpoint.
        device: Device of the model; ``None`` for the GPU if there is one.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'`` (autocast); ``None`` follows the config's test loop.
        batch_size: Maximum number of images in a batch. Only consecutive images of the same size after
            resizing share a batch, because padding would change the predictions. The batch size changes
            results only by rounding errors.
        cfg_options: Overrides of the config, by dotted key.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If no config is given and the checkpoint has no usable one, or if the checkpoint does not
            fit the config or names a different number of classes than the model predicts.

    Example:
        >>> predictor = Predictor('model.safetensors')
        >>> result = predictor('street.jpg')
        >>> result.labels, result.areas(), result.overlay(0.5)  # of a segmentor
        >>> result.depth, result.overlay(legend=True)  # of a depth estimator
        >>> for result in predictor.stream(Path('photos').glob('*.jpg')): ...
    """

    def __init__(
        self,
        checkpoint: str | Path,
        config: str | Path | Config | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str | None = None,
        batch_size: int = 1,
        cfg_options: dict | None = None,
    ) -> None:
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f'precision={precision!r} must be one of {tuple(PRECISIONS)}')
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size} must be 1 or more')
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f'device={str(device)!r} cannot be used here: {reason}') from None
        self.checkpoint = checkpoint
        self.dtype = PRECISIONS[precision] if precision else None
        self.batch_size = batch_size
        self.model = init_model(config or config_of(checkpoint), checkpoint, device, cfg_options)
        self.prepare = Preparation(self.model.cfg)
        of_depth = isinstance(self.model, DepthEstimator)
        self.classes = () if of_depth else tuple(self.model.dataset_meta['classes'])
        count = 0 if of_depth else self.model.decode_head.num_classes
        if len(self.classes) != count:
            named = len(self.classes)
            raise ValueError(
                f'{checkpoint}: the checkpoint names {named} classes but the model predicts {count}'
            )
        palette = self.model.dataset_meta.get('palette')
        self.palette = np.asarray(palette, np.uint8) if palette else default_palette(count)

    def __call__(self, images: Image | Sequence[Image]) -> Result | list[Result]:
        """Predict one or several images.

        Args:
            images: Path of an image, **BGR** uint8 array of shape HxWx3 (as OpenCV reads it; for RGB pass
                ``array[..., ::-1]``) or PIL image; or a list of these.

        Returns:
            A result for a single image, or a list of results for a list of images.

        Raises:
            FileNotFoundError, ValueError, TypeError: If an image does not exist, cannot be read or has an
                unsupported type.
        """
        if isinstance(images, (list, tuple)):
            return list(self.stream(images))
        return next(self.stream([images]))

    def stream(
        self, images: Iterable[Image], on_error: Callable[[str, Exception], None] | None = None
    ) -> Iterator[Result]:
        """Yield the results in order, each as soon as its batch is done.

        Args:
            images: Iterable of images, such as the frames of a video.
            on_error: Called with the name of an image that cannot be read, or does not fit into memory, and
                the error; ``None`` raises the error.
        """
        batch: list[tuple[str, np.ndarray, dict[str, Any]]] = []
        for index, image in enumerate(images):
            name = str(image) if isinstance(image, (str, Path)) else f'image {index}'
            try:
                pixels = self.prepare.read(image)
                prepared = self.prepare(pixels, name)
            except (OSError, ValueError, MemoryError) as error:
                if on_error is None:
                    raise
                on_error(name, error)
                continue
            if batch and batch[0][2]['inputs'].shape != prepared['inputs'].shape:
                yield from self._results(batch, on_error)
                batch = []
            batch.append((name, pixels, prepared))
            if len(batch) == self.batch_size:
                yield from self._results(batch, on_error)
                batch = []
        if batch:
            yield from self._results(batch, on_error)

    def _results(
        self,
        batch: list[tuple[str, np.ndarray, dict[str, Any]]],
        on_error: Callable[[str, Exception], None] | None,
    ) -> Iterator[Result]:
        try:
            samples = predict(self.model, [prepared for _, _, prepared in batch], self.dtype)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error) or (len(batch) == 1 and on_error is None):
                raise
            reason = str(error).splitlines()[0]
        else:
            reason = ''
        if reason and len(batch) > 1:  # outside of the except clause, which keeps the tensors alive
            for one in batch:
                yield from self._results([one], on_error)
            return
        if reason and on_error is not None:
            name, pixels, _ = batch[0]
            height, width = pixels.shape[:2]
            on_error(name, ValueError(f'image {name} of {height}x{width} needs too much memory: {reason}'))
            return
        for (name, pixels, _), sample in zip(batch, samples, strict=True):
            if 'crop_box' in sample.metainfo:  # the prediction has the size of this window
                top, bottom, left, right = sample.crop_box
                pixels = pixels[top:bottom, left:right]
            if isinstance(self.model, DepthEstimator):
                depth = sample.pred_depth_map.data[0].float().cpu().numpy()
                yield Depth(name, pixels, depth, self.model.relative)
            else:
                labels = sample.pred_sem_seg.data[0].cpu().numpy()
                yield Segmentation(name, pixels, labels, self.classes, self.palette)


def _out_of_memory(error: Exception) -> bool:
    """Return whether the memory of the device, or of the CPU, does not suffice."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)


def config_of(checkpoint: str | Path) -> Config:
    """Read the config from a checkpoint, reduced to the keys that inference needs.

    The registry imports any dotted name in a config. Because checkpoints may be untrusted, this function
    accepts only names that are already registered.

    Files of other repositories that dpt recognises, such as Depth Anything, have a config of their own, see
    :func:`dpt.checkpoints.published.recognise_published`.

    Args:
        checkpoint: Path or URL of a published model, or of a training checkpoint of dpt or MMSegmentation, or
            a file of another repository.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has no config, or its config is not plain data or names unregistered classes.
    """
    content = read_checkpoint(checkpoint)
    meta = meta_of(content, checkpoint)
    if has_config(meta):
        return stored_config(meta, checkpoint)
    tensors = state_dict_of(content, checkpoint)
    if is_published(tensors):
        return Config(published_of(tensors, checkpoint).config())
    raise ValueError(
        f'{checkpoint} holds no config: pass it with {PASS_CONFIG}, or use a checkpoint of '
        'tools/train.py or tools/publish_model.py'
    )


def has_config(meta: Mapping[str, Any]) -> bool:
    """Return whether the metadata of a checkpoint contain the text of a config."""
    return isinstance(meta.get('cfg') or meta.get('config'), str)


def stored_config(meta: Mapping[str, Any], checkpoint: str | Path) -> Config:
    """Return the config in the metadata of a checkpoint, as :func:`config_of` does.

    Raises:
        ValueError: As :func:`config_of`.
    """
    text, names = meta.get('cfg'), None
    needed = {'default_scope', 'model', 'test_dataloader', 'test_cfg'}
    if not text:  # MMSegmentation 0.x
        text = meta['config']
        needed = names = needed | {*OLD_NAMES} - {'gpu_ids'}
    try:
        values = {key: value for key, value in config_values(text, names).items() if key in needed}
        name_types(values)
        for place, name in _part_names(values, 'config'):
            if isinstance(name, str) and '.' in name.removeprefix('mmseg.'):
                raise ValueError(f'{place}={name!r} would import code, which is not allowed in a checkpoint')
        config = Config(values)
        if is_mmseg_config(config):
            config, _ = translate_mmseg_config(config)
        return _inference_config(config, bool(dataset_meta(meta)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{checkpoint}: its config cannot be used: {error}; pass a config that you trust with '
            f'{PASS_CONFIG}'
        ) from None


def _inference_config(config: Config, has_classes: bool) -> Config:
    """Reduce the config to model, test pipeline and precision; check that all types are registered."""
    for key in ('model', 'test_dataloader'):
        if key not in config:
            raise ValueError(f'the key {key} is missing')
    model = config.model.to_dict()
    for _, node in list(walk(model)):
        node.pop('init_cfg', None)  # the weights are in the checkpoint
    _check_registered(model, 'model', MODELS)
    dataset = first_test_dataset(config)
    kept: dict[str, Any] = dict(pipeline=[dict(step) for step in dataset['pipeline']])
    _check_registered(kept['pipeline'], 'test_dataloader.dataset.pipeline', TRANSFORMS)
    if dataset.get('metainfo'):
        kept['metainfo'] = dict(dataset['metainfo'])
    elif not has_classes and not issubclass(MODELS.get(model['type']), DepthEstimator):
        kept['type'] = dataset['type']
        _check_registered(dict(type=dataset['type']), 'test_dataloader.dataset', DATASETS)
    test_cfg = dict(fp16=bool((config.get('test_cfg') or {}).get('fp16')))
    loader = dict(dataset=kept)
    return Config(dict(default_scope='dpt', model=model, test_dataloader=loader, test_cfg=test_cfg))


def _part_names(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every ``type``, and of ``_scope_``, which changes the registry."""
    for place, node in walk(value, key):
        yield from ((f'{place}.{name}', node[name]) for name in ('type', '_scope_') if name in node)


def _check_registered(value: Any, key: str, registry: Registry) -> None:
    known = set(registry.module_dict) | (
        set(registry.parent.module_dict) if registry is TRANSFORMS else set()
    )
    for place, name in _part_names(value, key):
        if not isinstance(name, str) or place.endswith('._scope_') or name not in known:
            raise ValueError(f'{place}={name!r} is not registered')
