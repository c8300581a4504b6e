"""Vision transformers of another kind are refused by name, with the reason."""

import pytest

from dpt.checkpoints.convert import convert_known
from dpt.checkpoints.rules import BACKBONE_FORMATS
from dpt.checkpoints.vit_settings import check_complete


def timm_keys(name, **options):
    timm = pytest.importorskip('timm')
    sizes = dict(embed_dim=16, depth=1, num_heads=2)
    return timm.create_model(name, pretrained=False, **sizes, **options).state_dict()


def hugging_face_keys(name, tmp_path):
    """Keys as transformers writes them to a file, which are not those of its modules."""
    transformers = pytest.importorskip('transformers')
    from safetensors import safe_open

    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config = getattr(transformers, name.replace('Model', 'Config'))(**sizes, image_size=28, patch_size=14)
    getattr(transformers, name)(config).save_pretrained(tmp_path)
    with safe_open(tmp_path / 'model.safetensors', framework='pt') as content:
        return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118


def refused(keys, *words):
    with pytest.raises(ValueError, match='This is') as caught:
        convert_known(keys, BACKBONE_FORMATS)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('samvit_base_patch16', ('SAM', 'relative positions', 'blocks.0.attn.rel_pos_h')),
        ('beit_base_patch16_224', ('BEiT', 'relative position bias', 'blocks.0.attn.q_bias')),
        ('beitv2_base_patch16_224', ('BEiT',)),
        ('vit_base_patch16_clip_224', ('CLIP', 'normalised before the first layer', 'norm_pre.weight')),
        ('vit_base_patch16_siglip_224', ('SigLIP', 'no class token', 'attn_pool.latent')),
        ('vit_base_patch14_reg4_dinov2', ('registers', 'reg_token')),
        ('deit_base_distilled_patch16_224', ('distilled DeiT', '--drop-dist-token', 'dist_token')),
        ('eva02_base_patch14_224', ('SwiGLU',)),
        ('vit_base_patch16_dinov3', ('registers', 'reg_token')),
    ],
)
def test_models_of_timm(name, words):
    refused(timm_keys(name), *words)


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
def test_models_of_hugging_face(tmp_path, name, word):
    refused(hugging_face_keys(name, tmp_path), word)


def test_the_file_of_sam_itself():
    encoder = {f'image_encoder.{key}': value for key, value in timm_keys('samvit_base_patch16').items()}
    refused({**encoder, 'prompt_encoder.no_mask_embed.weight': 0, 'mask_decoder.iou_token.weight': 0}, 'SAM')


def test_the_visual_tower_in_the_file_of_clip_itself():
    refused({'visual.conv1.weight': 0, 'visual.class_embedding': 0, 'visual.ln_pre.weight': 0}, 'CLIP')


def test_dinov2_with_registers_in_its_own_names():
    keys = timm_keys('vit_base_patch14_dinov2')
    refused({**keys, 'mask_token': 0, 'register_tokens': 0}, 'registers', 'register_tokens')


def test_a_vit_without_class_token_is_not_whole():
    converted, _ = convert_known(timm_keys('vit_base_patch16_siglip_gap_224'), BACKBONE_FORMATS)
    with pytest.raises(ValueError, match='no class token.*SigLIP'):
        check_complete(converted)


def test_deit_iii_has_no_position_for_its_class_token():
    converted, _ = convert_known(timm_keys('deit3_base_patch16_224'), BACKBONE_FORMATS)
    with pytest.raises(ValueError, match='no entry for the class token'):
        check_complete(converted)
