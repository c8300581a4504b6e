"""Every source of ViTs gives the same tokens in its model and in ours; other ViTs are refused."""

import argparse
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from tiny_checkpoints import mmseg_shapes, model_shapes

from dpt.checkpoints import convert, load_backbone
from dpt.checkpoints.formats import BACKBONE_FORMATS, MMSEG_DPT, MODEL_FORMATS, convert_known
from dpt.checkpoints.formats.mmseg import TO_MMSEG
from dpt.checkpoints.formats.table import Format
from dpt.checkpoints.formats.vit import DEIT_DISTILLED, check_complete
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


@torch.no_grad()
def our_tokens(path, images, source=None, **options):
    """The tokens of our last layer after the final norm, of shape BxNxC; checks the source."""
    sizes = dict(embed_dims=WIDTH, num_layers=LAYERS, num_heads=HEADS, mlp_ratio=RATIO)
    backbone = VisionTransformer(
        SIDE, PATCH, out_indices=(LAYERS - 1,), final_norm=True, **sizes, **options
    ).eval()
    report = load_backbone(backbone, path)
    assert source is None or report.source == source
    feature_map, cls_token = backbone(images)[0]
    return torch.cat([cls_token[:, None], feature_map.flatten(2).transpose(1, 2)], dim=1)


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def timm_vit(name='vit_tiny_patch16_224', **options):
    sizes = dict(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS)
    return randomised(timm.create_model(name, pretrained=False, mlp_ratio=RATIO, **{**sizes, **options}))


@torch.no_grad()
def timm_tokens(model, images):
    return model.forward_features(images)


MAE_DECODER = ['mask_token', 'decoder_pos_embed', 'decoder_embed.weight', 'decoder_blocks.0.attn.qkv.weight']


class TestTimmKeys:
    @pytest.mark.parametrize(
        ('name', 'options', 'ours', 'wrap', 'source'),
        [
            ('vit_tiny_patch16_224', {}, {}, lambda keys: keys, 'timm'),
            (
                'deit_tiny_patch16_224',
                {},
                {},
                lambda keys: {'model': {**keys, 'pre_logits.fc.bias': torch.rand(3)}},
                'timm',
            ),
            (
                'vit_small_patch14_dinov2',
                dict(num_classes=0, init_values=1e-5),
                dict(layer_scale_init=1.0),
                lambda keys: {**keys, 'mask_token': torch.rand(1, WIDTH)},
                'DINOv2',
            ),
            (
                'vit_tiny_patch16_224',
                dict(num_classes=0),
                {},
                lambda keys: {'model': keys, 'args': argparse.Namespace(lr=1.0)},
                'timm',
            ),
            (
                'vit_tiny_patch16_224',
                dict(num_classes=0),
                {},
                lambda keys: {**keys, **{name: torch.rand(3) for name in MAE_DECODER}},
                'MAE',
            ),
        ],
        ids=['timm', 'DeiT and old timm', 'DINOv2', 'encoder of MAE', 'MAE with its decoder'],
    )
    def test_tokens(self, tmp_path, images, name, options, ours, wrap, source):
        model = timm_vit(name, **options)
        torch.save(wrap(model.state_dict()), tmp_path / 'vit.pth')
        assert_same(our_tokens(tmp_path / 'vit.pth', images, source, **ours), timm_tokens(model, images))

    @pytest.mark.parametrize('prefix', ['', 'module.'])
    def test_dino_takes_the_teacher(self, tmp_path, images, prefix):
        teacher, student = timm_vit(num_classes=0), randomised(timm_vit(num_classes=0), seed=5)

        def inside(model):
            keys = {f'{prefix}backbone.{key}': value for key, value in model.state_dict().items()}
            return {**keys, f'{prefix}head.last_layer.weight_g': torch.rand(2)}

        content = dict(student=inside(student), teacher=inside(teacher), args=argparse.Namespace(arch='vit'))
        torch.save(content, tmp_path / 'dino.pth')
        assert_same(our_tokens(tmp_path / 'dino.pth', images, 'DINO'), timm_tokens(teacher, images))

    def test_distilled_deit_without_its_token(self, tmp_path, images):
        distilled, plain = timm_vit('deit_tiny_distilled_patch16_224'), timm_vit()
        state_dict = distilled.state_dict()
        torch.save(convert_known(state_dict, (DEIT_DISTILLED,))[0], tmp_path / 'deit.pth')
        kept = {key: value for key, value in state_dict.items() if 'dist' not in key}
        kept['pos_embed'] = np.delete(state_dict['pos_embed'], 1, axis=1)
        plain.load_state_dict(kept)
        tokens = our_tokens(tmp_path / 'deit.pth', images)
        assert_same(tokens, timm_tokens(plain, images))
        with_token = timm_tokens(distilled, images)
        assert (tokens[:, 1:] - with_token[:, 2:]).abs().max() > 1e-2 * with_token.abs().max()


def google_arrays():
    """Random arrays in the layout of google-research/vision_transformer."""
    random, head = np.random.default_rng(0), WIDTH // HEADS
    shapes = {
        'cls': (1, 1, WIDTH),
        'embedding/kernel': (PATCH, PATCH, 3, WIDTH),
        'embedding/bias': (WIDTH,),
        'Transformer/posembed_input/pos_embedding': (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        'Transformer/encoder_norm/scale': (WIDTH,),
        'Transformer/encoder_norm/bias': (WIDTH,),
        'head/kernel': (WIDTH, 7),
        'head/bias': (7,),
        'pre_logits/kernel': (WIDTH, WIDTH),
        'pre_logits/bias': (WIDTH,),
    }
    for i in range(LAYERS):
        block = f'Transformer/encoderblock_{i}'
        attention = f'{block}/MultiHeadDotProductAttention_1'
        for name in ('LayerNorm_0', 'LayerNorm_2'):
            shapes.update({f'{block}/{name}/scale': (WIDTH,), f'{block}/{name}/bias': (WIDTH,)})
        for name in ('query', 'key', 'value'):
            shapes[f'{attention}/{name}/kernel'] = (WIDTH, HEADS, head)
            shapes[f'{attention}/{name}/bias'] = (HEADS, head)
        shapes.update({f'{attention}/out/kernel': (HEADS, head, WIDTH), f'{attention}/out/bias': (WIDTH,)})
        for name, sizes in (('Dense_0', (WIDTH, RATIO * WIDTH)), ('Dense_1', (RATIO * WIDTH, WIDTH))):
            shapes[f'{block}/MlpBlock_3/{name}/kernel'] = sizes
            shapes[f'{block}/MlpBlock_3/{name}/bias'] = sizes[1:]
    return {key: 0.3 * random.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


class TestGoogle:
    def test_npz_as_timm_reads_it(self, tmp_path, images):
        np.savez(tmp_path / 'vit.npz', **google_arrays())
        model = timm_vit(num_classes=7)
        model.load_pretrained(str(tmp_path / 'vit.npz'))
        assert_same(our_tokens(tmp_path / 'vit.npz', images, 'Google npz'), timm_tokens(model, images))

    def test_other_layouts_are_refused_by_key(self):
        arrays = {key: torch.from_numpy(array) for key, array in google_arrays().items()}
        query = 'Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel'
        flat = {**arrays, query: arrays[query].reshape(WIDTH, WIDTH)}
        with pytest.raises(ValueError, match=f'{query} has shape 24x24, expected 3 dimensions'):
            convert_known(flat, BACKBONE_FORMATS)
        del arrays[query]
        with pytest.raises(ValueError, match=r'layers\.1\.attn\.attn\.in_proj_weight .* lacks query; it has'):
            convert_known(arrays, BACKBONE_FORMATS)


@pytest.mark.parametrize('representation', [None, 5])
@torch.no_grad()
def test_torchvision(tmp_path, images, representation):
    sizes = (SIDE, PATCH, LAYERS, HEADS, WIDTH, RATIO * WIDTH)
    model = randomised(torchvision.models.VisionTransformer(*sizes, representation_size=representation))
    torch.save(model.state_dict(), tmp_path / 'vit.pth')
    cls_token = model.class_token.expand(len(images), -1, -1)
    theirs = model.encoder(torch.cat([cls_token, model._process_input(images)], dim=1))
    assert_same(our_tokens(tmp_path / 'vit.pth', images, 'torchvision'), theirs)


def hugging_face(name, **options):
    config = re.match('(Dinov2|ViTMAE|ViT)', name)[1] + 'Config'
    sizes = dict(image_size=SIDE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    sizes |= dict(num_attention_heads=HEADS, intermediate_size=RATIO * WIDTH, mlp_ratio=RATIO)
    return randomised(getattr(transformers, name)(getattr(transformers, config)(**sizes, **options)))


VIT = dict(norm_eps=1e-12)
DINO = dict(layer_scale_init=1.0)


class TestHuggingFace:
    @pytest.mark.parametrize(
        ('name', 'theirs', 'inner', 'source', 'ours'),
        [
            ('ViTModel', {}, '', 'Hugging Face ViT', VIT),
            ('ViTModel', dict(qkv_bias=False), '', 'Hugging Face ViT', dict(VIT, qkv_bias=False)),
            ('ViTForImageClassification', {}, 'vit', 'Hugging Face ViT', VIT),
            ('Dinov2Model', {}, '', 'Hugging Face DINOv2', DINO),
            ('Dinov2ForImageClassification', {}, 'dinov2', 'Hugging Face DINOv2', DINO),
        ],
    )
    @pytest.mark.parametrize('written', ['save_pretrained', 'state_dict'])
    @torch.no_grad()
    def test_tokens(self, tmp_path, images, name, theirs, inner, source, ours, written):
        model, path = hugging_face(name, **theirs), tmp_path / 'model.safetensors'
        if written == 'save_pretrained':  # whose names are others
            model.save_pretrained(tmp_path)
        else:
            save_file(model.state_dict(), path)
        backbone = getattr(model, inner) if inner else model
        assert_same(our_tokens(path, images, source, **ours), backbone(images).last_hidden_state)

    @torch.no_grad()
    def test_masked_autoencoder(self, tmp_path, images):
        decoder = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        decoder = {f'decoder_{name}': size for name, size in decoder.items()}
        model = hugging_face('ViTMAEForPreTraining', mask_ratio=0.0, **decoder)
        model.save_pretrained(tmp_path)
        unshuffled = torch.arange((SIDE // PATCH) ** 2, dtype=torch.float32).expand(len(images), -1)
        tokens = our_tokens(tmp_path / 'model.safetensors', images, 'Hugging Face ViT', norm_eps=1e-12)
        assert_same(tokens, model.vit(images, noise=unshuffled).last_hidden_state)


class TestRefusals:
    @staticmethod
    def timm_keys(name):
        return timm.create_model(name, pretrained=False, embed_dim=16, depth=1, num_heads=2).state_dict()

    @staticmethod
    def refused(keys, *words):
        with pytest.raises(ValueError, match='VisionTransformer does not support it: this is') as caught:
            convert_known(keys, BACKBONE_FORMATS)
        for word in words:
            assert word in str(caught.value)

    @pytest.mark.parametrize(
        ('name', 'words'),
        [
            ('samvit_base_patch16', ('SAM', 'relative positions', 'blocks.0.attn.rel_pos_h')),
            ('beit_base_patch16_224', ('BEiT', 'relative position bias', 'blocks.0.attn.q_bias')),
            ('beitv2_base_patch16_224', ('BEiT',)),
            ('vit_base_patch16_clip_224', ('CLIP', 'a norm before the first layer', 'norm_pre.weight')),
            ('vit_base_patch16_siglip_224', ('SigLIP', 'without a class token', 'attn_pool.latent')),
            ('vit_base_patch14_reg4_dinov2', ('registers', 'reg_token')),
            ('deit_base_distilled_patch16_224', ('distilled DeiT', '--drop-dist-token', 'dist_token')),
            ('eva02_base_patch14_224', ('SwiGLU',)),
            ('vit_base_patch16_dinov3', ('registers', 'reg_token')),
        ],
    )
    def test_models_of_timm(self, name, words):
        self.refused(self.timm_keys(name), *words)

    @pytest.mark.parametrize(
        ('name', 'word'),
        [
            ('BeitModel', 'BEiT'),
            ('CLIPVisionModel', 'CLIP'),
            ('SiglipVisionModel', 'SigLIP'),
            ('DeiTModel', 'distilled DeiT'),
            ('Dinov2WithRegistersModel', 'registers'),
        ],
    )
    def test_models_of_hugging_face(self, tmp_path, name, word):
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        config = getattr(transformers, name.replace('Model', 'Config'))(**sizes, image_size=28, patch_size=14)
        getattr(transformers, name)(config).save_pretrained(tmp_path)
        self.refused(load_file(tmp_path / 'model.safetensors'), word)

    @pytest.mark.parametrize(
        ('keys', 'word'),
        [
            (('image_encoder.blocks.0.attn.rel_pos_h', 'mask_decoder.iou_token.weight'), 'SAM'),
            (('visual.conv1.weight', 'visual.class_embedding', 'visual.ln_pre.weight'), 'CLIP'),
            (('patch_embed.proj.weight', 'blocks.0.norm1.weight', 'register_tokens'), 'registers'),
            (('patch_embed.proj.weight', 'blocks.0.norm1.weight', 'blocks.0.attn.q_norm.weight'), 'queries'),
        ],
    )
    def test_files_of_the_authors(self, keys, word):
        self.refused(dict.fromkeys(keys, 0), word, keys[0] if word in ('SAM', 'CLIP') else keys[-1])

    @pytest.mark.parametrize(
        ('name', 'words'),
        [
            ('vit_base_patch16_siglip_gap_224', 'without a class token'),
            ('deit3_base_patch16_224', 'no entry for the class token'),
        ],
    )
    def test_vits_without_class_position_are_incomplete(self, name, words):
        converted, _ = convert_known(self.timm_keys(name), BACKBONE_FORMATS)
        with pytest.raises(ValueError, match=words):
            check_complete(converted)


class TestWholeModels:
    def test_mmseg_head_becomes_neck_and_head_and_back(self):
        converted, report = convert_known({**mmseg_shapes(), 'auxiliary_head.x': 0}, MODEL_FORMATS)
        assert converted == model_shapes()
        assert (report.source, set(report.dropped)) == ('MMSegmentation DPT', {'auxiliary_head.x'})
        back, report = convert({**model_shapes(), 'auxiliary_heads.0.x': 0}, TO_MMSEG)
        assert back == mmseg_shapes()
        assert set(report.dropped) == {'auxiliary_heads.0.x'}

    def test_unknown_part_of_an_mmseg_head_is_refused(self):
        with pytest.raises(ValueError, match=r'decode_head\.mask_embed\.weight'):
            convert_known({**mmseg_shapes(), 'decode_head.mask_embed.weight': 0}, MODEL_FORMATS)
        assert convert({'decode_head.mask_embed.weight': 0}, MMSEG_DPT)[1].unmapped


def test_two_sources_of_one_target_are_refused():
    with pytest.raises(ValueError, match=r'both a\.w and b\.w become c\.w'):
        convert({'a.w': 1, 'b.w': 2}, Format('source', (), {'a.w': 'c.w', 'b.w': 'c.w'}))
