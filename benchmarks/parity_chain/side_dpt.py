"""Our side: the config file as it is; weights renamed by the tables that load other people's checkpoints."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, ConfigDict
from torch import nn

import dpt  # noqa: F401 (registers the parts)
from dpt.checkpoints import load_model
from dpt.config.testing import use_test_time_augmentation
from dpt.registry import DATASETS, METRICS, MODELS
from dpt.structures import SegDataSample

from .job import Job, wait_for
from .side import SMALL_BACKBONE, SMALL_CHANNELS, SMALL_POST_PROCESS, Side


class DPTSide(Side):
    """``dpt`` in the environment of the one who runs the chain."""

    scope = 'dpt'
    samples = SegDataSample
    models, datasets, metrics = MODELS, DATASETS, METRICS

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        super().__init__(job, alive)
        self.config = Config.fromfile(job.config)

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
        """See the base class."""
        config = copy.deepcopy(self.config.model)
        config.backbone.init_cfg = None
        config.decode_head.dropout_ratio = 0.0
        if readout != 'project':
            config.neck.readout_type = readout
        if not patch_bias:
            config.backbone.patch_bias = False
        if avg_non_ignore:
            config.loss.avg_non_ignore = True
        if test_cfg is not None:
            config.test_cfg = test_cfg
        if pad_to is not None:
            config.data_preprocessor.size = pad_to
        if small:
            config.backbone.update(SMALL_BACKBONE)
            config.neck.update(
                in_channels=SMALL_BACKBONE['embed_dims'],
                channels=SMALL_CHANNELS,
                post_process_channels=SMALL_POST_PROCESS,
            )
            config.decode_head.update(in_channels=SMALL_CHANNELS, channels=SMALL_CHANNELS)
        return config

    def fill(self, model: nn.Module, path: Path) -> None:
        """See the base class."""
        load_model(model, wait_for(path, self.alive), logger=logging.getLogger('parity'))

    def tta_pipeline(self, ratios_of: str) -> list:
        """See the base class."""
        config = copy.deepcopy(self.config)
        config.tta_ratios_of = ratios_of
        use_test_time_augmentation(config)
        return config.test_dataloader.dataset.pipeline
