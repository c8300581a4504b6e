"""Count where the host waits for the GPU in one training step of each config, on fake tensors.

Prints one JSON line: for each config, the operations that wait and the number of copies to the GPU, and the
memory that 16 images of the recipe take in bf16. ``test_synchronisations.py`` starts it.
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
    """Record the operations for which the host waits: reads, copies that block, results of unknown size.

    Copies block unless they are ``non_blocking`` and from pinned memory. Counts those to the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.copies = 0
        self.pinned: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        on_gpu = any(isinstance(one, Tensor) and one.is_cuda for one in tree_leaves((args, kwargs)))
        if func is aten._local_scalar_dense.default:
            if on_gpu:
                self.found.append(str(func))
            return 0
        if func in COPIES:
            target = kwargs.get('device') if func is aten._to_copy.default else args[0].device
            source = args[0].device if func is aten._to_copy.default else args[1].device
            kinds = source.type, source.type if target is None else torch.device(target).type
            if kinds[0] != kinds[1] and not (kwargs.get('non_blocking') or (len(args) > 2 and args[2])):
                self.found.append(f'{func} from {kinds[0]} to {kinds[1]}')
            if kinds == ('cpu', 'cuda'):
                self.copies += 1
                memory = (args[0] if func is aten._to_copy.default else args[1]).untyped_storage()._cdata
                if all(memory != one.untyped_storage()._cdata for one in self.pinned):
                    self.found.append(f'{func} from memory that is not pinned')
        if func in NO_FAKE_KERNEL:  # torch would run the real one; it works in place and returns nothing
            return None
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            if on_gpu and type(error).__name__ in (
                'DynamicOutputShapeException',
                'DataDependentOutputException',
            ):
                self.found.append(str(func))
            raise
        if kwargs.get('pin_memory'):
            self.pinned.append(result)
        return result


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


def step(config: Config, change: Callable[[nn.Module, Any], object] = lambda *_: None) -> Synchronisations:
    """Record a training step with its hooks."""
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
    return mode


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


def copying_head(model: nn.Module, wrapper: Any) -> None:
    one = torch.ones((), pin_memory=True)
    model.decode_head.register_forward_hook(lambda *args: args[2] * one.to('cuda', non_blocking=True))


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
    found = {name: step(shipped(name)) for name in sorted(names)}
    found['amp'] = step(amp(shipped(recipe_name)))
    found['mmseg'] = step(translated())
    found['mmseg sgd, clip'] = step(translated(optimizer=sgd, clip_grad=dict(clip)))
    found['mmseg fp16, clip'] = step(
        translated(type='AmpOptimWrapper', dtype='float16', clip_grad=dict(clip))
    )
    found['fault: read'] = step(shipped(recipe_name), reading_head)
    found['copy'] = step(shipped(recipe_name), copying_head)
    found['fault: not fused'] = step(shipped(recipe_name), unfused)
    torch.distributed.init_process_group('fake', store=FakeStore(), rank=0, world_size=2)
    found['sync_bn'] = step(shipped(recipe_name), lambda model, wrapper: use_sync_batch_norm(model))
    torch.distributed.destroy_process_group()
    memory = {}
    for with_cp in (False, True):
        config = amp(shipped(recipe_name))
        config.model.backbone.update(init_cfg=None, with_cp=with_cp)
        memory[f'with_cp={with_cp}'] = kept_mib(config, 16)
    waits = {name: one.found for name, one in found.items()}
    copies = {name: one.copies for name, one in found.items()}
    print(json.dumps(dict(waits=waits, copies=copies, memory=memory)))


if __name__ == '__main__':
    main()
