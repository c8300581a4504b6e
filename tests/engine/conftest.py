"""Fixtures that train a tiny DPT, or a linear regression, in this process."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from dpt.config import load_config
from dpt.engine import Runner, build_runner
from dpt.registry import DATASETS, METRICS, MODELS


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


@MODELS.register_module()
class Regression(BaseModel):
    """Linear regression with dropout."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Linear(width, 1))

    def forward(self, inputs: torch.Tensor, mode: str = 'tensor') -> object:
        """Return the loss, or a prediction for each point."""
        outputs = self.layers(inputs)
        return dict(loss=(outputs - 1).square().mean()) if mode == 'loss' else list(outputs)


@DATASETS.register_module()
class Points(BaseDataset):
    """Eight fixed points."""

    def load_data_list(self) -> list[dict]:
        """Return the points."""
        return [dict(inputs=point) for point in torch.randn(8, 4, generator=torch.Generator().manual_seed(0))]

    def __getitem__(self, index: int) -> dict:
        """Return one point."""
        return dict(inputs=self.get_data_info(index)['inputs'])


@METRICS.register_module()
class Constant(BaseMetric):
    """Metric that never improves."""

    score_names = ('score',)

    def process(self, data_batch: object, data_samples: list) -> None:
        """Count the predictions."""
        self.results += [1 for _ in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the same score for each validation."""
        return dict(score=1.0)


def regression_config(work_dir: Path, **changes: object) -> Config:
    """Return the config of a regression of four iterations, each with validation and checkpoint."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type='Points'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    given = dict(
        default_scope='dpt',
        model=dict(type='Regression'),
        work_dir=str(work_dir),
        train_dataloader=dict(loader, sampler=dict(type='InfiniteSampler')),
        val_dataloader=loader,
        val_evaluator=dict(type='Constant'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=1),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    return Config({**given, **changes})


@pytest.fixture
def regress(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Return a function that trains the regression and returns the last checkpoint."""
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)  # it takes longer than the training

    def run(work_dir: Path, resume: Path | None = None, **changes: object) -> dict:
        given = dict(load_from=resume and str(resume), resume=resume is not None, **changes)
        Runner.from_cfg(regression_config(work_dir, **given)).train()
        last = (work_dir / 'last_checkpoint').read_text()
        return torch.load(work_dir / last, weights_only=True)

    return run


@pytest.fixture(scope='session')
def fake_cuda(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the module ``fake_cuda`` and its libraries, for tensors that claim to be on a GPU."""
    sources = shared('fake_cuda')
    if shutil.which('g++') is None:
        pytest.skip('g++ is absent: it builds the libraries of fake_cuda')
    folder = tmp_path_factory.mktemp('fake_cuda')
    subprocess.run(['bash', str(sources / 'build.sh'), str(folder), sys.executable], check=True)
    shutil.copy(sources / 'fake_cuda.py', folder)
    return folder
