"""Export a trained model as a single graph, to ONNX or to torch.export's format.

The graph reorders the channels of an image, normalises and pads it, runs the network, and upsamples and crops
its output. The input ``image`` is uint8, BxHxWx3, in BGR as OpenCV reads it. The output, float32 at the size
of the input, is ``logits`` of shape BxKxHxW, or ``depth`` of shape Bx1xHxW. The caller resizes the image to
the test scale before the call and the output to the original size after it; labels are the argmax of the
logits. The metadata of the file holds the parameters for this.
"""

import copy
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import dpt
from dpt.config.walk import without_annotations
from dpt.files import write_whole
from dpt.models import DepthEstimator, SegDataPreProcessor
from dpt.models.dense import DensePredictor
from dpt.models.layers import resize
from dpt.models.lora import merged
from dpt.registry import TRANSFORMS

FORMATS = {'onnx': '.onnx', 'torch_export': '.pt2'}
OPSET = 18  # the first opset whose Resize has an antialias attribute
MAX_BATCH, MAX_SIDE = 1024, 16384
MAX_ONNX_BYTES = 2**31 - 1  # protobuf's limit for a message
_METADATA_FILE = 'dpt.json'

Runner = Callable[[np.ndarray], np.ndarray]


class ExportedModel(nn.Module):
    """Model with built-in preprocessing, from uint8 images to logits or depth.

    Args:
        model: A segmentor or depth estimator in evaluation mode with ``test_cfg.mode='whole'``; it is not
            modified. LoRA adapters are merged into the weights of a copy.
        half: Whether the network computes in float16. The types of input and output do not change.

    Raises:
        ValueError: If the model uses sliding windows, pads every image to one size, or overrides the
            ``forward`` of the preprocessor.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: DensePredictor, *, half: bool = False) -> None:
        super().__init__()
        model = merged(model)
        if model.test_cfg['mode'] != 'whole':
            raise ValueError(
                f'model.test_cfg.mode={model.test_cfg["mode"]!r} cannot be exported: the number of windows '
                'depends on the image; use --cfg-options model.test_cfg.mode=whole'
            )
        preprocessor = model.data_preprocessor
        if type(preprocessor).forward is not SegDataPreProcessor.forward:
            raise ValueError(
                f'{type(preprocessor).__name__} has its own forward, which cannot be exported: the graph '
                'normalises and pads as SegDataPreProcessor does'
            )
        size, divisor = preprocessor.test_padding
        if size is not None:
            raise ValueError(
                f'data_preprocessor.test_cfg.size={tuple(size)} cannot be exported: use size_divisor'
            )
        self.model = _in_half(model) if half else model
        self.dtype = torch.float16 if half else torch.float32
        self.divisor = divisor or 1
        self.pad_val, self.bgr_to_rgb = preprocessor.pad_val, preprocessor.bgr_to_rgb
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2)
        if self.bgr_to_rgb:
            x = x.flip(1)
        x = (x.float() - self.mean) / self.std
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.divisor, 0, -height % self.divisor), value=self.pad_val)
        output = resize(
            self.model(x.to(self.dtype), mode='tensor').float(),
            x.shape[-2:],
            mode=self.model.resize_mode,
            align_corners=self.model.align_corners,
        )
        if self.divisor == 1:
            return output
        # A slice would specialise the graph to sizes that need padding, or to sizes that need none.
        rows = torch.arange(height, device=output.device)
        columns = torch.arange(width, device=output.device)
        return output.index_select(2, rows).index_select(3, columns)


class _Float32(nn.Module):
    """Run a norm in float32 inside a model in half precision."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)


def _in_half(model: DensePredictor) -> DensePredictor:
    """Return a copy in float16 that keeps BatchNorm and GroupNorm in float32.

    Running statistics can exceed the range of float16: a variance above 65504 would become infinite.
    """
    half = copy.deepcopy(model).half()
    for name, part in model.named_modules():
        if isinstance(part, (_BatchNorm, nn.GroupNorm)):
            half.set_submodule(name, _Float32(copy.deepcopy(part)))
    return half


def describe(model: DensePredictor, pipeline: list[dict]) -> dict[str, Any]:
    """Return the metadata that a caller of the graph needs, as plain values.

    Args:
        model: Model from :func:`dpt.apis.init_model`.
        pipeline: Test pipeline of the model.

    Raises:
        ValueError: If the pipeline has steps other than loading an image and resizing it to a scale.
    """
    resizes = []
    for step in without_annotations(pipeline):
        if step['type'] == 'ResizeToBound' or (step['type'] == 'Resize' and step.get('scale') is not None):
            resizes.append(step)
        elif step['type'] not in ('LoadImageFromFile', 'PackSegInputs'):
            raise ValueError(
                f'the test pipeline uses {step["type"]}, which is not part of the graph: '
                'only Resize with a scale, or ResizeToBound, can be exported'
            )
    if len(resizes) > 1:
        raise ValueError(f'the test pipeline has {len(resizes)} Resize steps: at most one can be exported')
    preprocessor = model.data_preprocessor
    return dict(
        dpt_version=dpt.__version__,
        input='image: uint8, BxHxWx3, BGR, resized to scale; normalised and padded inside',
        **_describe_resizing(resizes[0] if resizes else None),
        mean=preprocessor.mean.flatten().tolist(),
        std=preprocessor.std.flatten().tolist(),
        bgr_to_rgb=preprocessor.bgr_to_rgb,
        size_divisor=preprocessor.test_padding[1] or 1,
        resize_mode=model.resize_mode,
        align_corners=model.align_corners,
        **_describe_output(model),
    )


def _describe_resizing(step: dict | None) -> dict[str, Any]:
    """Return how an image is resized before the graph; ``bound`` holds the arguments of ``ResizeToBound``."""
    if step is None:
        return dict(scale=None, keep_ratio=True, bound=None, interpolation='bilinear')
    transform = TRANSFORMS.build(dict(step))
    scale = [int(length) for length in transform.scale]  # (width, height)
    if step['type'] == 'Resize':
        bound, keep_ratio = None, bool(transform.keep_ratio)
    else:
        bound, keep_ratio = dict(method=transform.method, size_divisor=transform.size_divisor), True
    return dict(scale=scale, keep_ratio=keep_ratio, bound=bound, interpolation=transform.interpolation)


def _describe_output(model: DensePredictor) -> dict[str, Any]:
    if isinstance(model, DepthEstimator):
        what = 'inverse depth up to an unknown scale and shift' if model.relative else 'depth'
        resized = 'resize to the original image (resize_mode, align_corners)'
        return dict(output=f'depth: float32, Bx1xHxW, {what}; {resized}', relative=model.relative)
    meta = model.dataset_meta
    return dict(
        output='logits: float32, BxKxHxW; resize to the original image (bilinear), then argmax',
        classes=list(meta['classes']),
        palette=[[int(value) for value in colour] for colour in meta['palette']],
    )


@torch.no_grad()
def trace(graph: ExportedModel, size: tuple[int, int], *, dynamic: bool) -> torch.export.ExportedProgram:
    """Trace the graph.

    Args:
        graph: The model to trace.
        size: (height, width) of the example image; without ``dynamic``, the only size the graph accepts.
        dynamic: Whether batch size, height and width are dynamic. The minimum height and width are four
            patches, or those of the example if smaller. Otherwise the batch size is 1.

    Raises:
        ValueError: If torch cannot trace the model.
    """
    example = torch.zeros(2 if dynamic else 1, *size, 3, dtype=torch.uint8)
    shapes = None
    if dynamic:
        side = dict(min=min(4 * max(_patch_size(graph), 16), *size), max=MAX_SIDE)
        named = torch.export.Dim
        shapes = dict(
            image={
                0: named('batch', min=1, max=MAX_BATCH),
                1: named('height', **side),
                2: named('width', **side),
            }
        )
    try:
        # Turn guards on symbolic sizes, which always hold here, into run-time checks.
        program = torch.export.export(
            graph.eval(),
            (example,),
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        if dynamic:  # a check that does not hold at another size fails here, not in use
            program.module()(example.new_zeros(1, *(length + 96 for length in size), 3))
        return program
    except Exception as error:  # torch raises many types, some of them private
        remedy = '; try --no-dynamic --size HEIGHT WIDTH' if dynamic else ''
        raise ValueError(
            f'torch.export cannot trace this model: {str(error).splitlines()[0]}{remedy}'
        ) from error


def _patch_size(graph: ExportedModel) -> int:
    """Return the patch size; for a backbone without patches, the padding divisor, or 32 if there is none."""
    embedding = getattr(graph.model.backbone, 'patch_embed', None)
    if embedding is not None:
        size = getattr(embedding, 'patch_size', 16)
        return max(size) if isinstance(size, (tuple, list)) else size
    return graph.divisor if graph.divisor > 1 else 32


def write(program: torch.export.ExportedProgram, path: Path, file_format: str, meta: dict[str, Any]) -> None:
    """Write the graph and its metadata atomically.

    Raises:
        ValueError: If the ONNX packages are missing, or the model exceeds ONNX's limit of 2 GiB.
    """
    if file_format == 'torch_export':
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={_METADATA_FILE: json.dumps(meta)})
        write_whole(buffer.getvalue(), path)
        return
    size = sum(value.nbytes for value in program.state_dict.values())
    if size > MAX_ONNX_BYTES:
        raise ValueError(_too_large(path, size))
    try:
        import onnx
        import onnxscript  # noqa: F401  (required by torch.onnx.export)
        from google.protobuf.message import EncodeError
    except ImportError as error:
        install = "pip install 'dense-prediction-transformers[export]'"
        raise ValueError(f'--format onnx needs {error.name}: {install}') from None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)  # raised inside torch
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=['image'],
            output_names=[meta.get('output', 'logits').partition(':')[0]],
            verbose=False,
        )
    assert made is not None
    proto = made.model_proto
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in meta.items()})
    try:
        onnx.checker.check_model(proto)
        write_whole(proto.SerializeToString(), path)
    except EncodeError:
        raise ValueError(_too_large(path, size)) from None
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(f'{path}: ONNX rejected the model: {error}') from None


def _too_large(path: Path, size: int) -> str:
    return (
        f'{path}: the model with {size / 2**30:.1f} GiB of weights exceeds the 2 GiB limit of ONNX; '
        'use --format torch_export, or --fp16 for half the size'
    )


def load(path: Path, file_format: str) -> Runner:
    """Return a function that runs the file on images on the CPU (by onnxruntime or torch)."""
    if file_format == 'onnx':
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        return lambda image: session.run(None, {'image': image})[0]
    module = torch.export.load(str(path)).module()

    def run(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(image)).numpy()

    return run


def depth_from(output: np.ndarray, size: tuple[int, int], model: DensePredictor) -> np.ndarray:
    """Resize 1x1xhxw depth to ``size`` (height, width) as the model does; return a map of shape HxW."""
    mode, corners = model.resize_mode, model.align_corners
    return resize(torch.from_numpy(output), size, mode=mode, align_corners=corners)[0, 0].numpy()


def labels_from(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize 1xKxhxw logits to ``size`` (height, width) and return the HxW labels."""
    return resize(torch.from_numpy(logits), size)[0].argmax(dim=0).numpy()
