"""Every source of plain ViTs, shown by output: the foreign model and ours give the same tokens."""

import argparse
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dpt.checkpoints import load_backbone, read_state_dict
from dpt.checkpoints.convert import convert_known
from dpt.checkpoints.vit_formats import DEIT_DISTILLED
from dpt.models.backbones import VisionTransformer

WIDTH, LAYERS, HEADS, PATCH, SIDE = 24, 3, 4, 4, 12
RATIO = 2


def randomised(model, seed=0):
    """Every parameter random, so that no two can be mistaken for each other; norms and scales near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and not name.endswith('bias')
            parameter.copy_(1 + 0.3 * noise if is_gain else 0.3 * noise)
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))


def our_tokens(path, images, **options):
    """The tokens of our last layer after the final norm, of shape BxNxC, and where the weights came from."""
    backbone = VisionTransformer(
        SIDE,
        PATCH,
        embed_dims=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        mlp_ratio=RATIO,
        out_indices=(LAYERS - 1,),
        final_norm=True,
        **options,
    )
    source = load_backbone(backbone, path).source
    with torch.no_grad():
        feature_map, cls_token = backbone.eval()(images)[0]
    return torch.cat([cls_token[:, None], feature_map.flatten(2).transpose(1, 2)], dim=1), source


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def timm_vit(name='vit_tiny_patch16_224', **options):
    timm = pytest.importorskip('timm')
    sizes = dict(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS)
    return randomised(timm.create_model(name, pretrained=False, mlp_ratio=RATIO, **{**sizes, **options}))


@torch.no_grad()
def timm_tokens(model, images):
    return model.forward_features(images)


class TestTimmKeys:
    @pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
    def test_timm(self, tmp_path, images, suffix):
        model, path = timm_vit(), tmp_path / f'vit{suffix}'
        save_file(model.state_dict(), path) if suffix != '.pth' else torch.save(model.state_dict(), path)
        tokens, source = our_tokens(path, images)
        assert source == 'timm'
        assert_same(tokens, timm_tokens(model, images))

    def test_deit_and_old_timm(self, tmp_path, images):
        model = timm_vit('deit_tiny_patch16_224')
        pre_logits = {f'pre_logits.fc.{name}': torch.rand(3) for name in ('weight', 'bias')}
        torch.save({'model': {**model.state_dict(), **pre_logits}}, tmp_path / 'deit.pth')
        assert_same(our_tokens(tmp_path / 'deit.pth', images)[0], timm_tokens(model, images))

    @pytest.mark.parametrize('decoder', [True, False], ids=['pretraining', 'encoder'])
    def test_mae(self, tmp_path, images, decoder):
        model = timm_vit(num_classes=0)
        state_dict = model.state_dict()
        if decoder:
            names = 'decoder_pos_embed decoder_embed.weight decoder_embed.bias decoder_norm.weight'
            names += ' decoder_blocks.0.norm1.weight decoder_blocks.0.attn.qkv.weight decoder_pred.weight'
            state_dict.update({name: torch.rand(3) for name in ('mask_token', *names.split())})
        torch.save({'model': state_dict, 'args': argparse.Namespace(lr=1.0)}, tmp_path / 'mae.pth')
        tokens, source = our_tokens(tmp_path / 'mae.pth', images)
        assert source == ('MAE' if decoder else 'timm')
        assert_same(tokens, timm_tokens(model, images))

    @pytest.mark.parametrize('wrap', [False, True], ids=['teacher', 'data parallel'])
    def test_dino_takes_the_teacher(self, tmp_path, images, wrap):
        teacher, student = timm_vit(num_classes=0), randomised(timm_vit(num_classes=0), seed=5)

        def inside(model):
            head = {'head.mlp.0.weight': torch.rand(2), 'head.last_layer.weight_g': torch.rand(2)}
            keys = {**{f'backbone.{key}': value for key, value in model.state_dict().items()}, **head}
            return {f'module.{key}': value for key, value in keys.items()} if wrap else keys

        content = dict(student=inside(student), teacher=inside(teacher), epoch=3)
        torch.save({**content, 'args': argparse.Namespace(arch='vit_small')}, tmp_path / 'dino.pth')
        tokens, source = our_tokens(tmp_path / 'dino.pth', images)
        assert source == 'DINO'
        assert_same(tokens, timm_tokens(teacher, images))

    def test_dinov2(self, tmp_path, images):
        model = timm_vit('vit_small_patch14_dinov2', num_classes=0, init_values=1e-5)
        torch.save({**model.state_dict(), 'mask_token': torch.rand(1, WIDTH)}, tmp_path / 'dinov2.pth')
        tokens, source = our_tokens(tmp_path / 'dinov2.pth', images, layer_scale_init=1.0)
        assert source == 'DINOv2'
        assert_same(tokens, timm_tokens(model, images))

    def test_distilled_deit_is_the_same_model_without_its_token(self, tmp_path, images):
        distilled, plain = timm_vit('deit_tiny_distilled_patch16_224'), timm_vit()
        state_dict = distilled.state_dict()
        converted, _ = convert_known(state_dict, (DEIT_DISTILLED,))
        torch.save(converted, tmp_path / 'deit.pth')
        kept = {key: value for key, value in state_dict.items() if 'dist' not in key}
        kept['pos_embed'] = np.delete(state_dict['pos_embed'], 1, axis=1)
        plain.load_state_dict(kept)
        tokens, _ = our_tokens(tmp_path / 'deit.pth', images)
        assert_same(tokens, timm_tokens(plain, images))
        with_token = timm_tokens(distilled, images)
        assert (tokens[:, 1:] - with_token[:, 2:]).abs().max() > 1e-2 * with_token.abs().max()


def google_arrays(seed=0, classes=7, representation=True):
    """Random arrays in the layout of google-research/vision_transformer."""
    random, head = np.random.default_rng(seed), WIDTH // HEADS
    shapes = {
        'cls': (1, 1, WIDTH),
        'embedding/kernel': (PATCH, PATCH, 3, WIDTH),
        'embedding/bias': (WIDTH,),
        'Transformer/posembed_input/pos_embedding': (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        'Transformer/encoder_norm/scale': (WIDTH,),
        'Transformer/encoder_norm/bias': (WIDTH,),
        'head/kernel': (WIDTH, classes),
        'head/bias': (classes,),
    }
    if representation:
        shapes.update({'pre_logits/kernel': (WIDTH, WIDTH), 'pre_logits/bias': (WIDTH,)})
    for i in range(LAYERS):
        block = f'Transformer/encoderblock_{i}'
        for norm in ('LayerNorm_0', 'LayerNorm_2'):
            shapes.update({f'{block}/{norm}/scale': (WIDTH,), f'{block}/{norm}/bias': (WIDTH,)})
        attention = f'{block}/MultiHeadDotProductAttention_1'
        for part in ('query', 'key', 'value'):
            shapes[f'{attention}/{part}/kernel'] = (WIDTH, HEADS, head)
            shapes[f'{attention}/{part}/bias'] = (HEADS, head)
        shapes[f'{attention}/out/kernel'] = (HEADS, head, WIDTH)
        shapes[f'{attention}/out/bias'] = (WIDTH,)
        shapes[f'{block}/MlpBlock_3/Dense_0/kernel'] = (WIDTH, RATIO * WIDTH)
        shapes[f'{block}/MlpBlock_3/Dense_0/bias'] = (RATIO * WIDTH,)
        shapes[f'{block}/MlpBlock_3/Dense_1/kernel'] = (RATIO * WIDTH, WIDTH)
        shapes[f'{block}/MlpBlock_3/Dense_1/bias'] = (WIDTH,)
    return {
        key: (0.3 * random.standard_normal(shape) + key.endswith('scale')).astype(np.float32)
        for key, shape in shapes.items()
    }


class TestGoogle:
    def test_npz_as_timm_reads_it(self, tmp_path, images):
        path = tmp_path / 'vit.npz'
        np.savez(path, **google_arrays())
        model = timm_vit(num_classes=7)
        model.load_pretrained(str(path))
        tokens, source = our_tokens(path, images)
        assert source == 'Google npz'
        assert_same(tokens, timm_tokens(model, images))

    def test_pickled_arrays_are_refused(self, tmp_path):
        np.savez(tmp_path / 'x.npz', a=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match=r'x\.npz: cannot be read as \.npz \(it holds pickled objects'):
            read_state_dict(tmp_path / 'x.npz')

    @pytest.mark.parametrize('content', [b'', b'<html>', b'PK\x03\x04 half'])
    def test_damaged_files_are_named(self, tmp_path, content):
        (tmp_path / 'x.npz').write_bytes(content)
        with pytest.raises(ValueError, match=r'x\.npz: cannot be read as \.npz'):
            read_state_dict(tmp_path / 'x.npz')

    def test_a_single_array_and_texts_are_refused(self, tmp_path):
        with (tmp_path / 'x.npz').open('wb') as file:
            np.save(file, np.zeros(3))
        with pytest.raises(ValueError, match=r'x\.npz: cannot be read'):
            read_state_dict(tmp_path / 'x.npz')
        np.savez(tmp_path / 'y.npz', a=np.array(['text']))
        with pytest.raises(ValueError, match=r'y\.npz: a holds <U4'):
            read_state_dict(tmp_path / 'y.npz')

    def test_a_missing_part_of_the_attention_is_named(self, tmp_path, images):
        arrays = google_arrays()
        del arrays['Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias']
        np.savez(tmp_path / 'x.npz', **arrays)
        with pytest.raises(ValueError, match=r'layers\.1\.attn\.attn\.in_proj_bias .* lacks key beside'):
            our_tokens(tmp_path / 'x.npz', images)

    def test_a_kernel_of_another_layout_is_named(self, tmp_path, images):
        arrays = google_arrays()
        key = 'Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel'
        arrays[key] = arrays[key].reshape(WIDTH, WIDTH)
        np.savez(tmp_path / 'x.npz', **arrays)
        with pytest.raises(ValueError, match=rf'{re.escape(key)} is of shape 24x24, expected 3 dimensions'):
            our_tokens(tmp_path / 'x.npz', images)


@pytest.mark.parametrize('representation', [None, 5])
@torch.no_grad()
def test_torchvision(tmp_path, images, representation):
    torchvision = pytest.importorskip('torchvision')
    model = randomised(
        torchvision.models.VisionTransformer(
            SIDE, PATCH, LAYERS, HEADS, WIDTH, RATIO * WIDTH, representation_size=representation
        )
    )
    torch.save(model.state_dict(), tmp_path / 'vit.pth')
    patches = model._process_input(images)
    cls_token = model.class_token.expand(len(images), -1, -1)
    tokens, source = our_tokens(tmp_path / 'vit.pth', images)
    assert source == 'torchvision'
    assert_same(tokens, model.encoder(torch.cat([cls_token, patches], dim=1)))


def hugging_face(name, **options):
    transformers = pytest.importorskip('transformers')
    config = 'Dinov2Config' if name.startswith('Dinov2') else 'ViTConfig'
    sizes = dict(
        image_size=SIDE,
        patch_size=PATCH,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=RATIO * WIDTH,
        mlp_ratio=RATIO,
    )
    if name.startswith('ViTMAE'):
        config = 'ViTMAEConfig'
        sizes.update(
            decoder_hidden_size=8,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=8,
            mask_ratio=0.0,
        )
    return randomised(getattr(transformers, name)(getattr(transformers, config)(**sizes, **options)))


class TestHuggingFace:
    @pytest.mark.parametrize(
        ('name', 'inner', 'source'),
        [
            ('ViTModel', '', 'Hugging Face ViT'),
            ('ViTForImageClassification', 'vit', 'Hugging Face ViT'),
            ('Dinov2Model', '', 'Hugging Face DINOv2'),
            ('Dinov2ForImageClassification', 'dinov2', 'Hugging Face DINOv2'),
        ],
    )
    @pytest.mark.parametrize('written', ['save_pretrained', 'state_dict'])
    @torch.no_grad()
    def test_tokens(self, tmp_path, images, name, inner, source, written):
        model = hugging_face(name)
        path = tmp_path / 'model.safetensors'
        if written == 'save_pretrained':
            model.save_pretrained(tmp_path)
        else:
            path = tmp_path / 'model.pth'
            torch.save(model.state_dict(), path)
        is_vit = source == 'Hugging Face ViT'
        options = dict(norm_eps=1e-12) if is_vit else dict(layer_scale_init=1.0)
        tokens, found = our_tokens(path, images, **options)
        assert found == source
        backbone = getattr(model, inner) if inner else model
        assert_same(tokens, backbone(images).last_hidden_state)

    @torch.no_grad()
    def test_masked_autoencoder(self, tmp_path, images):
        model = hugging_face('ViTMAEForPreTraining')
        model.save_pretrained(tmp_path)
        order = torch.arange((SIDE // PATCH) ** 2, dtype=torch.float32).expand(
            len(images), -1
        )  # no shuffling
        tokens, source = our_tokens(tmp_path / 'model.safetensors', images, norm_eps=1e-12)
        assert source == 'Hugging Face ViT'
        assert_same(tokens, model.vit(images, noise=order).last_hidden_state)

    @torch.no_grad()
    def test_attention_without_bias(self, tmp_path, images):
        model = hugging_face('ViTModel', qkv_bias=False)
        torch.save(model.state_dict(), tmp_path / 'vit.pth')
        tokens, _ = our_tokens(tmp_path / 'vit.pth', images, norm_eps=1e-12, qkv_bias=False)
        assert_same(tokens, model(images).last_hidden_state)
