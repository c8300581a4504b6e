"""Fixtures that several test modules share."""

import gc
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / 'shared'
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


# In the processes that tests start, too; here torch is imported already, so that this is a plain module.
OPERATORS = REPOSITORY / 'tests' / 'torchvision_operators'
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(OPERATORS), os.environ.get('PYTHONPATH')]))
runpy.run_path(str(OPERATORS / 'sitecustomize.py'))
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')  # triton reads it when it is imported
torch.set_num_threads(int(os.environ.get('DPT_TEST_THREADS', '2')))


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection.

    mmengine collects garbage for every data set it builds, which takes half a second with this many objects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f'{path} is absent: this test needs data that is not part of the repository')
    return path


@pytest.fixture(scope='session')
def shared() -> Callable[[str], Path]:
    """Return a function that returns a path below the shared folder, or skips the test."""
    return _shared


@pytest.fixture(scope='session')
def camvid_root() -> Path:
    """CamVid in ADE20K's layout."""
    return _shared('data/camvid')


@pytest.fixture(scope='session')
def ade_sample_root() -> Path:
    """Three real ADE20K images with annotations."""
    return _shared('data/ade_sample')


@pytest.fixture(scope='session')
def depth_samples_root() -> Path:
    """Real images with depth: NYUv2, KITTI and Middlebury."""
    return _shared('data/depth_samples')


@pytest.fixture(scope='session')
def vit_small_weights() -> Path:
    """Pretrained ViT-S/14 in timm's keys."""
    return _shared('weights/vit_small_patch14_timm_fp16.pth')


@pytest.fixture(scope='session')
def tool_module(repository: Path) -> Callable[[str], ModuleType]:
    """Load a tool, such as ``tools/infer.py``, as a module."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f'tool_{Path(path).stem}', repository / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope='session')
def tiny_options() -> dict:
    """Options that make the quickstart's model tiny."""
    return TINY


@pytest.fixture(scope='session')
def tool_main(tool_module: Callable[[str], ModuleType]) -> Callable[[str], Callable[..., int]]:
    """Load a tool as a function that takes command-line arguments and returns the exit status.

    It runs in this process: to start one for each of many mistakes would take minutes.
    """

    def load(path: str) -> Callable[..., int]:
        module = tool_module(path)

        def main(*arguments: object) -> int:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, 'argv', [path, *map(str, arguments)])
                try:
                    return module.main() or 0
                except SystemExit as stop:
                    if isinstance(stop.code, str):  # Python prints it and exits with 1
                        print(stop.code, file=sys.stderr)
                        return 1
                    return stop.code or 0

        return main

    return load


@pytest.fixture(scope='session')
def config_text() -> str:
    """The config of the tiny model, as training writes it into checkpoints."""
    from dpt.config.load import load_config

    return load_config(str(REPOSITORY / 'configs' / 'quickstart.py'), TINY).pretty_text


@pytest.fixture(scope='session')
def model_file(config_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with random weights that tell pixels apart, with config, classes and colours."""
    from dpt.apis import init_model
    from dpt.checkpoints import save_weights

    torch.manual_seed(0)
    model = init_model(REPOSITORY / 'configs' / 'quickstart.py', device='cpu', cfg_options=TINY)
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
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp('pictures')
    (folder / 'below').mkdir()
    random = np.random.default_rng(0)
    sizes = {'a.png': (97, 131), 'b.png': (97, 131), 'c.png': (120, 80), 'below/d.jpg': (60, 90)}
    for name, (height, width) in sizes.items():
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = cv2.normalize(cv2.blur(noise, (15, 15)), None, 0, 255, cv2.NORM_MINMAX)
        cv2.imwrite(str(folder / name), picture)
    return folder


@pytest.fixture(autouse=True)
def _default_scope():
    """Every test resolves registered names in the scope 'dpt', as a config with ``default_scope`` does."""
    from mmengine.registry import DefaultScope

    if not DefaultScope.check_instance_created('test'):
        DefaultScope.get_instance('test', scope_name='dpt')
    with DefaultScope.overwrite_default_scope('dpt'):
        yield
