"""Count where the host waits for the GPU in one training step of each config, on fake tensors.

Prints one JSON line: for each config, the operations that wait, and the memory that 16 images of the recipe
take in bf16. ``test_synchronisations.py`` starts it.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cuda  # first: it prepares torch
import mmengine.runner.amp
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / 'tests' / 'config'))

from test_mmseg_config import recipe  # noqa: E402
from test_synchronisations import representative, trained_configs  # noqa: E402

from dpt.config.mmseg import translate_mmseg_config  # noqa: E402
from dpt.engine import LogProcessor, NonFiniteHook, RuntimeInfoHook, enable_amp  # noqa: E402
from dpt.engine.sync_bn import use_sync_batch_norm  # noqa: E402
from dpt.extras.profiling.costs import TensorMemory  # noqa: E402
from dpt.registry import MODELS  # noqa: E402
from dpt.structures import SegDataSample  # noqa: E402

aten = torch.ops.aten
NO_FAKE_KERNEL = (aten._fused_sgd_.default, aten._fused_sgd_.tensor_lr)
COPIES = (aten._to_copy.default, aten.copy_.default)


class Synchronisations(TorchDispatchMode):
    """Record the operations for which the host waits: reads, copies that block, results of unknown size."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        on_gpu = any(isinstance(one, Tensor) and one.is_cuda for one in tree_leaves((args, kwargs)))
        if func is aten._local_scalar_dense.default:
            if on_gpu:
                self.found.append(str(func))
            return 0
        if func in COPIES and not (kwargs.get('non_blocking') or (len(args) > 2 and args[2])):
            target = kwargs.get('device') if func is aten._to_copy.default else args[0].device
            source = args[0].device if func is aten._to_copy.default else args[1].device
            if target is not None and torch.device(target).type != source.type:
                self.found.append(f'{func} from {source.type} to {torch.device(target).type}')
        if func in NO_FAKE_KERNEL:  # torch would run the real one; it works in place and returns nothing
            return None
        try:
            return func(*args, **kwargs)
        except Exception as error:
            if on_gpu and type(error).__name__ in (
                'DynamicOutputShapeException',
                'DataDependentOutputException',
            ):
                self.found.append(str(func))
            raise


def hook_runner(wrapper: Any) -> SimpleNamespace:
    hub = MessageHub('fake')
    return SimpleNamespace(
        optim_wrapper=wrapper, message_hub=hub, log_processor=LogProcessor(by_epoch=False), iter=0
    )


@contextlib.contextmanager
def one_event() -> Iterator[None]:
    """Replace CUDA events, which need a GPU. To wait for the flag of the step before is no fault."""
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    before, torch.cuda.Event = torch.cuda.Event, lambda: event
    try:
        yield
    finally:
        torch.cuda.Event = before


def batch(size: tuple[int, int], count: int = 2) -> dict:
    """Return a batch of images, the last one smaller than the others."""
    sizes = [*[size] * (count - 1), (size[0] - 8, size[1])]
    images = [torch.zeros(3, *one, dtype=torch.uint8) for one in sizes]
    samples = []
    for one in sizes:
        labels = PixelData(data=torch.zeros(1, *one, dtype=torch.uint8))
        depth = PixelData(data=torch.ones(1, *one))
        samples.append(SegDataSample(gt_sem_seg=labels, gt_depth_map=depth))
    return dict(inputs=images, data_samples=samples)


def waits(config: Config, change: Callable[[nn.Module, Any], object] = lambda *_: None) -> list[str]:
    """Return the operations of a training step, with its hooks, for which the host waits."""
    config.model.backbone.pop('init_cfg', None)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    with fake_cuda.mode(), one_event(), Synchronisations() as mode:
        model = fake_cuda.to_cuda(model).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        change(model, wrapper)
        hooks, runner = (NonFiniteHook(), RuntimeInfoHook()), hook_runner(wrapper)
        data = batch(config.model.data_preprocessor.get('size', (224, 224)))
        outputs = model.train_step(data, wrapper)
        for hook in hooks:
            hook.after_train_iter(runner, 0, data, outputs)
    return mode.found


def kept_mib(config: Config, count: int) -> int:
    """Return the memory that a forward pass in training keeps for the backward pass, in MiB."""
    with torch.device('meta'):
        model = MODELS.build(config.model)
    with fake_cuda.mode():
        model = fake_cuda.to_cuda(model).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        with TensorMemory() as memory, wrapper.optim_context(model):
            data = model.data_preprocessor(batch(config.model.data_preprocessor.size, count), True)
            losses = model(**data, mode='loss')
            found = memory.live >> 20
            del losses
    return found


def shipped(name: str) -> Config:
    return Config.fromfile(REPOSITORY / 'configs' / name)


def translated(**optim_wrapper: object) -> Config:
    """A config of MMSegmentation, whose optimiser says nothing about its implementation."""
    config, _ = translate_mmseg_config(Config(recipe()))
    config.optim_wrapper = ConfigDict(dict(config.optim_wrapper, **optim_wrapper))
    return config


def amp(config: Config) -> Config:
    enable_amp(config)
    return config


def reading_head(model: nn.Module, wrapper: Any) -> None:
    model.decode_head.register_forward_hook(lambda module, args, out: out * out.sum().item())


def unfused(model: nn.Module, wrapper: Any) -> None:
    wrapper.optimizer._step_supports_amp_scaling = False


def main() -> None:
    MMLogger.get_instance('fake', log_level='ERROR')
    torch.cuda.is_available = lambda: True
    mmengine.runner.amp.get_device = lambda: 'cuda'
    DefaultScope.get_instance('fake', scope_name='dpt')
    names = {representative(name) for name in trained_configs()}
    sgd = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
    clip = dict(max_norm=1.0)
    recipe_name = 'dpt_vit-b16_512x512_160k_ade20k.py'
    found = {name: waits(shipped(name)) for name in sorted(names)}
    found['amp'] = waits(amp(shipped(recipe_name)))
    found['mmseg'] = waits(translated())
    found['mmseg sgd, clip'] = waits(translated(optimizer=sgd, clip_grad=dict(clip)))
    found['mmseg fp16, clip'] = waits(
        translated(type='AmpOptimWrapper', dtype='float16', clip_grad=dict(clip))
    )
    found['fault: read'] = waits(shipped(recipe_name), reading_head)
    found['fault: not fused'] = waits(shipped(recipe_name), unfused)
    torch.distributed.init_process_group('fake', store=FakeStore(), rank=0, world_size=2)
    found['sync_bn'] = waits(shipped(recipe_name), lambda model, wrapper: use_sync_batch_norm(model))
    torch.distributed.destroy_process_group()
    memory = {}
    for with_cp in (False, True):
        config = amp(shipped(recipe_name))
        config.model.backbone.update(init_cfg=None, with_cp=with_cp)
        memory[f'with_cp={with_cp}'] = kept_mib(config, 16)
    print(json.dumps(dict(waits=found, memory=memory)))


if __name__ == '__main__':
    main()
