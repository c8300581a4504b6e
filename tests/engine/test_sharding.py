"""Settings that do not go with sharding; the trainings are in ``tests/tools/test_sharded_training.py``."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import EMAHook

from dpt.engine.sharding import check_sharding


@pytest.mark.parametrize(
    ('options', 'hooks', 'message'),
    [
        (dict(fsdp=True), [], 'fsdp must be a dict with any of min_params'),
        (dict(fsdp=dict(min_param=1)), [], "unknown keys \\['min_param'\\]"),
        (dict(fsdp={}, model_wrapper_cfg=dict(type='MMDistributedDataParallel')), [], 'model_wrapper_cfg'),
        (dict(fsdp={}), [EMAHook()], 'EMAHook'),
        (dict(fsdp={}, optim_wrapper=dict(dtype='float16')), [], 'use bfloat16'),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict, hooks: list, message: str) -> None:
    config = Config(dict(dict(optim_wrapper=dict(dtype='bfloat16')), **options))
    with pytest.raises(ValueError, match=message):
        check_sharding(SimpleNamespace(cfg=config, hooks=hooks))
