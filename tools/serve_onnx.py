"""Predict an image with an exported model, using only numpy, OpenCV and onnxruntime.

A segmentor writes class indices; a depth model writes a 16-bit PNG in millimetres, or .npy (float32).

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python serve_onnx.py dpt_mine.onnx photo.jpg labels.png
    python serve_onnx.py dpt_depth.onnx photo.jpg depth.npy
"""

import json
import math
import sys

import cv2
import numpy as np
import onnxruntime

INTERPOLATIONS = {'bilinear': cv2.INTER_LINEAR, 'bicubic': cv2.INTER_CUBIC, 'area': cv2.INTER_AREA}


def resized(
    image: np.ndarray,
    scale: list[int] | None,
    keep_ratio: bool,
    bound: dict | None = None,
    interpolation: str = 'bilinear',
) -> np.ndarray:
    """Resize to ``scale`` (width, height); ``keep_ratio`` fits long side to long side, short to short.

    With ``bound``, the sides are multiples of a number, and the scale is a limit of both or of one of them.
    """
    if scale is None:
        return image
    height, width = image.shape[:2]
    if bound is not None:
        scale = bounded((width, height), scale, **bound)
    elif keep_ratio:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
        scale = [int(width * factor + 0.5), int(height * factor + 0.5)]
    return cv2.resize(image, scale, interpolation=INTERPOLATIONS[interpolation])


def bounded(sides: tuple[int, int], scale: list[int], method: str, size_divisor: int) -> list[int]:
    """Return the (width, height) to which ResizeToBound resizes an image."""
    factors = [limit / side for limit, side in zip(scale, sides, strict=True)]
    if method == 'minimal':
        factor = min(factors[::-1], key=lambda factor: abs(1 - factor))
    else:
        factor = max(factors) if method == 'lower_bound' else min(factors)
    found = []
    for side, limit in zip(sides, scale, strict=True):
        length = round(factor * side / size_divisor) * size_divisor
        if method == 'lower_bound' and length < limit:
            length = math.ceil(factor * side / size_divisor) * size_divisor
        if method == 'upper_bound' and length > limit:
            length = math.floor(factor * side / size_divisor) * size_divisor
        found.append(max(length, size_divisor))
    return found


def run(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """Return the output for a BGR image of shape HxWx3: KxHxW, at the size of the resized image."""
    props = session.get_modelmeta().custom_metadata_map
    names = ('scale', 'keep_ratio', 'bound', 'interpolation')
    given = {name: json.loads(props[name]) for name in names if name in props}
    return session.run(None, {'image': resized(image, **given)[None]})[0][0]


def segment(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """Return the HxW class indices of a BGR image of shape HxWx3."""
    size = image.shape[1::-1]
    planes = [cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in run(session, image)]
    return np.argmax(planes, axis=0)


def depth_of(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """Return the HxW depth, float32, of a BGR image of shape HxWx3."""
    depth = run(session, image)[0]
    props = session.get_modelmeta().custom_metadata_map
    if not json.loads(props['align_corners']):
        cubic = json.loads(props['resize_mode']) == 'bicubic'
        return cv2.resize(
            depth, image.shape[1::-1], interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        )
    for axis in (0, 1):  # OpenCV has no interpolation with the corners aligned
        places = np.linspace(0, depth.shape[axis] - 1, image.shape[axis], dtype=np.float32)
        lower = np.minimum(places.astype(int), max(depth.shape[axis] - 2, 0))
        weight = np.expand_dims(places - lower, 1 - axis)
        upper = np.minimum(lower + 1, depth.shape[axis] - 1)
        depth = depth.take(lower, axis) * (1 - weight) + depth.take(upper, axis) * weight
    return depth


def write_depth(target: str, depth: np.ndarray, relative: bool) -> None:
    """Write and describe depth."""
    if target.endswith('.npy'):
        np.save(target, depth)
    elif relative or depth.max() > 65.535:
        sys.exit(f'error: {target}: 16 bits hold up to 65.535 m and no relative depth; name it .npy')
    else:
        cv2.imwrite(target, np.rint(1000 * depth).astype(np.uint16))
    low, middle, high = np.percentile(depth, (0, 50, 100))
    print(f'{"inverse depth" if relative else "depth"}: {low:.3g} to {high:.3g}, median {middle:.3g}')


if __name__ == '__main__':
    if len(sys.argv) != 4:
        print(__doc__)
        sys.exit(0 if '--help' in sys.argv else 2)
    model, source, target = sys.argv[1:]
    image = cv2.imread(source)
    if image is None:
        sys.exit(f'error: image {source} cannot be read')
    try:
        session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors share no base class
        sys.exit(f'error: {model} cannot be loaded: {error}')
    meta = session.get_modelmeta().custom_metadata_map
    if 'classes' not in meta:
        write_depth(target, depth_of(session, image), json.loads(meta['relative']))
        sys.exit(0)
    labels = segment(session, image)
    classes = json.loads(meta['classes'])
    cv2.imwrite(target, labels.astype(np.uint8 if len(classes) <= 256 else np.uint16))
    for index, count in zip(*np.unique(labels, return_counts=True), strict=True):
        print(f'{classes[index]}: {100 * count / labels.size:.1f} %')
