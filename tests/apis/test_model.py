"""The Python interface predicts as ``tools/test.py`` does."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dpt.apis import inference_model, init_model
from dpt.checkpoints import save_weights

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'quickstart.py'


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = init_model(CONFIG, device='cpu')
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), cv2.blur(noise, (9, 9)))
    return tmp_path / 'a.png'


def test_a_path_and_its_array_give_the_same_labels(model, image_path: Path) -> None:
    one = inference_model(model, image_path)
    several = inference_model(model, [cv2.imread(str(image_path)), str(image_path)])
    assert one.pred_sem_seg.data.shape == (1, 97, 131)
    assert one.pred_sem_seg.data.unique().numel() > 1
    for sample in several:
        assert torch.equal(sample.pred_sem_seg.data, one.pred_sem_seg.data)


def test_the_precision_is_that_of_the_test_loop(model, image_path: Path) -> None:
    seen = []
    handle = model.decode_head.register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))
    inference_model(model, image_path)
    model.cfg.test_cfg['fp16'] = True
    inference_model(model, image_path)
    model.cfg.test_cfg['fp16'] = False
    handle.remove()
    assert seen == [torch.float32, torch.bfloat16]


def test_classes_come_from_the_config_without_a_checkpoint(model) -> None:
    assert model.dataset_meta['classes'][0] == 'sky'
    assert not model.training


def test_checkpoint_weights_and_classes_are_used(model, image_path: Path, tmp_path: Path) -> None:
    meta = dict(dataset_meta=dict(classes=('a', 'b'), palette=[[0, 0, 0], [1, 1, 1]]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'model.pth')
    other = init_model(CONFIG, tmp_path / 'model.pth', device='cpu')
    assert other.dataset_meta['classes'] == ('a', 'b')
    labels = [inference_model(m, image_path).pred_sem_seg.data for m in (model, other)]
    assert torch.equal(*labels)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_classes_and_colours_come_from_any_kind_of_file(model, tmp_path: Path, suffix: str) -> None:
    names = dict(classes=['a', 'b'], palette=[[0, 0, 0], [1, 1, 1]])
    save_weights(model.state_dict(), dict(dataset_meta=names), tmp_path / f'model{suffix}')
    other = init_model(CONFIG, tmp_path / f'model{suffix}', device='cpu')
    assert other.dataset_meta == dict(names, classes=('a', 'b'))
    save_weights(model.state_dict(), {}, tmp_path / f'bare{suffix}')
    assert init_model(CONFIG, tmp_path / f'bare{suffix}', device='cpu').dataset_meta['classes'][0] == 'sky'


def test_missing_files_are_named(model) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere.jpg'):
        inference_model(model, 'nowhere.jpg')
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        init_model(CONFIG, 'nowhere.pth')


def test_images_pass_the_pipeline_of_the_test_data_set(image_path: Path) -> None:
    options = {'test_dataloader.dataset.pipeline.1.scale': (64, 64)}
    sample = inference_model(init_model(CONFIG, device='cpu', cfg_options=options), image_path)
    assert max(sample.img_shape) == 64


def test_an_array_that_is_no_image_is_refused(model) -> None:
    with pytest.raises(ValueError, match='expected uint8'):
        inference_model(model, np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ValueError, match='expected uint8'):
        inference_model(model, np.zeros((0, 8, 3), np.uint8))
