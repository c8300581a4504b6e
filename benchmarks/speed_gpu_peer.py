"""MMSegmentation's side of ``speed_gpu.py``: its own config and code, under its own Python."""

from mmengine.runner import Runner
from mmseg.registry import DATASETS, MODELS
from mmseg.utils import register_all_modules
from speed_common import Side
from speed_gpu_common import AMP, Settings, main, shrunk, train
from speed_peer import config, sample

SIDE = Side(MODELS, DATASETS, config, sample, Runner.from_cfg)


def training(settings: Settings, **optim_wrapper: object) -> dict:
    loaded = config()
    shrunk(loaded.model, settings)
    if settings.device == 'cuda':  # its mixed precision refuses to run without a GPU
        loaded.optim_wrapper.update(optim_wrapper)
    # Its loader hands over memory that is not page-locked: its config does not ask for that.
    return train(SIDE, loaded, settings, pin=False)


if __name__ == '__main__':
    register_all_modules(init_default_scope=True)
    main({'reference-fp32': training, 'reference-amp': lambda settings: training(settings, **AMP)})
