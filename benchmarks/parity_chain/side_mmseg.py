"""The peer's side: MMSegmentation 1.2.2's own config file, and what it needs to run and to be comparable.

Overridden: SyncBN is BN (one process), no pretrained file, no dropout, and the patch bias, which 1.2.0
dropped and the published run had: on, by the backbone's own argument.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import mmseg
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import DATASETS, METRICS, MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

from .inputs import randomise
from .job import Job, write_whole
from .side import SMALL_BACKBONE, SMALL_CHANNELS, SMALL_POST_PROCESS, Side

CONFIG = '.mim/configs/dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py'


def shipped(name: str) -> str:
    """Path of a file that the wheel brings along."""
    return str(Path(mmseg.__file__).parent / name)


class MMSegSide(Side):
    """MMSegmentation in its own environment."""

    scope = 'mmseg'
    samples = SegDataSample
    models, datasets, metrics = MODELS, DATASETS, METRICS

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        register_all_modules(init_default_scope=True)
        super().__init__(job, alive)
        self.config = Config.fromfile(shipped(CONFIG))

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
        config.pretrained = None
        config.decode_head.norm_cfg.type = 'BN'
        config.decode_head.dropout_ratio = 0.0
        if readout != 'project':
            config.decode_head.readout_type = readout
        if patch_bias:
            config.backbone.patch_bias = True
        if avg_non_ignore:
            config.decode_head.loss_decode.avg_non_ignore = True
        if test_cfg is not None:
            config.test_cfg = test_cfg
        if pad_to is not None:
            config.data_preprocessor.size = pad_to
        if small:
            width = SMALL_BACKBONE['embed_dims']
            config.backbone.update(SMALL_BACKBONE)
            config.decode_head.update(
                in_channels=(width,) * 4,
                embed_dims=width,
                channels=SMALL_CHANNELS,
                post_process_channels=SMALL_POST_PROCESS,
            )
        return config

    def fill(self, model: nn.Module, path: Path) -> None:
        """See the base class."""
        state = model.state_dict()
        randomise(state)
        write_whole(path, lambda partial: torch.save(dict(meta={}, state_dict=state), partial))

    def tta_pipeline(self, ratios_of: str) -> list:
        """See the base class.

        Version 0.x named one scale and ratios of it; what its pipeline made of them is spelt out here.
        """
        pipeline = copy.deepcopy(self.config.tta_pipeline)
        if ratios_of == 'test_scale':
            width, height = (2048, 512)
            pipeline[1].transforms[0] = [
                dict(type='Resize', scale=(int(width * ratio), int(height * ratio)), keep_ratio=True)
                for ratio in self.config.img_ratios
            ]
        return pipeline
