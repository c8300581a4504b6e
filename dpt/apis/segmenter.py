"""``Segmenter``: a model from one file, for images from anywhere."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from dpt.visualization import default_palette

from .from_file import config_of
from .model import Preparation, init_model, predict
from .segmentation import Segmentation
from .sources import find_files, named_images

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}

OnError = Callable[[str, Exception], None]
Pending = tuple[str, np.ndarray, dict[str, Any]]


class Segmenter:
    """A trained model, ready for images.

    Config, classes and colours come from the file of the weights, as ``tools/publish_model.py`` writes it and
    training does. The config is read as data; nothing in the file is run. Labels are those of
    :func:`dpt.apis.inference_model` and ``tools/test.py``.

    Args:
        checkpoint: Path or URL.
        config: Config or path of its file, instead of the one in the checkpoint.
        device: Where the model runs; ``None`` for the GPU if there is one.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'`` (autocast); ``None`` as the config's test loop does.
        batch_size: Images computed at once. Only images that follow each other and have one size when the
            network sees them are: padding to a common size would change what is predicted. Between batch
            sizes results differ by rounding alone.
        cfg_options: Values that override the config's, by dotted key.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If the checkpoint holds no usable config and none is given, does not fit it, or names
            another number of classes than the model has.

    Example:
        >>> segmenter = Segmenter('model.safetensors')
        >>> result = segmenter('street.jpg')
        >>> result.labels, result.areas(), result.overlay(0.5)
        >>> for result in segmenter.stream('drive.mp4'): ...
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
        _check_device(device)
        self.dtype = PRECISIONS[precision] if precision else None
        self.batch_size = batch_size
        self.model = init_model(config or config_of(checkpoint), checkpoint, device, cfg_options)
        self.prepare = Preparation(self.model.cfg)
        self.classes = tuple(self.model.dataset_meta['classes'])
        count = self.model.decode_head.num_classes
        if len(self.classes) != count:
            raise ValueError(
                f'{checkpoint}: {len(self.classes)} classes are named, but the model tells {count} apart'
            )
        palette = self.model.dataset_meta.get('palette')
        self.palette = np.asarray(palette, np.uint8) if palette else default_palette(count)

    def __call__(self, images: Any) -> Segmentation | list[Segmentation]:
        """Segment images.

        Args:
            images: Path of an image, **BGR** uint8 array of shape HxWx3 (as OpenCV reads it and
                MMSegmentation takes it; for RGB pass ``array[..., ::-1]``), PIL image; folder or glob
                pattern; or a sequence of any of these.

        Returns:
            One result for one image; a list for a folder, a pattern and a sequence.

        Raises:
            FileNotFoundError, ValueError, TypeError: If an image is not there or is none; for videos and
                webcams, whose frames :meth:`stream` yields one by one.
        """
        if isinstance(images, int) or _has_video(images):
            raise ValueError(f'{images!r} is no image: take the frames of a video or webcam from stream()')
        results = list(self.stream(images))
        is_path = isinstance(images, (str, Path))
        single = Path(images).expanduser().is_file() if is_path else not isinstance(images, (list, tuple))
        return results[0] if single and len(results) == 1 else results

    def stream(self, source: Any, on_error: OnError | None = None) -> Iterator[Segmentation]:
        """Yield a result for each image as it is ready, in order, so that there may be any number of them.

        Args:
            source: What :meth:`__call__` takes, and also the path of a video, the index of a webcam, or any
                iterable.
            on_error: Called with the name of an image that cannot be read and the error, and the rest goes
                on; ``None`` to raise it.
        """
        pending: list[Pending] = []
        for name, image in named_images(source):
            try:
                pixels = image if isinstance(image, np.ndarray) else self.prepare.read(image)
                prepared = self.prepare(pixels, name)
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(name, error)
                continue
            if pending and pending[0][2]['inputs'].shape != prepared['inputs'].shape:
                yield from self._segment(pending)
                pending = []
            pending.append((name, pixels, prepared))
            if len(pending) == self.batch_size:
                yield from self._segment(pending)
                pending = []
        yield from self._segment(pending)

    def _segment(self, pending: list[Pending]) -> Iterator[Segmentation]:
        if not pending:
            return
        samples = predict(self.model, [prepared for _, _, prepared in pending], self.dtype)
        for (name, pixels, _), sample in zip(pending, samples, strict=True):
            labels = sample.pred_sem_seg.data[0].cpu().numpy()
            yield Segmentation(name, pixels, labels, self.classes, self.palette)


def _has_video(images: Any) -> bool:
    if isinstance(images, (str, Path)):
        return any(file.is_video for file in find_files(images))
    return isinstance(images, (list, tuple)) and any(map(_has_video, images))


def _check_device(device: str | torch.device | None) -> None:
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'device={str(device)!r} cannot be used here: {reason}') from None
