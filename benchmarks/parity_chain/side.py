"""Common interface to the two frameworks; each side imports only its own framework."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import Registry, init_default_scope
from torch import nn

from .inputs import IGNORE_INDEX, randomise
from .job import Job, wait_for, write_whole

PEER_CONFIG = '.mim/configs/dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py'
SMALL_BACKBONE = dict(img_size=64, embed_dims=64, num_layers=4, num_heads=4, out_indices=(0, 1, 2, 3))
SMALL_CHANNELS = 32
SMALL_POST_PROCESS = [16, 24, 32, 48]


class Side:
    """One framework in its environment.

    Attributes:
        scope: Scope of the framework's registries.
        config: Config of the framework.
        alive: Returns whether the other side is still running.
        samples: Data sample class of the framework.
        models, datasets, metrics, transforms: Registries of the framework.
    """

    scope: str
    config: Config
    samples: type
    models: Registry
    datasets: Registry
    metrics: Registry
    transforms: Registry

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        self.job = job
        self.alive = alive
        torch.set_num_threads(job.threads)
        init_default_scope(self.scope)

    def adapt(
        self, config: ConfigDict, *, small: bool, readout: str, patch_bias: bool, avg_non_ignore: bool
    ) -> None:
        """Apply the settings to the config of a model, and remove pretrained weights."""
        raise NotImplementedError

    def fill(self, model: nn.Module, path: Path) -> None:
        """Initialise the model with the random weights that the peer writes to ``path``."""
        raise NotImplementedError

    def tta_pipeline(self, ratios_of: str) -> list:
        """Return the test-time augmentation pipeline with ratios of ``'test_scale'`` or of ``'image'``."""
        raise NotImplementedError

    def loss(self, config: dict, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute a loss of logits BxKxHxW and labels BxHxW; ``sampler`` of the config is the head's."""
        raise NotImplementedError

    def apply(self, step: Callable, sample: dict) -> dict:
        """Apply a transform to a sample."""
        return step(sample)

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
        """Build the model of the config without dropout, with the random weights named ``weights``."""
        config = copy.deepcopy(self.config.model)
        config.decode_head.dropout_ratio = 0.0
        if test_cfg is not None:
            config.test_cfg = test_cfg
        if pad_to is not None:
            config.data_preprocessor.size = pad_to
        if small:
            config.backbone.update(SMALL_BACKBONE)
        self.adapt(config, small=small, readout=readout, patch_bias=patch_bias, avg_non_ignore=avg_non_ignore)
        model = self.models.build(config)
        self.fill(model, self.job.weights_path(weights))
        return model.eval()

    def dataset(self, loader: str, root: str, split: str, pipeline: list | None = None) -> object:
        """Build the data set of a loader with another root folder and optionally another pipeline."""
        config = copy.deepcopy(self.config[loader].dataset)
        config.data_root = root
        config.data_prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
        if pipeline is not None:
            config.pipeline = pipeline
        return self.datasets.build(config)


class DPTSide(Side):
    """``dpt`` with its unmodified config; loads the peer's weights like any MMSegmentation checkpoint."""

    scope = 'dpt'

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        import dpt  # noqa: F401 (registers the parts)
        from dpt.registry import DATASETS, METRICS, MODELS, TRANSFORMS
        from dpt.structures import SegDataSample

        self.samples = SegDataSample
        self.models, self.datasets, self.metrics, self.transforms = MODELS, DATASETS, METRICS, TRANSFORMS
        super().__init__(job, alive)
        self.config = Config.fromfile(job.config)

    def adapt(
        self, config: ConfigDict, *, small: bool, readout: str, patch_bias: bool, avg_non_ignore: bool
    ) -> None:
        """See the base class."""
        config.backbone.init_cfg = None
        if readout != 'project':
            config.neck.readout_type = readout
        if not patch_bias:
            config.backbone.patch_bias = False
        if avg_non_ignore:
            config.loss.avg_non_ignore = True
        if small:
            width = SMALL_BACKBONE['embed_dims']
            config.neck.update(
                in_channels=width, channels=SMALL_CHANNELS, post_process_channels=SMALL_POST_PROCESS
            )
            config.decode_head.update(in_channels=SMALL_CHANNELS, channels=SMALL_CHANNELS)

    def fill(self, model: nn.Module, path: Path) -> None:
        """See the base class."""
        from dpt.checkpoints import load_model

        load_model(model, wait_for(path, self.alive), logger=logging.getLogger('parity'))

    def loss(self, config: dict, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        return self.models.build(config)(logits, target, ignore_index=IGNORE_INDEX)

    def tta_pipeline(self, ratios_of: str) -> list:
        """See the base class."""
        from dpt.config.testing import use_test_time_augmentation

        config = copy.deepcopy(self.config)
        config.tta_ratios_of = ratios_of
        use_test_time_augmentation(config)
        return config.test_dataloader.dataset.pipeline


class MMSegSide(Side):
    """MMSegmentation 1.2.2 with the config in its wheel.

    SyncBN is replaced by BN, because there is only one process. The patch bias is enabled, as in the
    published run; MMSegmentation 1.2.0 and later disable it.
    """

    scope = 'mmseg'

    def __init__(self, job: Job, alive: Callable[[], bool] = lambda: True) -> None:
        from mmseg.registry import DATASETS, METRICS, MODELS, TRANSFORMS
        from mmseg.structures import SegDataSample
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=True)
        self.samples = SegDataSample
        self.models, self.datasets, self.metrics, self.transforms = MODELS, DATASETS, METRICS, TRANSFORMS
        super().__init__(job, alive)
        self.config = Config.fromfile(self.shipped(PEER_CONFIG))

    @staticmethod
    def shipped(name: str) -> str:
        """Return the path of a file in the wheel."""
        import mmseg

        return str(Path(mmseg.__file__).parent / name)

    def adapt(
        self, config: ConfigDict, *, small: bool, readout: str, patch_bias: bool, avg_non_ignore: bool
    ) -> None:
        """See the base class."""
        config.pretrained = None
        config.decode_head.norm_cfg.type = 'BN'
        if readout != 'project':
            config.decode_head.readout_type = readout
        if patch_bias:
            config.backbone.patch_bias = True
        if avg_non_ignore:
            config.decode_head.loss_decode.avg_non_ignore = True
        if small:
            width = SMALL_BACKBONE['embed_dims']
            config.decode_head.update(
                in_channels=(width,) * 4,
                embed_dims=width,
                channels=SMALL_CHANNELS,
                post_process_channels=SMALL_POST_PROCESS,
            )

    def fill(self, model: nn.Module, path: Path) -> None:
        """See the base class."""
        state = model.state_dict()
        randomise(state)
        write_whole(path, lambda partial: torch.save(dict(meta={}, state_dict=state), partial))

    def apply(self, step: Callable, sample: dict) -> dict:
        """See the base class; seeds albumentations, which the reference leaves to chance, as dpt does."""
        if hasattr(step, 'aug'):
            step.aug.set_random_seed(int(np.random.randint(2**32, dtype=np.int64)))
        return step(sample)

    def loss(self, config: dict, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """See the base class; computes what the reference means where its own code fails.

        ``FocalLoss`` fails on CPUs, so its formula gets the one-hot labels and the mask. ``DiceLoss`` trains
        ignored pixels, so it gets scores that are zero there. ``LovaszLoss(loss_type='binary')`` gets the one
        logit of a sigmoid that equals the softmax of two.
        """
        from mmseg.models.losses import focal_loss
        from mmseg.structures import build_pixel_sampler

        config = dict(config)
        kind, sampler, labelled = config['type'], config.pop('sampler', None), target != IGNORE_INDEX
        loss, options = self.models.build(config), dict(ignore_index=IGNORE_INDEX)
        if kind == 'FocalLoss':
            positive = F.one_hot(target.where(labelled, 0).flatten(), logits.shape[1])
            given = dict(gamma=loss.gamma, alpha=loss.alpha, class_weight=loss.class_weight)
            rows = logits.permute(0, 2, 3, 1).flatten(0, 2)
            return loss.loss_weight * focal_loss.py_sigmoid_focal_loss(
                rows, positive, valid_mask=labelled.reshape(-1, 1), **given
            )
        if kind == 'DiceLoss' and not labelled.all():
            logits = (logits.sigmoid() if loss.use_sigmoid else logits.softmax(1)) * labelled[:, None]
            loss.activate = False
        if kind == 'OhemCrossEntropy':
            options = {}
        if config.get('loss_type') == 'binary':
            logits = logits[:, 1] - logits[:, 0]
        if sampler is not None:
            head = SimpleNamespace(ignore_index=IGNORE_INDEX, loss_decode=loss)
            options['weight'] = build_pixel_sampler(sampler, context=head).sample(logits, target[:, None])
        return loss(logits, target, **options)

    def tta_pipeline(self, ratios_of: str) -> list:
        """See the base class. Unlike 0.x, version 1.x has no ratios of a scale, so each scale is listed."""
        pipeline = copy.deepcopy(self.config.tta_pipeline)
        if ratios_of == 'test_scale':
            width, height = (2048, 512)
            pipeline[1].transforms[0] = [
                dict(type='Resize', scale=(int(width * ratio), int(height * ratio)), keep_ratio=True)
                for ratio in self.config.img_ratios
            ]
        return pipeline
