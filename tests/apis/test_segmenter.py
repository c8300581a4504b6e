"""``Segmenter`` predicts as ``inference_model`` does, whatever the images come from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dpt.apis import Segmenter, inference_model


@pytest.fixture(scope='module')
def segmenter(model_file: Path) -> Segmenter:
    return Segmenter(model_file, device='cpu')


def test_it_predicts_as_inference_model_does(segmenter: Segmenter, pictures: Path) -> None:
    path = pictures / 'a.png'
    result = segmenter(path)
    expected = inference_model(segmenter.model, path).pred_sem_seg.data[0].numpy()
    assert np.array_equal(result.labels, expected)
    assert len(result.present()) > 1
    assert result.labels.shape == (97, 131)
    assert result.palette.tolist()[1] == [40, 215, 7]


def test_path_array_and_pil_image_agree(segmenter: Segmenter, pictures: Path) -> None:
    path = pictures / 'a.png'
    labels = segmenter(str(path)).labels
    array = cv2.imread(str(path))
    assert np.array_equal(segmenter(array).labels, labels)
    assert np.array_equal(segmenter(Image.open(path)).labels, labels)
    assert not np.array_equal(segmenter(array[..., ::-1]).labels, labels)  # RGB is another image


def test_one_gives_one_and_several_a_list(segmenter: Segmenter, pictures: Path) -> None:
    names = [Path(result.name).name for result in segmenter(pictures)]
    assert names == ['a.png', 'b.png', 'd.jpg', 'c.png']
    assert [Path(result.name).name for result in segmenter(f'{pictures}/?.png')] == [
        'a.png',
        'b.png',
        'c.png',
    ]
    assert len(segmenter([pictures / 'a.png'])) == 1
    mixed = segmenter([pictures / 'a.png', cv2.imread(str(pictures / 'c.png'))])
    assert [result.labels.shape for result in mixed] == [(97, 131), (120, 80)]


def test_batches_hold_one_size_and_change_no_label(
    segmenter: Segmenter, model_file: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batched = Segmenter(model_file, device='cpu', batch_size=3)
    sizes: list[int] = []
    step = type(batched.model).test_step
    monkeypatch.setattr(
        type(batched.model),
        'test_step',
        lambda self, data: (sizes.append(len(data['inputs'])), step(self, data))[1],
    )
    together = batched(pictures)
    assert sizes == [2, 1, 1]
    for one, other in zip(segmenter(pictures), together, strict=True):
        assert one.name == other.name
        assert (one.labels != other.labels).mean() < 1e-3  # ties alone


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_half_precision_is_close(
    segmenter: Segmenter, model_file: Path, pictures: Path, precision: str
) -> None:
    half = Segmenter(model_file, device='cpu', precision=precision)
    seen: list[torch.dtype] = []
    handle = half.model.decode_head.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    labels = half(pictures / 'a.png').labels
    handle.remove()
    assert set(seen) == {dict(bf16=torch.bfloat16, fp16=torch.float16)[precision]}
    assert (labels == segmenter(pictures / 'a.png').labels).mean() > 0.9


def test_videos_are_streamed(segmenter: Segmenter, clip: Path) -> None:
    results = list(segmenter.stream(clip))
    assert [result.labels.shape for result in results] == [(64, 96)] * 5
    assert results[3].name == f'{clip}, frame 3'
    with pytest.raises(ValueError, match=r'stream\(\)'):
        segmenter(clip)
    with pytest.raises(ValueError, match=r'stream\(\)'):
        segmenter(0)


def test_what_cannot_be_read_is_named_or_reported(
    segmenter: Segmenter, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / 'broken.png').write_bytes(b'junk')
    (tmp_path / 'empty.jpg').touch()
    with pytest.raises(ValueError, match='broken.png cannot be read'):
        segmenter(tmp_path / 'broken.png')
    with pytest.raises(FileNotFoundError, match='gone.png does not exist'):
        segmenter('gone.png')
    failed: list[str] = []
    sources = [tmp_path / 'broken.png', pictures / 'a.png', tmp_path / 'empty.jpg']
    results = list(segmenter.stream(sources, on_error=lambda name, error: failed.append(Path(name).name)))
    assert [Path(result.name).name for result in results] == ['a.png']
    assert failed == ['broken.png', 'empty.jpg']


def test_arguments_that_cannot_be_are_refused(model_file: Path) -> None:
    for options, message in (
        (dict(precision='int8'), "'int8' must be one of"),
        (dict(batch_size=0), 'batch_size=0'),
        (dict(device='cuda:99'), 'cuda:99'),
        (dict(device='gpu'), "device='gpu' cannot be used"),
    ):
        with pytest.raises(ValueError, match=message):
            Segmenter(model_file, **options)
