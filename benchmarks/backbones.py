"""Check what models of timm do as backbones of DPT, and print a table.

Weights are random and, where timm allows it, channels few. Exit status: 0 if everything holds, 1 if not, 2
for a wrong argument. Takes minutes on two CPU cores.

Example:
    python benchmarks/backbones.py --only vit_small_patch16_dinov3,convnext_atto
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import timm  # noqa: E402
import torch  # noqa: E402
from backbone_models import ANY_SIZE, HEAD, MODELS, ODD, REFERENCES  # noqa: E402
from safetensors.torch import save_model  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from dpt.checkpoints import load_backbone  # noqa: E402
from dpt.engine.optim import LearningRateDecayOptimizerConstructor  # noqa: E402
from dpt.export import ExportedModel, trace  # noqa: E402
from dpt.models import EncoderDecoder  # noqa: E402
from dpt.models.backbones import TimmBackbone  # noqa: E402
from dpt.models.lora import merged  # noqa: E402


def randomised(module: nn.Module) -> nn.Module:
    """Draw all weights, so that layer scales of 1e-5 do not hide the layers."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module.eval()


def maps(taps: tuple) -> list[Tensor]:
    return [tap if isinstance(tap, Tensor) else tap[0] for tap in taps]


def difference(found: list[Tensor], expected: list[Tensor]) -> str:
    """Return the largest difference over the largest value; raise an error if it is above 1e-5."""
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
    assert worst <= 1e-5, f'differs by {worst:.1e}'
    return f'{worst:.0e}'


class Checks:
    """Checks of one model, one for each column; each returns a cell of the table, or raises an error."""

    columns = ('size', 'training', 'reference', 'loading', 'freezing', 'layer_decay', 'lora', 'export')

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.pixels = name, folder, ODD

    def backbone(self, **changes: Any) -> TimmBackbone:
        return TimmBackbone(self.name, **MODELS[self.name], **changes)

    def segmentor(self) -> EncoderDecoder:
        encoder = self.backbone()
        neck = dict(type='DPTNeck', in_channels=encoder.channels[0], channels=8, readout_type='ignore')
        if len(set(encoder.channels)) > 1:  # a pyramid
            neck.update(identity_levels=range(4), post_process_channels=encoder.channels)
        preprocessor = dict(type='SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3)
        return EncoderDecoder(encoder, HEAD, neck=neck, data_preprocessor=preprocessor)

    def size(self) -> str:
        try:
            self.backbone()(torch.zeros(1, 3, *ODD))
        except ValueError as error:
            if 'set model.backbone.img_size=' not in str(error):
                raise
            self.pixels = self.backbone().img_size
        return 'any' if self.pixels == ODD else f'{self.pixels[0]}x{self.pixels[1]}'

    def training(self) -> str:
        model = self.segmentor().train()
        model(torch.randn(2, 3, *self.pixels)).square().mean().backward()
        lacking = [key for key, one in model.named_parameters() if one.requires_grad and one.grad is None]
        assert not lacking, f'no gradient: {lacking[:3]}'
        return 'yes'

    def reference(self) -> str:
        if self.name not in REFERENCES:
            return '-'
        import transformers

        kind, arguments, prefix = REFERENCES[self.name]
        config = getattr(transformers, f'{kind}Config')(**arguments)
        theirs, ours = randomised(getattr(transformers, f'{kind}Model')(config)), self.backbone().eval()
        theirs.save_pretrained(self.folder)
        load_backbone(ours, self.folder)
        native, stride = config.image_size, ours.stride
        found, expected = [], []
        for size in ((native, native), (6 * stride, 5 * stride))[: 2 if 'dino' in kind.lower() else 1]:
            image = torch.randn(1, 3, *size)
            tokens, (*_, last) = theirs(image).last_hidden_state, maps(ours(image))
            tokens = theirs.post_layernorm(tokens) if kind == 'CLIPVision' else tokens
            expected.append(tokens[:, prefix:].transpose(1, 2).unflatten(2, last.shape[-2:]))
            found.append(last)
        return difference(found, expected)

    def loading(self) -> str:
        size = {key: value for key, value in MODELS[self.name].items() if key == 'img_size'}
        theirs = randomised(timm.create_model(self.name, **size, **MODELS[self.name].get('model_args', {})))
        save_model(theirs, str(self.folder / 'timm.safetensors'))
        ours, state = self.backbone(), theirs.state_dict()
        load_backbone(ours, self.folder / 'timm.safetensors')
        equal = [one.equal(state[key.removeprefix('model.')]) for key, one in ours.state_dict().items()]
        assert all(equal), f'{sum(equal)} of {len(equal)} tensors are equal'
        return f'{len(equal)}/{len(equal)}'

    def freezing(self) -> str:
        model = self.backbone(frozen_stages=1).train()
        before = {key: one.clone() for key, one in model.named_buffers()}
        torch.stack(
            [one.square().mean() for one in maps(model(torch.randn(2, 3, *self.pixels)))]
        ).sum().backward()
        numbers = model.layer_numbers(stages=True)
        wrong = [key for key, one in model.named_parameters() if (one.grad is None) is (numbers[key] > 1)]
        frozen = {key.rpartition('.')[0] for key, number in numbers.items() if number <= 1}
        moved = [key for key, one in model.named_buffers() if not one.equal(before[key])]
        wrong += [key for key in moved if key.rpartition('.')[0] in frozen]
        assert not wrong, f'frozen or trained wrongly: {wrong[:3]}'
        return 'yes'

    def layer_decay(self) -> str:
        model, settings = self.segmentor(), dict(optimizer=dict(type='AdamW', lr=1.0))
        wrapper = LearningRateDecayOptimizerConstructor(settings, dict(decay_rate=0.5))(model)
        rates = {group['lr']: len(group['params']) for group in wrapper.optimizer.param_groups}
        count = max(model.backbone.layer_numbers().values())
        assert (max(rates), min(rates)) == (1.0, 0.5 ** (count + 1)), rates
        return f'{count} layers'

    def lora(self) -> str:
        try:
            model = self.backbone(lora=dict(r=2))
        except ValueError as error:
            if 'lora.target: ' not in str(error):
                raise
            return 'refused: weight read' if 'no effect' in str(error) else 'refused: no qkv'
        adapters = [one for key, one in model.named_parameters() if '.lora_' in key and one.requires_grad]
        for one in adapters:
            nn.init.normal_(one, std=0.1)
        plain, image = self.backbone().eval(), torch.randn(1, 3, *self.pixels)
        plain.load_state_dict(merged(model).state_dict())
        difference(maps(plain(image)), maps(model.eval()(image)))
        return f'{len(adapters)} adapters'

    def export(self) -> str:
        graph, size, done = ExportedModel(self.segmentor().eval()).eval(), self.pixels, 'fixed size'
        if self.name in ANY_SIZE:
            try:
                program, size, done = trace(graph, size, dynamic=True), (128, 96), 'any size'
            except ValueError as error:
                if '--no-dynamic' not in str(error) or '\n' in str(error):
                    raise
                done = 'fixed size; any refused'
        if done != 'any size':
            program = trace(graph, size, dynamic=False)
        image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
        difference([program.module()(image)], [graph(image)])
        return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', help='comma-separated names of models', default='')
    names = [name for name in parser.parse_args().only.split(',') if name] or list(MODELS)
    if unknown := [name for name in names if name not in MODELS]:
        parser.error(f'--only: {", ".join(unknown)} not among {", ".join(MODELS)}')
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
    failures, start = 0, time.perf_counter()
    print(f'| model | {" | ".join(Checks.columns)} |\n|{"---|" * (len(Checks.columns) + 1)}')
    for name in names:
        cells = []
        with tempfile.TemporaryDirectory() as folder:
            checks = Checks(name, Path(folder))
            for column in Checks.columns:
                try:
                    cells.append(getattr(checks, column)())
                except Exception as error:  # every model can fail in its own way
                    failures += 1
                    cells.append(f'**FAILS** {type(error).__name__}: {" ".join(str(error).split())[:160]}')
        print(f'| {name} | {" | ".join(cells)} |', flush=True)
    print(f'\n{len(names)} models, {failures} failures, {time.perf_counter() - start:.0f} s')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
