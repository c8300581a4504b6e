"""How one framework is driven: what the two sides do differently, and nothing else."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry, init_default_scope
from torch import nn

from .job import Job

SMALL_BACKBONE = dict(img_size=64, embed_dims=64, num_layers=4, num_heads=4, out_indices=(0, 1, 2, 3))
SMALL_CHANNELS = 32
SMALL_POST_PROCESS = [16, 24, 32, 48]


class Side:
    """One framework in its own environment.

    A subclass reads its config file and knows its own names.

    Attributes:
        scope: Name of the framework's registries.
        config: Its config file, read.
        alive: Whether the other side still runs.
        samples: Its class of data samples.
        models, datasets, metrics: Its registries.
    """

    scope: str
    config: Config
    samples: type
    models: Registry
    datasets: Registry
    metrics: Registry

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        self.job = job
        self.alive = alive
        torch.set_num_threads(job.threads)
        init_default_scope(self.scope)

    def model_config(
        self,
        *,
        small: bool,
        readout: str,
        patch_bias: bool,
        avg_non_ignore: bool,
        test_cfg: dict | None,
        pad_to: tuple[int, int] | None,
    ) -> ConfigDict:
        """The config file's model, without pretrained weights and dropout, and with these values."""
        raise NotImplementedError

    def fill(self, model: nn.Module, path: Path) -> None:
        """Give the model the weights that the peer makes and writes to ``path``."""
        raise NotImplementedError

    def tta_pipeline(self, ratios_of: str) -> list:
        """The test-time augmentation whose ratios are of ``'test_scale'`` or of the ``'image'``."""
        raise NotImplementedError

    def build_model(
        self,
        weights: str,
        *,
        small: bool,
        readout: str = 'project',
        patch_bias: bool = True,
        avg_non_ignore: bool = False,
        test_cfg: dict | None = None,
        pad_to: tuple[int, int] | None = None,
    ) -> nn.Module:
        """Build the model of the config file with seeded random weights, exchanged under a name."""
        config = self.model_config(
            small=small,
            readout=readout,
            patch_bias=patch_bias,
            avg_non_ignore=avg_non_ignore,
            test_cfg=test_cfg,
            pad_to=pad_to,
        )
        model = self.models.build(config)
        self.fill(model, self.job.weights_path(weights))
        return model.eval()

    def dataset(self, loader: str, root: str, split: str, pipeline: list | None = None) -> object:
        """A loader's data set on other folders; ``pipeline`` in place of its own."""
        config = copy.deepcopy(self.config[loader].dataset)
        config.data_root = root
        config.data_prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
        if pipeline is not None:
            config.pipeline = pipeline
        return self.datasets.build(config)


def open_side(name: str, job: Job, alive: Callable[[], bool] = lambda: True) -> Side:
    """Start ``'dpt'`` or ``'mmseg'``, whichever this environment holds."""
    if name == 'dpt':
        from .side_dpt import DPTSide

        return DPTSide(job, alive)
    from .side_mmseg import MMSegSide

    return MMSegSide(job, alive)
