"""The Python interface predicts as ``tools/test.py`` does, from a config or from one file."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dpt.apis import Predictor, Segmentation, config_of, inference_model, init_model
from dpt.checkpoints import read_meta, read_state_dict, save_weights
from dpt.config import load_config
from dpt.models import EncoderDecoder

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'quickstart.py'
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


@pytest.fixture(scope='module')
def model(model_file: Path):
    return init_model(config_of(model_file), model_file, 'cpu')


@pytest.fixture(scope='module')
def predictor(model_file: Path) -> Predictor:
    return Predictor(model_file, device='cpu')


def publish(model_file: Path, target: Path, text: str | None, **meta: object) -> Path:
    """Write the tiny model with another config as text, or without one, and other metadata."""
    kept = {key: value for key, value in {**read_meta(model_file), **meta}.items() if key != 'cfg'}
    save_weights(read_state_dict(model_file), kept if text is None else dict(kept, cfg=text), target)
    return target


# init_model and inference_model


def test_precision_follows_test_cfg(model, pictures: Path) -> None:
    seen = []
    handle = model.decode_head.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    for fp16 in (False, True):
        model.cfg.test_cfg['fp16'] = fp16
        inference_model(model, pictures / 'a.png')
    model.cfg.test_cfg['fp16'] = False
    handle.remove()
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_classes_of_the_checkpoint_override_those_of_the_config(tmp_path: Path, suffix: str) -> None:
    model = init_model(CONFIG, device='cpu')
    assert model.dataset_meta['classes'][0] == 'sky'
    assert not model.training
    names = dict(classes=['a', 'b'], palette=[[0, 0, 0], [1, 1, 1]])
    save_weights(model.state_dict(), dict(dataset_meta=names), tmp_path / f'model{suffix}')
    other = init_model(CONFIG, tmp_path / f'model{suffix}', device='cpu')
    assert other.dataset_meta == dict(names, classes=('a', 'b'))
    assert all(torch.equal(*both) for both in zip(model.parameters(), other.parameters(), strict=True))
    save_weights(model.state_dict(), {}, tmp_path / f'bare{suffix}')
    assert init_model(CONFIG, tmp_path / f'bare{suffix}', device='cpu').dataset_meta['classes'][0] == 'sky'


def test_the_config_of_the_caller_stays_unchanged() -> None:
    config = load_config(str(CONFIG))
    config.model.type = EncoderDecoder
    before = config.to_dict()
    options = {'model.neck.channels': 24, 'model.decode_head.in_channels': 24}
    init_model(config, device='cpu', cfg_options=options)
    assert config.to_dict() == before


def test_images_pass_the_test_pipeline(pictures: Path) -> None:
    options = {'test_dataloader.dataset.pipeline.1.scale': (64, 64)}
    sample = inference_model(init_model(CONFIG, device='cpu', cfg_options=options), pictures / 'a.png')
    assert max(sample.img_shape) == 64


def test_missing_files_are_named(model, predictor: Predictor, pictures: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.jpg does not exist'):
        inference_model(model, 'nowhere.jpg')
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        init_model(CONFIG, 'nowhere.pth')
    with pytest.raises(FileNotFoundError, match='is a folder'):
        predictor(pictures)


# Images


def test_every_form_of_image_and_both_interfaces_give_equal_labels(
    predictor: Predictor, pictures: Path
) -> None:
    path = pictures / 'a.png'
    array, labels = cv2.imread(str(path)), predictor(str(path)).labels
    assert labels.shape == (97, 131)
    assert len(np.unique(labels)) > 1
    for source in (path, array, Image.open(path)):
        assert np.array_equal(predictor(source).labels, labels)
    for sample in (
        inference_model(predictor.model, path),
        *inference_model(predictor.model, [array, str(path)]),
    ):
        assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), labels)
    assert not np.array_equal(predictor(array[..., ::-1]).labels, labels)  # RGB is another image
    mixed = predictor([path, cv2.imread(str(pictures / 'c.png'))])
    assert [one.labels.shape for one in mixed] == [(97, 131), (120, 80)]
    assert [one.name for one in mixed] == [str(path), 'image 1']
    assert mixed[0].palette.tolist()[1] == [40, 215, 7]


def test_pil_images_are_read_as_bgr(predictor: Predictor, tmp_path: Path) -> None:
    read = predictor.prepare.read
    red = Image.new('RGB', (3, 2), (255, 0, 0))
    assert read(red).tolist() == [[[0, 0, 255]] * 3] * 2
    assert read(red.convert('L').convert('P')).shape == (2, 3, 3)
    assert read(red.convert('RGBA'))[1, 2].tolist() == [0, 0, 255]
    path = str(tmp_path / 'grey.png')
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16))
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    for mode, dtype in (('I;16', '<u2'), ('I;16B', '>u2')):
        image = Image.frombytes(mode, (30, 20), stored.astype(dtype).tobytes())
        assert np.array_equal(read(image), cv2.imread(path))


@pytest.mark.parametrize(
    ('image', 'error', 'message'),
    [
        (np.zeros((4, 4, 3), np.float32), ValueError, 'expected uint8'),
        (np.zeros((4, 4), np.uint8), ValueError, 'expected uint8'),
        (np.zeros((4, 4, 4), np.uint8), ValueError, 'expected uint8'),
        (np.zeros((0, 8, 3), np.uint8), ValueError, 'expected uint8'),
        (Image.new('I', (3, 2), 300), ValueError, "mode 'I'.*'L' or 'RGB'"),
        (Image.new('F', (3, 2), 300), ValueError, "mode 'F'.*'L' or 'RGB'"),
        (0, TypeError, 'not int'),
    ],
)
def test_other_objects_are_refused(
    predictor: Predictor, image: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        predictor(image)


# Predictor


def test_batches_hold_one_size_and_keep_labels(
    predictor: Predictor, model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batched = Predictor(model_file, device='cpu', batch_size=3)
    sizes: list[int] = []
    step = batched.model.test_step
    monkeypatch.setattr(
        batched.model, 'test_step', lambda data: (sizes.append(len(data['inputs'])), step(data))[1]
    )
    paths = [pictures / name for name in ('a.png', 'b.png', 'below/d.jpg', 'c.png')]
    results = batched(paths)
    assert sizes == [2, 1, 1]
    for one, other in zip(predictor(paths), results, strict=True):
        assert one.name == other.name
        assert (one.labels != other.labels).mean() < 1e-3  # where logits tie


@pytest.mark.parametrize(('precision', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.float16)])
def test_half_precision_is_close(
    predictor: Predictor, model_file: Path, pictures: Path, precision: str, dtype: torch.dtype
) -> None:
    half = Predictor(model_file, device='cpu', precision=precision)
    seen: list[torch.dtype] = []
    handle = half.model.decode_head.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    labels = half(pictures / 'a.png').labels
    handle.remove()
    assert set(seen) == {dtype}
    assert (labels == predictor(pictures / 'a.png').labels).mean() > 0.9


def test_stream_reports_unreadable_images(predictor: Predictor, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / 'broken.png').write_bytes(b'junk')
    (tmp_path / 'empty.jpg').touch()
    with pytest.raises(ValueError, match='broken.png cannot be read'):
        predictor(tmp_path / 'broken.png')
    failed: list[str] = []
    sources = [tmp_path / 'broken.png', pictures / 'a.png', tmp_path / 'empty.jpg']
    results = list(predictor.stream(sources, on_error=lambda name, error: failed.append(Path(name).name)))
    assert [Path(result.name).name for result in results] == ['a.png']
    assert failed == ['broken.png', 'empty.jpg']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(precision='int8'), "'int8' must be one of"),
        (dict(batch_size=0), 'batch_size=0'),
        (dict(device='cuda:99'), 'cuda:99'),
        (dict(device='gpu'), "device='gpu' cannot be used"),
    ],
)
def test_invalid_arguments_are_refused(model_file: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(model_file, **options)


# The config in a checkpoint


def test_pretrained_files_of_the_config_are_ignored(
    model_file: Path, config_text: str, tmp_path: Path
) -> None:
    text = config_text.replace(
        'embed_dims=16', "embed_dims=16, init_cfg=dict(type='Pretrained', checkpoint='gone.pth')"
    )
    assert 'gone.pth' in text
    config = config_of(publish(model_file, tmp_path / 'm.pth', text))
    assert 'init_cfg' not in config.model.backbone
    assert set(config) == {'default_scope', 'model', 'test_dataloader', 'test_cfg'}


UNREGISTERED = r'is not registered; pass a config that you trust with Predictor.* or --config FILE'
ATTACKS = {
    'a call': ("load_from = __import__('os').system('touch {mark}')", 'line .* is not plain data'),
    'the name of a function': ("model = dict(type='os.system', command='touch {mark}')", 'would import code'),
    'a name inside the pipeline': (
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='subprocess.run', args=['touch', '{mark}'])"
        ']))',
        'would import code',
    ),
    'an unknown part': ("model = dict(type='Sequential')", UNREGISTERED),
    'a scope': ("model = dict(type='EncoderDecoder', _scope_='mmengine')", UNREGISTERED),
}


@pytest.mark.parametrize('attack', ATTACKS)
def test_no_code_of_a_config_runs(model_file: Path, config_text: str, tmp_path: Path, attack: str) -> None:
    line, message = ATTACKS[attack]
    mark = tmp_path / 'mark'
    text = f'{config_text}\n{line.format(mark=mark)}\n'
    path = publish(model_file, tmp_path / 'm.safetensors', text)
    with pytest.raises(ValueError, match=message) as caught:
        Predictor(path, device='cpu')
    assert str(path) in str(caught.value)
    assert not mark.exists()


def test_checkpoints_without_usable_config_are_refused(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='holds no config: pass it with Predictor'):
        config_of(publish(model_file, tmp_path / 'm.pth', None))
    with pytest.raises(ValueError, match='the key test_dataloader is missing'):
        config_of(publish(model_file, tmp_path / 'n.pth', "model = dict(type='EncoderDecoder')"))
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        config_of(tmp_path / 'gone.pth')


def test_a_config_of_mmsegmentation_is_translated(model_file: Path, tmp_path: Path) -> None:
    text = (
        "default_scope = 'mmseg'\n"
        "model = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', mean=[1, 2,"
        ' 3], std=[1, 1, 1], bgr_to_rgb=True, pad_val=0, seg_pad_val=255), backbone=dict('
        "type='VisionTransformer', img_size=32, embed_dims=32, num_layers=4, num_heads=2, out_indices=(0, 1,"
        ' 2, 3), final_norm=False, with_cls_token=True, output_cls_token=True), decode_head=dict('
        "type='DPTHead', in_channels=(32, 32, 32, 32), channels=16, embed_dims=32, "
        'post_process_channels=[8, 16, 32, 32], num_classes=3, readout_type="project", input_transform='
        '"multiple_select", in_index=(0, 1, 2, 3), norm_cfg=dict(type="SyncBN", requires_grad=True), '
        'loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)), '
        "auxiliary_head=None, train_cfg=dict(), test_cfg=dict(mode='whole'))\n"
        "test_dataloader = dict(dataset=dict(type='ADE20KDataset', pipeline=[dict(type='LoadImageFromFile'), "
        "dict(type='Resize', scale=(64, 32), keep_ratio=True), dict(type='PackSegInputs')]))\n"
    )
    config = config_of(publish(model_file, tmp_path / 'm.pth', text))
    assert config.model.neck.type == 'DPTNeck'
    assert config.default_scope == 'dpt'


def test_class_names_come_from_checkpoint_or_config(model_file: Path, tmp_path: Path) -> None:
    text = read_meta(model_file)['cfg']
    unnamed = publish(model_file, tmp_path / 'm.pth', text, dataset_meta={})
    assert Predictor(unnamed, device='cpu').classes[5] == 'car'
    wrong = publish(model_file, tmp_path / 'n.pth', text, dataset_meta=dict(classes=['a', 'b']))
    with pytest.raises(ValueError, match='the checkpoint names 2 classes but the model predicts 6'):
        Predictor(wrong, device='cpu')


# Segmentation


@pytest.fixture
def result() -> Segmentation:
    labels = np.zeros((40, 50), np.uint8)
    labels[:10] = 2
    image = np.full((40, 50, 3), (10, 20, 30), np.uint8)  # BGR
    return Segmentation('a.png', image, labels, ('a', 'b', 'c'), PALETTE)


def test_areas_are_per_cent_and_sorted(result: Segmentation) -> None:
    assert list(result.areas().items()) == [('a', 75.0), ('c', 25.0)]


def test_overlay_blends_colours_over_the_rgb_image(result: Segmentation) -> None:
    assert np.array_equal(result.overlay(0.0), cv2.cvtColor(result.image, cv2.COLOR_BGR2RGB))
    assert np.array_equal(result.overlay(1.0), PALETTE[result.labels])
    with pytest.raises(ValueError, match='opacity'):
        result.overlay(1.5)


def test_legend_shows_present_or_given_classes(result: Segmentation) -> None:
    plain, fixed = result.overlay(legend=True), result.overlay(legend=range(3))
    assert plain.shape[0] > 40
    assert (fixed == (0, 255, 0)).all(axis=-1).any()
    assert not (plain == (0, 255, 0)).all(axis=-1).any()  # an absent class
