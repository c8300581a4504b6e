"""No code runs from a checkpoint, whichever way it is loaded; a refusal is a line that names the file."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fault_cases.hostile_files import HOSTILE, write_hostile
from mmengine.config import Config

from dpt.apis import init_model
from dpt.checkpoints import read_checkpoint
from dpt.config.load import load_config
from dpt.engine import build_runner

CONVERTERS = 'tools/model_converters'


@pytest.fixture(scope='module')
def config(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(
        str(repository / 'configs/quickstart.py'),
        {'model.backbone.embed_dims': 16, 'model.neck.in_channels': 16},
        str(tmp_path_factory.mktemp('work')),
    )


def load_from(config: Config, file: Path) -> None:
    config.model.init_cfg = dict(type='Pretrained', checkpoint=str(file))  # what load_from becomes
    init_model(config).init_weights()


def backbone(config: Config, file: Path) -> None:
    config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(file))
    init_model(config).init_weights()


def resume(config: Config, file: Path) -> None:
    config.resume, config.load_from = True, str(file)
    build_runner(config)


WAYS = {'load_from': load_from, 'backbone': backbone, 'resume': resume, 'api': init_model}
TOOLS = {
    'vit2mmseg': (f'{CONVERTERS}/vit2mmseg.py', lambda module, file: module.convert(str(file))),
    'isl2dpt': (f'{CONVERTERS}/isl2dpt.py', lambda module, file: module.convert(str(file))),
    'dpt2mmseg': (f'{CONVERTERS}/dpt2mmseg.py', lambda module, file: module.convert_back(str(file))),
    'publish_model': (
        'tools/publish_model.py',
        lambda module, file: module.publish(str(file), file.with_name('published.pth')),
    ),
}


def assert_refused(load, file: Path, made: Path) -> None:
    before = set(file.parent.iterdir())
    with pytest.raises(ValueError, match=file.name.replace('.', r'\.')) as caught:
        load(file)
    assert '\n' not in str(caught.value)
    assert 'weights_only' not in str(caught.value)
    assert not made.exists()
    assert set(file.parent.iterdir()) == before


@pytest.mark.parametrize('name', HOSTILE)
def test_reading_refuses_in_one_line(name: str, tmp_path: Path) -> None:
    assert_refused(read_checkpoint, *write_hostile(name, tmp_path))


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', ['optimizer_payload.pth', 'meta_legacy.pth', 'objects.npz', 'bomb.pth'])
def test_every_way_into_a_model_refuses(config: Config, way: str, name: str, tmp_path: Path) -> None:
    assert_refused(lambda file: WAYS[way](copy.deepcopy(config), file), *write_hostile(name, tmp_path))


@pytest.mark.parametrize('name', ['state_dict_payload.pth', 'meta_payload.pth', 'optimizer_legacy.pth'])
@pytest.mark.parametrize('way', TOOLS)
def test_every_tool_refuses(tool_module: Callable, way: str, name: str, tmp_path: Path) -> None:
    path, call = TOOLS[way]
    module = tool_module(path)
    assert_refused(lambda file: call(module, file), *write_hostile(name, tmp_path))


@pytest.mark.parametrize(
    'name', [name for name in HOSTILE if name.endswith(('payload.pth', 'legacy.pth', 'pickle.pth'))]
)
def test_payloads_run_when_unpickled(name: str, tmp_path: Path) -> None:
    file, made = write_hostile(name, tmp_path)
    pickle.loads(file.read_bytes()) if name == 'bare_pickle.pth' else torch.load(file, weights_only=False)
    assert made.is_dir()
