"""``dpt.load`` recognises a file, says what it is, and loads it strictly."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import dpt
from dpt.apis import Predictor
from dpt.checkpoints import read_state_dict, save_weights
from dpt.checkpoints.formats import Format, convert
from dpt.checkpoints.formats import published as sources
from dpt.checkpoints.formats.isl import BASE
from dpt.checkpoints.formats.mmseg import TO_MMSEG
from dpt.config.load import load_config
from dpt.loading import MMSEG_CONFIG
from dpt.registry import MODELS

WIDTHS = {
    'model.backbone.img_size': 32,
    'model.backbone.embed_dims': 64,
    'model.backbone.num_heads': 1,
    'model.neck.in_channels': 64,
    'model.neck.channels': 8,
    'model.neck.post_process_channels': (4, 8, 8, 8),
    'model.decode_head.in_channels': 8,
}
HEAD = {'model.decode_head.channels': 8}
AUXILIARY = {'model.auxiliary_heads.0.in_channels': 8, 'model.auxiliary_heads.0.channels': 8}
SCALE = 'test_dataloader.dataset.pipeline.1.scale'


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that ``dpt.load`` logs."""
    lines: list[str] = []
    monkeypatch.setattr('dpt.loading.print_log', lambda line, logger: lines.append(line))
    return lines


def small(config: str, options: dict) -> dict[str, torch.Tensor]:
    """Random weights of a config at a small width."""
    torch.manual_seed(0)
    model = MODELS.build(load_config(config, options).model)
    return {key: torch.rand_like(value.float()).to(value) for key, value in model.state_dict().items()}


def of_mmseg() -> tuple[dict, dict, str]:
    tensors, _ = convert(small(MMSEG_CONFIG, {**WIDTHS, **HEAD}), TO_MMSEG)
    what = "MMSegmentation's DPT, with dpt_vit-b16_512x512_160k_ade20k.py"
    return tensors, {**WIDTHS, **HEAD, SCALE: (64, 32)}, what


def of_isl() -> tuple[dict, dict, str]:
    base = {key: eval(value) for key, value in (one.split('=') for one in BASE.options)}  # noqa: S307
    keys = sources.ISL_SEGMENTATION.model(sources.ISL_SEGMENTATION.encoder).keys
    back = Format('back', (), {ours: theirs for theirs, ours in keys.items() if isinstance(ours, str)})
    tensors, _ = convert(small(BASE.config, {**base, **WIDTHS, **HEAD, **AUXILIARY}), back)
    dropped = dict.fromkeys(set(BASE.keys()) - tensors.keys(), torch.zeros(1))
    return {**tensors, **dropped}, {SCALE: 64}, 'original DPT, segmentation'


@pytest.mark.parametrize('made', [of_mmseg, of_isl], ids=['MMSegmentation', 'isl-org'])
def test_files_without_a_config_are_recognised_and_loaded(made, pictures, tmp_path, said) -> None:
    tensors, options, what = made()
    torch.save({'state_dict': tensors}, tmp_path / 'model.pth')
    model = dpt.load(tmp_path / 'model.pth', device='cpu', cfg_options=options)
    assert said == [f'{tmp_path}/model.pth: {what}; 150 classes, {size(model):.1f} M parameters']
    result = model(pictures / 'a.png')
    assert result.labels.shape == (97, 131)
    assert set(result.areas()) <= set(model.classes)
    assert torch.equal(
        model.model.state_dict()['decode_head.conv_seg.bias'],
        tensors.get('decode_head.conv_seg.bias', tensors.get('scratch.output_conv.4.bias')),
    )
    del tensors[next(key for key in tensors if key.endswith('fc1.bias') or key.endswith('0.0.bias'))]
    torch.save({'state_dict': tensors}, tmp_path / 'model.pth')
    with pytest.raises(ValueError, match='model.pth'):
        dpt.load(tmp_path / 'model.pth', device='cpu', cfg_options=options)


def test_a_checkpoint_of_mmsegmentation_0_brings_its_config(pictures: Path, tmp_path: Path, said) -> None:
    norm = "dict(type='Normalize', mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)"

    def transforms(*steps: str) -> str:
        return f'[{", ".join(steps)}]'

    inner = transforms("dict(type='Resize', keep_ratio=True)", norm, "dict(type='Collect', keys=['img'])")
    test = transforms(
        "dict(type='LoadImageFromFile')",
        f"dict(type='MultiScaleFlipAug', img_scale=(64, 32), flip=False, transforms={inner})",
    )
    data = f"dict(type='CustomDataset', img_dir='i', ann_dir='a', pipeline={test})"
    text = (
        "model = dict(type='EncoderDecoder', backbone=dict(type='VisionTransformer', img_size=32, "
        'embed_dims=64, num_layers=12, num_heads=1, out_indices=(2, 5, 8, 11), output_cls_token=True), '
        "decode_head=dict(type='DPTHead', channels=8, embed_dims=64, post_process_channels=[4, 8, 8, 8], "
        "num_classes=150, readout_type='project', input_transform='multiple_select', in_index=(0, 1, 2, 3), "
        "norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss')))\n"
        f'data = dict(train={data}, val={data}, test={data})\n'
        "optimizer = dict(type='AdamW', lr=0.1)\nrunner = dict(type='IterBasedRunner', max_iters=9)\n"
        "evaluation = dict(interval=3)\nlr_config = dict(policy='fixed')\ngpu_ids = range(0, 1)\n"
    )
    tensors, _, _ = of_mmseg()
    meta = dict(config=text, CLASSES=[f'c{i}' for i in range(150)], mmseg_version='0.30.0')
    torch.save({'state_dict': tensors, 'meta': meta}, tmp_path / 'iter_9.pth')
    model = dpt.load(tmp_path / 'iter_9.pth', device='cpu')
    assert 'a checkpoint of MMSegmentation with its config; 150 classes' in said[0]
    assert (model.classes[7], model.model.cfg.model.data_preprocessor['std']) == ('c7', [4, 5, 6])
    assert model(pictures / 'a.png').labels.shape == (97, 131)


@pytest.fixture(scope='module')
def depth_anything() -> dict[str, torch.Tensor]:
    """Weights under the keys of Depth Anything."""
    keys = sources.DEPTH_ANYTHING.model(sources.DEPTH_ANYTHING.encoder).keys
    back = Format('back', (), {ours: theirs for theirs, ours in keys.items() if isinstance(ours, str)})
    options = {**WIDTHS, 'model.backbone.img_size': 28, 'model.decode_head.hidden_channels': 4}
    return convert(small('depth_anything_v2_s.py', options), back)[0]


@pytest.mark.parametrize(
    ('name', 'variant', 'relative'),
    [
        ('depth_anything_v2_vits.pth', None, True),
        ('depth_anything_v2_metric_hypersim_vits.pth', None, False),
        ('mine.pth', 'v2-outdoor', False),
    ],
)
def test_depth_anything_gives_depth(
    depth_anything, name: str, variant: str | None, relative: bool, pictures, tmp_path, said
) -> None:
    torch.save(depth_anything, tmp_path / name)
    model = dpt.load(tmp_path / name, variant=variant, device='cpu', cfg_options={SCALE: 56})
    found = variant or ('v2' if relative else 'v2-indoor')
    assert said[0].startswith(f'{tmp_path / name}: Depth Anything, {found}; depth, ')
    result = model(pictures / 'a.png')
    assert (result.depth.shape, result.relative) == ((97, 131), relative)
    result.save_depth(tmp_path / 'depth.npy')
    assert np.array_equal(np.load(tmp_path / 'depth.npy'), result.depth)
    result.save(tmp_path / 'depth.jpg')
    if relative:
        assert repr(result).endswith('97x131, relative)')
        with pytest.raises(ValueError, match='relative depth has no distances'):
            result.distances()
        with pytest.raises(ValueError, match='depth.png: relative depth has no unit'):
            result.save_depth(tmp_path / 'depth.png')
    else:
        assert result.distances()['farthest'] == result.depth.max()
        if variant is None:  # below 65 m
            result.save_depth(tmp_path / 'depth.png')
            stored = cv2.imread(str(tmp_path / 'depth.png'), cv2.IMREAD_UNCHANGED)
            assert np.abs(stored / 1000 - result.depth).max() <= 0.0005001


def size(model: Predictor) -> float:
    return sum(one.numel() for one in model.model.parameters()) / 1e6


def test_files_with_a_config_and_work_directories_load(
    model_file: Path, tmp_path: Path, said: list[str]
) -> None:
    model = dpt.load(str(model_file), device='cpu')
    assert 'tiny.safetensors: a checkpoint of dpt with its config; 6 classes, 0.' in said[0]
    weights = read_state_dict(model_file)
    save_weights(weights, dict(cfg=model.model.cfg.pretty_text), tmp_path / 'iter_4.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_4.pth')
    dpt.load(tmp_path, device='cpu')
    assert 'a checkpoint of dpt' in said[1]
    for name in ('best_mIoU_iter_2.pth', 'best_mIoU_iter_3.pth'):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match='several best checkpoints'):
        dpt.load(tmp_path)


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        ('depth-anything-v3-small', FileNotFoundError, 'did you mean depth-anything'),
        ('dpt_large-ade2k', FileNotFoundError, 'neither a file nor .* did you mean dpt_large-ade20k'),
        (
            'UniMatch-V2',
            ValueError,
            'cannot be loaded: there are many files',
        ),
        ('gone.pth', FileNotFoundError, 'gone.pth: neither a file nor a published model'),
    ],
)
def test_unknown_names_are_one_line(source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        dpt.load(source)
    assert '\n' not in str(caught.value)


def test_other_models_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({'conv1.weight': torch.ones(2)}, tmp_path / 'resnet.pth')
    with pytest.raises(ValueError, match=r'resnet.pth holds no config, and its 1 keys, such as conv1.weight'):
        dpt.load(tmp_path / 'resnet.pth')
    tensors, _, _ = of_mmseg()
    tensors['decode_head.conv_seg.weight'] = tensors['decode_head.conv_seg.weight'][:19]
    torch.save(tensors, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='predicts 19 classes instead of 150, and holds'):
        dpt.load(tmp_path / 'other.pth')


def test_results_are_saved_and_summarised(model_file: Path, pictures: Path, tmp_path: Path) -> None:
    result = dpt.load(model_file, device='cpu')(pictures / 'a.png')
    name, area = next(iter(result.areas().items()))
    assert f'97x131, {len(result.present())} classes: {name} {area:.1f} %' in repr(result)
    result.save(tmp_path / 'overlay.jpg', legend=False)
    result.save_labels(tmp_path / 'labels.png')
    assert cv2.imread(str(tmp_path / 'overlay.jpg')).shape == (97, 131, 3)
    stored = cv2.imread(str(tmp_path / 'labels.png'), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, result.labels)
    for write, path in ((result.save_labels, 'labels.jpg'), (result.save, 'overlay.txt')):
        with pytest.raises(ValueError, match=path):
            write(tmp_path / path)
    assert result._repr_png_().startswith(b'\x89PNG')


def test_show_needs_a_display(model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    result = dpt.load(model_file, device='cpu')(pictures / 'a.png')
    plt.switch_backend('agg')
    with pytest.raises(ValueError, match='no display'):
        result.show()
    shown: list[object] = []
    monkeypatch.setattr(plt, 'get_backend', lambda: 'module://matplotlib_inline')
    monkeypatch.setattr(plt, 'show', lambda: shown.append(plt.gcf().axes[0].images[0].get_array().shape))
    result.show(legend=False)
    assert shown == [(97, 131, 3)]
