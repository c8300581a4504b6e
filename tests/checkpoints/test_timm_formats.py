"""Files of timm, Meta and Hugging Face in TimmBackbone: equal features, and strict refusals."""

import json
import logging

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from torch import nn

from dpt.checkpoints import load_backbone
from dpt.models.backbones import TimmBackbone

VIT = dict(embed_dim=32, depth=2, num_heads=2)
TAPS = (0, 1)
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)


def randomised(module: nn.Module) -> nn.Module:
    """Random weights, so that layer scales of 1e-5 do not hide the layers."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def backbone(name: str, **changes) -> TimmBackbone:
    arguments = {'out_indices': TAPS, 'norm_taps': True, 'model_args': VIT, **changes}
    return TimmBackbone(name, **arguments).eval()


def dinov2(name: str = 'vit_base_patch14_dinov2', **changes) -> TimmBackbone:
    return backbone(name, **{'img_size': 28, **changes})


def assert_equals_hugging_face(ours: TimmBackbone, theirs: nn.Module, registers: int, patch: int) -> None:
    for size in ((2 * patch, 2 * patch), (4 * patch, 4 * patch), (3 * patch, 5 * patch)):
        image = torch.randn(2, 3, *size)
        with torch.no_grad():
            tokens = theirs(image).last_hidden_state
            feature_map, cls_token = ours(image)[-1]
        expected = tokens[:, 1 + registers :].transpose(1, 2).unflatten(2, feature_map.shape[-2:])
        torch.testing.assert_close(feature_map, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cls_token, tokens[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('gated', [False, True], ids=['MLP', 'SwiGLU'])
def test_dinov2_of_hugging_face(tmp_path, gated: bool) -> None:
    transformers = pytest.importorskip('transformers')
    config = transformers.Dinov2Config(**SIZES, mlp_ratio=4, use_swiglu_ffn=gated)
    theirs = randomised(transformers.Dinov2Model(config))
    theirs.save_pretrained(tmp_path)
    arguments = dict(VIT)
    if gated:  # as vit_giant_patch14_dinov2 of timm; both layers of 2/3 * 4 * 32 channels, rounded up to 88
        arguments |= dict(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, mlp_ratio=2 * 88 / 32)
    ours = dinov2(pos_embed_resize='bicubic', model_args=arguments)
    report = load_backbone(ours, tmp_path / 'model.safetensors')
    assert report.dropped.keys() == {'embeddings.mask_token'}
    assert_equals_hugging_face(ours, theirs, 0, 14)


def test_dinov2_with_registers_of_hugging_face(tmp_path) -> None:
    transformers = pytest.importorskip('transformers')
    config = transformers.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=4)
    theirs = randomised(transformers.Dinov2WithRegistersModel(config))
    theirs.save_pretrained(tmp_path)
    ours = dinov2('vit_base_patch14_reg4_dinov2')
    load_backbone(ours, tmp_path / 'model.safetensors')
    assert_equals_hugging_face(ours, theirs, 4, 14)


@pytest.mark.parametrize(
    ('name', 'gated', 'biased'),
    [
        ('vit_base_patch16_dinov3_qkvb', False, True),
        ('vit_small_plus_patch16_dinov3_qkvb', True, True),
        ('vit_base_patch16_dinov3', False, False),
    ],
)
def test_dinov3_of_hugging_face(tmp_path, name: str, gated: bool, biased: bool) -> None:
    transformers = pytest.importorskip('transformers')
    sizes = dict(SIZES, image_size=32, patch_size=16, intermediate_size=128)
    config = transformers.DINOv3ViTConfig(
        **sizes, num_register_tokens=4, use_gated_mlp=gated, hidden_act='silu' if gated else 'gelu'
    )
    theirs = randomised(transformers.DINOv3ViTModel(config))
    if not biased:
        for key, parameter in theirs.named_parameters():
            if key.endswith(('q_proj.bias', 'v_proj.bias')):
                nn.init.zeros_(parameter)
    theirs.save_pretrained(tmp_path)
    ours = backbone(name)
    report = load_backbone(ours, tmp_path / 'model.safetensors')
    zero = {key for key, reason in report.dropped.items() if reason == 'biases that are all zero'}
    assert len(zero) == (0 if biased else 4)
    assert_equals_hugging_face(ours, theirs, 4, 16)


def meta_dinov3(ours: TimmBackbone) -> dict[str, torch.Tensor]:
    """Rename the weights as in Meta's DINOv3 files."""
    periods = 100 ** (torch.arange(4) / 4)  # for heads of 16 channels
    theirs = {'mask_token': torch.zeros(1, 32), 'rope_embed.periods': periods.bfloat16()}
    for key, tensor in ours.state_dict().items():
        key = key.removeprefix('model.').replace('reg_token', 'storage_tokens')
        for number in '12':
            key = key.replace(f'gamma_{number}', f'ls{number}.gamma')
        theirs[key] = tensor.clone()
    for i in range(VIT['depth']):
        stem = f'blocks.{i}.attn'
        query, value = theirs.pop(f'{stem}.q_bias', None), theirs.pop(f'{stem}.v_bias', None)
        if query is None:
            query = value = torch.zeros(32)
        theirs[f'{stem}.qkv.bias'] = torch.cat([query, torch.full((32,), 7.0), value])
        theirs[f'{stem}.qkv.bias_mask'] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(32)
    return theirs


def assert_same_taps(ours: TimmBackbone, theirs: TimmBackbone) -> None:
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['vit_base_patch16_dinov3', 'vit_base_patch16_dinov3_qkvb'])
def test_dinov3_of_meta(tmp_path, name: str) -> None:
    theirs = randomised(backbone(name))
    torch.save(meta_dinov3(theirs), tmp_path / 'dinov3.pth')
    ours = backbone(name)
    load_backbone(ours, tmp_path / 'dinov3.pth')
    assert_same_taps(ours, theirs)


@pytest.mark.parametrize('registers', [False, True])
def test_dinov2_of_meta(tmp_path, registers: bool) -> None:
    name = 'vit_base_patch14_reg4_dinov2' if registers else 'vit_base_patch14_dinov2'
    theirs = randomised(dinov2(name))
    state = {key.removeprefix('model.'): value for key, value in theirs.state_dict().items()}
    state['mask_token'] = torch.zeros(1, 32)
    if registers:  # the position of the class token is an entry of its own
        state['register_tokens'] = state.pop('reg_token')
        position = torch.randn(1, 1, 32)
        state['pos_embed'] = torch.cat([position, state['pos_embed']], dim=1)
        state['cls_token'] = state['cls_token'] - position
    torch.save(state, tmp_path / 'dinov2.pth')
    ours = dinov2(name)
    report = load_backbone(ours, tmp_path / 'dinov2.pth')
    assert report.dropped.keys() == {'mask_token'}
    image = torch.randn(1, 3, 42, 56)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('vit_base_patch16_224', dict(img_size=32)),
        ('convnext_tiny', dict(model_args=dict(depths=(1, 1, 1, 1), dims=(4, 4, 8, 8)), norm_taps=False)),
        ('resnet50', dict(model_args=dict(layers=(1, 1, 1, 1), channels=(8, 8, 8, 8)), norm_taps=False)),
    ],
)
def test_files_of_timm_load_without_head_and_later_layers(tmp_path, caplog, name, arguments, suffix) -> None:
    size = {key: value for key, value in arguments.items() if key == 'img_size'}
    whole = timm.create_model(name, num_classes=7, **size, **arguments.get('model_args', VIT))
    path, state = tmp_path / f'timm{suffix}', whole.state_dict()
    save_file(state, path) if suffix == '.safetensors' else torch.save(state, path)
    ours = backbone(name, out_indices=(0,), **arguments)
    with caplog.at_level(logging.INFO, 'timm_formats'):
        report = load_backbone(ours, path, logger=logging.getLogger('timm_formats'))
    expected = ours.state_dict()
    assert {f'model.{key}' for key in state} == expected.keys() | {f'model.{key}' for key in report.dropped}
    assert any('head' in key or key.startswith('fc.') for key in report.dropped)
    assert all(torch.equal(value, state[key.removeprefix('model.')]) for key, value in expected.items())
    assert f'loaded {len(expected)}/{len(expected)} tensors' in caplog.text


def test_trained_models_give_their_backbone(tmp_path) -> None:
    theirs = randomised(dinov2())
    state = {f'backbone.{key}': value for key, value in theirs.state_dict().items()}
    torch.save({'state_dict': {**state, 'decode_head.conv_seg.weight': torch.ones(2, 2)}}, tmp_path / 'a.pth')
    ours = dinov2()
    load_backbone(ours, tmp_path / 'a.pth')
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(
    'name',
    [
        'vit_small_patch16_rope_ape_224',
        'vit_small_patch16_rope_mixed_ape_224',
        'vit_pe_lang_large_patch14_448',
        'deit3_base_patch16_224',
    ],
)
def test_files_of_timm_whose_keys_resemble_others_load(tmp_path, name: str) -> None:
    arguments = dict(img_size=28 if '14' in name else 32, norm_taps='pe_lang' not in name)
    whole = randomised(timm.create_model(name, img_size=arguments['img_size'], **VIT))
    save_file(whole.state_dict(), tmp_path / 'timm.safetensors')
    ours = backbone(name, **arguments)
    load_backbone(ours, tmp_path / 'timm.safetensors')
    state = whole.state_dict()
    assert all(value.equal(state[key.removeprefix('model.')]) for key, value in ours.state_dict().items())


def refused(module: TimmBackbone, path, *words: str) -> None:
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=path.name) as caught:
        load_backbone(module, path)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    for word in words:
        assert word in str(caught.value)


def save(module: TimmBackbone, path, edit=lambda state: None):
    state = {key.removeprefix('model.'): value for key, value in module.state_dict().items()}
    edit(state)
    torch.save(state, path)
    return path


class TestRefusals:
    @pytest.mark.parametrize('meta', [False, True])
    def test_biases_name_the_model_that_has_them(self, tmp_path, meta: bool) -> None:
        biased, path = randomised(backbone('vit_base_patch16_dinov3_qkvb')), tmp_path / 'dinov3.pth'
        torch.save(meta_dinov3(biased), path) if meta else save(biased, path)
        twin = backbone('vit_base_patch16_dinov3')
        refused(twin, path, 'blocks.0.attn.q_bias', "model_name='vit_base_patch16_dinov3_qkvb'")

    @pytest.mark.parametrize('mask', [1.0, float('nan'), None])
    def test_biases_of_keys_without_mask(self, tmp_path, mask: float | None) -> None:
        name, path = 'vit_base_patch16_dinov3_qkvb', tmp_path / 'dinov3.pth'
        state = meta_dinov3(randomised(backbone(name)))
        for i in range(VIT['depth']):
            if mask is None:
                del state[f'blocks.{i}.attn.qkv.bias_mask']
            else:
                state[f'blocks.{i}.attn.qkv.bias_mask'][32:64] = mask
        torch.save(state, path)
        refused(backbone(name), path, 'blocks.0.attn.qkv.bias has a bias of k that is not zero')

    @pytest.mark.parametrize('edit', [lambda x: 2 * x, lambda x: x[:2]])
    def test_other_periods_of_the_rotary_embedding(self, tmp_path, edit) -> None:
        path = tmp_path / 'dinov3.pth'
        state = meta_dinov3(randomised(backbone('vit_base_patch16_dinov3')))
        state['rope_embed.periods'] = edit(state['rope_embed.periods'])
        torch.save(state, path)
        refused(backbone('vit_base_patch16_dinov3'), path, 'the periods of its rotary position embedding')

    def test_missing_biases_name_the_model_without(self, tmp_path) -> None:
        path = save(backbone('vit_base_patch16_dinov3'), tmp_path / 'dinov3.pth')
        refused(backbone('vit_base_patch16_dinov3_qkvb'), path, "model_name='vit_base_patch16_dinov3'")

    def test_registers_name_the_other_model(self, tmp_path) -> None:
        names = ('vit_base_patch14_dinov2', 'vit_base_patch14_reg4_dinov2')
        for source, target in (names, names[::-1]):
            path = save(dinov2(source), tmp_path / 'dinov2.pth')
            refused(dinov2(target), path, 'reg_token', f'model_name={source!r}')

    @pytest.mark.parametrize('name', ['vit_base_patch14_dinov2', 'vit_base_patch14_reg4_dinov2'])
    def test_position_embedding_is_not_resampled(self, tmp_path, name: str) -> None:
        path = save(dinov2(name), tmp_path / 'dinov2.pth')
        refused(dinov2(name, img_size=56), path, 'model.pos_embed', 'model.backbone.img_size=28 ')

    def test_missing_unknown_and_reshaped_tensors(self, tmp_path) -> None:
        def edit(state) -> None:
            del state['blocks.0.norm1.weight']
            state['blocks.0.norm9.weight'] = torch.ones(3)
            state['blocks.1.norm1.weight'] = torch.ones(3)

        path = save(dinov2(), tmp_path / 'dinov2.pth', edit)
        words = ('1 missing in the file: model.blocks.0.norm1', '1 not in the model: model.blocks.0.norm9')
        refused(dinov2(), path, *words, 'model.blocks.1.norm1.weight: 3 float32 in the file')

    def test_other_models(self, tmp_path) -> None:
        path = tmp_path / 'clip.pth'
        torch.save({'visual.class_embedding': torch.ones(3)}, path)
        refused(dinov2(), path, 'visual.class_embedding')

    def test_damaged_weights(self, tmp_path) -> None:
        def edit(state) -> None:
            state['cls_token'] = torch.full_like(state['cls_token'], float('nan'))

        refused(dinov2(), save(dinov2(), tmp_path / 'dinov2.pth', edit), 'NaN')


def test_real_weights_load_completely(vit_small_weights) -> None:
    ours = TimmBackbone('vit_small_patch14_dinov2', norm_taps=True)
    report = load_backbone(ours, vit_small_weights)
    assert len(report.mapped) == len(ours.state_dict())
    with torch.no_grad():
        taps = ours.eval()(torch.randn(1, 3, 70, 98))
    assert [tuple(feature_map.shape) for feature_map, _ in taps] == [(1, 384, 5, 7)] * 4


FAMILIES = {
    'vit_base_patch16_224.mae': {},
    'deit3_base_patch16_224': {},
    'vit_base_patch16_224.augreg_in21k': {},
    'vit_base_patch16_clip_quickgelu_224': {},
    'vit_base_patch16_siglip_224': {},
    'eva02_base_patch14_448': dict(img_size=28, norm_taps=False),
}


@pytest.mark.parametrize('name', FAMILIES)
def test_families_load_from_sharded_files_of_timm(tmp_path, caplog, name: str) -> None:
    arguments = {'img_size': 32, **FAMILIES[name]}
    theirs = randomised(timm.create_model(name, img_size=arguments['img_size'], **VIT))
    state, shards = theirs.state_dict(), {}
    for i, key in enumerate(state):
        shards.setdefault(f'model-0000{i % 3}-of-00003.safetensors', []).append(key)
    for shard, keys in shards.items():
        save_file({key: state[key] for key in keys}, tmp_path / shard)
    index = dict(weight_map={key: shard for shard, keys in shards.items() for key in keys})
    (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index))
    (tmp_path / 'config.json').write_text(json.dumps(dict(architecture=name.partition('.')[0])))
    ours = backbone(name, **arguments)
    with caplog.at_level(logging.INFO, 'timm_formats'):
        load_backbone(ours, tmp_path, logger=logging.getLogger('timm_formats'))
    count = len(ours.state_dict())
    assert f'loaded {count}/{count} tensors' in caplog.text
    image = torch.randn(1, 3, arguments['img_size'], arguments['img_size'])
    with torch.no_grad():
        expected = theirs.forward_intermediates(
            image, indices=TAPS, norm=ours.norm_taps, intermediates_only=True
        )
        found = [tap if isinstance(tap, torch.Tensor) else tap[0] for tap in ours(image)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('kind', 'name', 'act'),
    [
        ('ViT', 'vit_base_patch16_224', 'gelu'),
        ('CLIPVision', 'vit_base_patch16_clip_224', 'quick_gelu'),
        ('SiglipVision', 'vit_base_patch16_siglip_224', 'gelu_tanh'),
    ],
)
def test_other_encoders_of_hugging_face(tmp_path, kind: str, name: str, act: str) -> None:
    transformers = pytest.importorskip('transformers')
    sizes = dict(SIZES, image_size=32, patch_size=16, intermediate_size=128)
    theirs = randomised(
        getattr(transformers, f'{kind}Model')(getattr(transformers, f'{kind}Config')(**sizes))
    )
    theirs.save_pretrained(tmp_path, max_shard_size='40KB')
    assert (tmp_path / 'model.safetensors.index.json').exists()
    if act != 'gelu':  # the keys alone would fit
        refused(backbone(name, img_size=32), tmp_path, f"act_layer='{act}'")
    ours = backbone(name, img_size=32, model_args=dict(VIT, act_layer=act))
    load_backbone(ours, tmp_path)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens, tap = theirs(image).last_hidden_state, ours(image)[-1]
        if kind == 'CLIPVision':  # which norms the class token only
            tokens = theirs.post_layernorm(tokens)
    feature_map = tap if isinstance(tap, torch.Tensor) else tap[0]
    expected = tokens[:, -4:].transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(feature_map, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('config', 'act'),
    [
        (dict(model_type='siglip', vision_config=dict(model_type='siglip_vision_model')), 'gelu_tanh'),
        (dict(model_type='siglip2_vision_model'), 'gelu_tanh'),
        (dict(model_type='clip_vision_model'), 'quick_gelu'),
        (dict(model_type='clip', vision_config=dict(model_type='clip_vision_model')), 'quick_gelu'),
    ],
)
def test_configs_without_activation_mean_that_of_their_type(tmp_path, config: dict, act: str) -> None:
    module = backbone('vit_base_patch16_224', img_size=32)
    path = save(module, tmp_path / 'pytorch_model.bin')
    (tmp_path / 'config.json').write_text(json.dumps(config))
    refused(module, path, f"act_layer='{act}'")
    load_backbone(module, path.rename(tmp_path / 'another.pth'))  # no file of this config


def test_masked_autoencoder_of_hugging_face_and_meta(tmp_path) -> None:
    transformers = pytest.importorskip('transformers')
    sizes = dict(SIZES, image_size=32, patch_size=16, intermediate_size=128)
    decoder = {f'decoder_{name}': 16 for name in ('hidden_size', 'intermediate_size')}
    config = transformers.ViTMAEConfig(
        **sizes, **decoder, decoder_num_attention_heads=2, decoder_num_hidden_layers=1
    )
    transformers.ViTMAEForPreTraining(config).save_pretrained(tmp_path)
    arguments = dict(img_size=32)
    report = load_backbone(backbone('vit_base_patch16_224', **arguments), tmp_path / 'model.safetensors')
    assert set(report.dropped.values()) == {'decoder of masked pretraining'}
    extra = {
        'mask_token': torch.ones(1),
        'decoder_embed.weight': torch.ones(1),
        'decoder_blocks.0.x': torch.ones(1),
    }
    path = save(
        backbone('vit_base_patch16_224', **arguments), tmp_path / 'mae.pth', lambda state: state.update(extra)
    )
    report = load_backbone(backbone('vit_base_patch16_224', **arguments), path)
    assert report.dropped.keys() == extra.keys()


def test_deit3_of_meta(tmp_path) -> None:
    theirs = randomised(backbone('deit3_base_patch16_224', img_size=32))
    state = {key.removeprefix('model.'): value for key, value in theirs.state_dict().items()}
    state = {key.replace('ls1.gamma', 'gamma_1').replace('ls2.gamma', 'gamma_2'): state[key] for key in state}
    torch.save({'model': state}, tmp_path / 'deit3.pth')
    ours = backbone('deit3_base_patch16_224', img_size=32)
    load_backbone(ours, tmp_path / 'deit3.pth')
    assert_same_taps(ours, theirs)
