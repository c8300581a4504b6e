"""LoRA adapters: what trains, what is refused, which files load, and merging."""

import copy

import pytest
import torch
from tiny_models import BACKBONES, build, image, labels
from torch import nn

from dpt.checkpoints import load_backbone, load_model
from dpt.checkpoints.adapters import BASE_SHA256, base_sha256, is_base, ordinary_keys
from dpt.export import ExportedModel
from dpt.models.backbones import HybridVisionTransformer, TimmBackbone, VisionTransformer
from dpt.models.lora import add_lora, merged

pytest.importorskip('peft', reason="pip install 'dense-prediction-transformers[foundation]'")

VIT = dict(embed_dim=24, depth=4, num_heads=2)
ALL = dict(out_indices=(0, 1, 2, 3))
SWIN = dict(embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 1, 1))
OTHERS = ['attn.proj', 'fc1', 'fc2']
CASES = {
    'own': (VisionTransformer, dict(img_size=32, embed_dims=24, num_layers=5, num_heads=2, **ALL)),
    'hybrid': (
        HybridVisionTransformer,
        {key: value for key, value in BACKBONES['hybrid'].items() if key != 'type'},
    ),
    'dinov2': (
        TimmBackbone,
        dict(model_name='vit_base_patch14_reg4_dinov2', img_size=28, norm_taps=True, model_args=VIT, **ALL),
    ),
    'dinov3': (TimmBackbone, dict(model_name='vit_base_patch16_dinov3', model_args=VIT, **ALL)),
    'dinov3, biased': (
        TimmBackbone,
        dict(model_name='vit_base_patch16_dinov3_qkvb', model_args=VIT, lora=dict(target=OTHERS), **ALL),
    ),
    'swin': (TimmBackbone, dict(model_name='swin_tiny_patch4_window7_224', model_args=SWIN, **ALL)),
}


def backbone(name: str, lora: dict | None = None, **changes) -> nn.Module:
    kind, arguments = CASES[name]
    arguments = {**arguments, **changes}
    own = arguments.pop('lora', {})
    if lora is not None:
        arguments['lora'] = {**own, **lora}
    torch.manual_seed(0)
    return kind(**arguments)


def maps(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return [tap if isinstance(tap, torch.Tensor) else tap[0] for tap in module(x)]


@pytest.mark.parametrize('name', CASES)
def test_only_adapters_train_and_merge_into_ordinary_keys(name: str) -> None:
    plain = backbone(name)
    module = backbone(name, dict(r=2, alpha=4)).train()
    x = torch.randn(2, 3, 64, 96)
    before = copy.deepcopy(module.state_dict())
    assert maps(module.eval(), x)[-1].equal(maps(plain_like(plain, module).eval(), x)[-1])
    trained = {key for key, one in module.named_parameters() if one.requires_grad}
    assert trained == {key for key in before if '.lora_' in key and not key.endswith('.lora_scale')}
    optimizer = torch.optim.Adam([one for one in module.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):  # the second matrix starts at zero, so that the first has no gradient yet
        optimizer.zero_grad()
        sum((one * torch.randn_like(one)).sum() for one in maps(module.train(), x)).backward()
        optimizer.step()
    changed = {key for key, value in module.state_dict().items() if not value.equal(before[key])}
    assert changed == trained
    assert all(one.isfinite().all() for one in module.state_dict().values())
    result = merged(module)
    assert result.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(result.state_dict())
    with torch.no_grad():
        expected = maps(module.eval(), x)
        for one, other in zip(maps(plain.eval(), x), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def plain_like(plain: nn.Module, module: nn.Module) -> nn.Module:
    """Give the plain module the weights of the one with adapters."""
    state = ordinary_keys(module.state_dict())
    plain.load_state_dict({key: value for key, value in state.items() if '.lora_' not in key})
    return plain


def test_adapters_of_a_weight_compute_its_gradient_in_one_graph() -> None:
    module = backbone('own', dict(r=2, alpha=6)).train()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    plain = merged(module).requires_grad_()
    x = torch.randn(2, 3, 64, 96)

    def loss(module: nn.Module) -> torch.Tensor:
        return sum(one.square().sum() for one in maps(module, x))

    expected = loss(plain)
    expected.backward()
    adapters = {key: one for key, one in module.named_parameters() if one.requires_grad}
    compiled = torch.compile(loss, backend='aot_eager', fullgraph=True)
    for function in (loss, compiled):
        found = function(module)
        torch.testing.assert_close(found, expected)
        gradients = dict(zip(adapters, torch.autograd.grad(found, list(adapters.values())), strict=True))
        for i in range(4):
            a, b = (f'layers.{i}.attn.attn.lora_{letter}.default.weight' for letter in 'AB')
            of_weight = 3.0 * plain.layers[i].attn.attn.in_proj_weight.grad
            torch.testing.assert_close(gradients[a], adapters[b].T @ of_weight, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(gradients[b], of_weight @ adapters[a].T, rtol=1e-3, atol=1e-3)


def test_two_weights_of_one_module_get_adapters() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.Parameter(torch.randn(3, 3)) for _ in range(2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return ((x.transpose(1, 3) @ self.first @ self.second).transpose(1, 3),)

    module, x = nn.Sequential(Twice()), torch.randn(1, 3, 4, 4)
    before = module(x)[0]
    add_lora(module, dict(r=2, target=['first', 'second']), in_channels=3, size=None)
    torch.testing.assert_close(module(x)[0], before)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    torch.testing.assert_close(merged(module)(x)[0], module(x)[0])


def test_adapters_that_the_model_passes_by_are_refused() -> None:
    name = 'vit_base_patch16_dinov3_qkvb'
    with pytest.raises(ValueError, match='an adapter of model.blocks.0.attn.qkv would have no effect'):
        TimmBackbone(name, model_args=VIT, lora=dict(r=2), **ALL)


@pytest.mark.parametrize(
    ('lora', 'words'),
    [
        (dict(rank=8), r"unknown keys \['rank'\]: it takes r, alpha and target"),
        (dict(r=0), 'lora.r=0'),
        (dict(alpha=-1), 'lora.alpha=-1'),
        (dict(target=['attention']), 'no trainable layer attention; the names of its layers end in'),
    ],
)
def test_wrong_settings_are_errors(lora: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backbone('dinov2', lora)


def test_frozen_layers_get_no_adapters() -> None:
    module = backbone('dinov2', dict(r=2), frozen_stages=3)
    layers = {key.split('.')[2] for key, one in module.named_parameters() if one.requires_grad}
    assert layers == {'3'}


@pytest.mark.parametrize('name', ['own', 'dinov2'])
def test_pretrained_files_load_beside_the_adapters(tmp_path, name: str) -> None:
    plain = backbone(name)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    module = backbone(name, dict(r=2))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    before = copy.deepcopy(module.state_dict())
    load_backbone(module, tmp_path / 'plain.pth')
    state = module.state_dict()
    assert all(state[key].equal(before[key]) for key in state if '.lora_' in key)
    state = ordinary_keys(state)
    assert all(value.equal(state[key]) for key, value in plain.state_dict().items())


def test_initialisation_leaves_adapters_without_effect() -> None:
    module = backbone('own', dict(r=2))
    module.init_weights()
    assert not any(one.any() for key, one in module.named_parameters() if '.lora_B.' in key)


def test_models_with_and_without_adapters_exchange_files(tmp_path) -> None:
    tuned = build(backbone=dict(BACKBONES['vit'], lora=dict(r=2)))
    torch.save(tuned.state_dict(), tmp_path / 'tuned.pth')
    torch.save(merged(tuned).state_dict(), tmp_path / 'merged.pth')
    x = image((40, 48))[None].float() / 128 - 1
    again = build(backbone=dict(BACKBONES['vit'], lora=dict(r=2)))
    nn.init.zeros_(again.decode_head.conv_seg.weight)
    load_model(again, tmp_path / 'tuned.pth')
    plain = build()
    with pytest.raises(ValueError, match='has LoRA adapters, the model has none: set model.backbone.lora'):
        load_model(plain, tmp_path / 'tuned.pth')
    load_model(plain, tmp_path / 'merged.pth')
    for model in (again, plain):
        assert (labels(model, x) == labels(tuned, x)).float().mean() > 0.99
    load_model(again, tmp_path / 'merged.pth')  # keeps the adapters
    assert all(
        again.state_dict()[key].equal(value) for key, value in tuned.state_dict().items() if 'lora_' in key
    )


@pytest.mark.parametrize('kind', ['vit', 'hybrid'])
def test_adapters_of_another_scale_are_refused(tmp_path, kind: str) -> None:
    tuned = build(backbone=dict(BACKBONES[kind], lora=dict(r=4, alpha=16)))
    torch.save(tuned.state_dict(), tmp_path / 'tuned.pth')
    other = build(backbone=dict(BACKBONES[kind], lora=dict(r=4, alpha=64)))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r'lora.alpha / lora.r = 4, the model has 16; .* to 4 \* lora.r'):
        load_model(other, tmp_path / 'tuned.pth')
    assert all(value.equal(before[key]) for key, value in other.state_dict().items())
    load_model(build(backbone=dict(BACKBONES[kind], lora=dict(r=4, alpha=16))), tmp_path / 'tuned.pth')


@pytest.mark.parametrize('fault', ['head', 'base'])
def test_adapters_alone_that_do_not_fit_change_nothing(tmp_path, fault: str) -> None:
    lora, weights = dict(r=2), tmp_path / 'pretrained.pth'
    tuned = build(backbone=dict(BACKBONES['vit'], lora=lora))
    base = {key: value for key, value in ordinary_keys(tuned.state_dict()).items() if is_base(key)}
    torch.save({key.removeprefix('backbone.'): value for key, value in base.items()}, weights)
    state = {key: value for key, value in ordinary_keys(tuned.state_dict()).items() if not is_base(key)}
    if fault == 'head':
        state['decode_head.conv_seg.weight'] = state['decode_head.conv_seg.weight'][1:]
    sha256 = base_sha256(base) if fault == 'head' else 'other'
    torch.save(dict(state_dict=state, meta={BASE_SHA256: sha256}), tmp_path / 'adapters.pth')
    init = dict(type='Pretrained', checkpoint=str(weights))
    model = build(backbone=dict(BACKBONES['vit'], lora=lora, init_cfg=init))
    nn.init.zeros_(next(model.backbone.parameters()))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='nothing was loaded' if fault == 'head' else 'trained on'):
        load_model(model, tmp_path / 'adapters.pth')
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_exported_graphs_have_no_adapters() -> None:
    tuned = build(backbone=dict(BACKBONES['vit'], lora=dict(r=2)))
    graph = ExportedModel(tuned)
    assert not any('lora' in key or 'base_layer' in key for key in graph.state_dict())
    assert any('.lora_' in key for key in tuned.state_dict())
    x = torch.randint(0, 256, (1, 40, 48, 3), dtype=torch.uint8)
    with_adapters = copy.deepcopy(graph)
    with_adapters.model = tuned
    with torch.no_grad():
        found, expected = graph(x), with_adapters(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
