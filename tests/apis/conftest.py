"""A tiny model in one file, and images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import init_model
from dpt.checkpoints import save_weights
from dpt.engine.launch import load_config

QUICKSTART = Path(__file__).resolve().parents[2] / 'configs' / 'quickstart.py'
TINY = {
    'model.backbone.embed_dims': 16,
    'model.backbone.num_heads': 2,
    'model.neck.in_channels': 16,
    'model.neck.channels': 8,
    'model.neck.post_process_channels': (4, 8, 8, 8),
    'model.decode_head.in_channels': 8,
    'model.decode_head.channels': 8,
}
CLASSES = ('sky', 'ground', 'tree', 'house', 'sun', 'car')


@pytest.fixture(scope='session')
def config_text() -> str:
    """The config of the tiny model, as training writes it into checkpoints."""
    return load_config(str(QUICKSTART), TINY).pretty_text


@pytest.fixture(scope='session')
def model_file(config_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with random weights that tell pixels apart, with config, classes and colours."""
    torch.manual_seed(0)
    model = init_model(QUICKSTART, device='cpu', cfg_options=TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    colours = [[40 * k, 255 - 40 * k, 7 * k] for k in range(6)]
    meta = dict(cfg=config_text, dataset_meta=dict(classes=CLASSES, palette=colours))
    path = tmp_path_factory.mktemp('model') / 'tiny.safetensors'
    save_weights(model.state_dict(), meta, path)
    return path


@pytest.fixture(scope='session')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images: two of one size, one of another, one more a folder below."""
    folder = tmp_path_factory.mktemp('pictures')
    (folder / 'below').mkdir()
    random = np.random.default_rng(0)
    sizes = {'a.png': (97, 131), 'b.png': (97, 131), 'c.png': (120, 80), 'below/d.jpg': (60, 90)}
    for name, (height, width) in sizes.items():
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = cv2.normalize(cv2.blur(noise, (15, 15)), None, 0, 255, cv2.NORM_MINMAX)
        cv2.imwrite(str(folder / name), picture)
    return folder


@pytest.fixture(scope='session')
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of five frames, 96x64."""
    path = tmp_path_factory.mktemp('clip') / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, (96, 64))
    for i in range(5):
        writer.write(np.full((64, 96, 3), 50 * i, np.uint8))
    writer.release()
    return path
