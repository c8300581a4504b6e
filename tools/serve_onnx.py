"""Segment an image with an exported model, using only numpy, OpenCV and onnxruntime.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python serve_onnx.py dpt_mine.onnx photo.jpg labels.png
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime


def resized(image: np.ndarray, scale: list[int] | None, keep_ratio: bool) -> np.ndarray:
    """Resize to ``scale`` (width, height); ``keep_ratio`` fits long side to long side, short to short."""
    if scale is None:
        return image
    height, width = image.shape[:2]
    if keep_ratio:
        factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
        scale = [int(width * factor + 0.5), int(height * factor + 0.5)]
    return cv2.resize(image, scale, interpolation=cv2.INTER_LINEAR)


def segment(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """Return the HxW class indices of a BGR image of shape HxWx3."""
    props = session.get_modelmeta().custom_metadata_map
    scale, keep_ratio = json.loads(props['scale']), json.loads(props['keep_ratio'])
    logits = session.run(None, {'image': resized(image, scale, keep_ratio)[None]})[0][0]
    planes = [cv2.resize(plane, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for plane in logits]
    return np.argmax(planes, axis=0)


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
    labels = segment(session, image)
    classes = json.loads(session.get_modelmeta().custom_metadata_map['classes'])
    cv2.imwrite(target, labels.astype(np.uint8 if len(classes) <= 256 else np.uint16))
    for index, count in zip(*np.unique(labels, return_counts=True), strict=True):
        print(f'{classes[index]}: {100 * count / labels.size:.1f} %')
