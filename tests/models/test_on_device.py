"""What runs where tensors are not on a CPU, told by shapes alone.

Torch's meta device takes the code of GPUs. The host can read nothing there: on a GPU it would wait for it.
"""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper

from dpt.config.walk import without_annotations
from dpt.engine.non_finite import FiniteSteps
from dpt.extras.profiling import workloads
from dpt.extras.profiling.workloads import random_batch
from dpt.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RECIPES = (
    'dpt_vit-b16_512x512_160k_ade20k.py',
    'dpt_vit-b16_512x512_160k_ade20k_improved.py',
    'dpt_hybrid_512x512_160k_ade20k.py',
    'dpt_vit-s14_364x476_4k_camvid.py',
)
SIZE = (70, 90)


def build(name: str) -> tuple[Config, BaseModel]:
    config = Config.fromfile(CONFIGS / name)
    config.model.backbone.init_cfg = None
    config.model.data_preprocessor.size = (224, 224)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    return config, model.to('meta')


@pytest.mark.parametrize('name', RECIPES)
def test_training_step_stays_on_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, model = build(name)
    # As on a GPU: the fused optimiser is there, and does nothing where a tensor says so.
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(optimizers, '_get_fused_kernels_supported_devices', lambda: ['meta'])
    monkeypatch.setattr(FiniteSteps, '_decides_on_device', lambda self, fault: True)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    assert wrapper.optimizer._step_supports_amp_scaling  # else the host would wait before each step
    data = random_batch((224, 224), 2, config.model.decode_head.num_classes)
    log = model.train().train_step(data, wrapper)
    assert {value.device.type for value in log.values()} == {'meta'}
    assert all(parameter.grad is None or parameter.grad.is_meta for parameter in model.parameters())


@pytest.mark.parametrize('name', RECIPES)
def test_predictions_stay_on_device(name: str) -> None:
    config, model = build(name)
    with torch.no_grad():
        samples = model.eval().test_step(random_batch(SIZE, 2, 2))
    for sample in samples:
        assert (sample.pred_sem_seg.data.device.type, sample.pred_sem_seg.data.shape) == ('meta', (1, *SIZE))
    for step in config.tta_pipeline:
        if step['type'] == 'TestTimeAug':
            step['transforms'][0] = [dict(type='Resize', scale=(96, 64), keep_ratio=True)]
    pipeline = without_annotations(config.tta_pipeline)
    augmented = workloads.test_time_augmentation(config, model, pipeline, SIZE, None)
    (sample,) = augmented.step()
    assert (sample.pred_sem_seg.data.device.type, sample.pred_sem_seg.data.shape) == ('meta', (1, *SIZE))
