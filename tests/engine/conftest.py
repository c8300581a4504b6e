"""Fixtures that train a tiny model in this process."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

from dpt.config import load_config
from dpt.engine import Runner, build_runner


@pytest.fixture(scope='session')
def scenes(tool_module: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of synthetic scenes: 7 training and 2 validation images."""
    folder = tmp_path_factory.mktemp('scenes')
    tool = tool_module('tools/make_quickstart_data.py')
    tool.make_data(folder / 'data', train=7, val=2, size=(64, 96), seed=0)
    return folder / 'data'


@pytest.fixture
def tiny(repository: Path, scenes: Path, tiny_options: dict) -> Callable[..., Config]:
    """Return a function that creates a config: tiny model, two images per iteration, no workers."""

    def config(work_dir: Path, **options: object) -> Config:
        loaders = {
            f'{loader}_dataloader.{key}': value
            for loader in ('train', 'val', 'test')
            for key, value in (('num_workers', 0), ('dataset.data_root', str(scenes)))
        }
        given = dict(
            tiny_options,
            **loaders,
            **{
                'total_batch_size': 2,
                'default_hooks.visualization': None,
                'default_hooks.utilization': None,
                'default_hooks.logger.interval': 1,
                'default_hooks.checkpoint.interval': 1,
                'default_hooks.checkpoint.max_keep_ckpts': -1,
                'randomness.seed': 0,
            },
        )
        path = str(repository / 'configs' / 'quickstart.py')
        loaded = load_config(path, given, str(work_dir))
        loaded.merge_from_dict(copy.deepcopy(options))
        return loaded

    return config


@pytest.fixture
def train(tiny: Callable[..., Config]) -> Callable[..., Runner]:
    """Return a function that trains the tiny model and returns the runner."""

    def run(work_dir: Path, resume: str | None = None, **options: object) -> Runner:
        runner = build_runner(tiny(work_dir, **options), resume=resume)
        runner.train()
        return runner

    return run
