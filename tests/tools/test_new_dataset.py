"""``tools/new_dataset.py`` on CamVid in raw form, and its config in the tools that follow."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dpt.config.check import check_config
from dpt.config.load import load_config
from dpt.datasets import CamVidDataset
from dpt.registry import DATASETS, MODELS

TOOL = 'new_dataset'


@pytest.fixture
def raw(camvid_root: Path, tmp_path: Path) -> Path:
    """Ten images, their masks, and these in CamVid's colours with the end ``_L``, as it was published."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:11] = CamVidDataset.METAINFO['palette']
    for folder in ('images', 'masks', 'colours'):
        (tmp_path / 'raw' / folder).mkdir(parents=True)
    for image in sorted((camvid_root / 'images' / 'training').glob('*.jpg'))[::37]:
        (tmp_path / 'raw' / 'images' / image.name).symlink_to(image)
        mask = camvid_root / 'annotations' / 'training' / f'{image.stem}.png'
        (tmp_path / 'raw' / 'masks' / mask.name).symlink_to(mask)
        labels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        target = tmp_path / 'raw' / 'colours' / f'{image.stem}_L.png'
        cv2.imwrite(str(target), colours[labels][..., ::-1])
    names = CamVidDataset.METAINFO['classes']
    lines = [f'{r} {g} {b}\t{n}' for n, (r, g, b) in zip(names, colours[:11].tolist(), strict=True)]
    (tmp_path / 'raw' / 'label_colors.txt').write_text('\n'.join(lines))
    return tmp_path / 'raw'


def labels_of(config: Path) -> dict[str, np.ndarray]:
    found = {}
    for loader in ('train_dataloader', 'val_dataloader'):
        settings = dict(load_config(str(config))[loader].dataset, pipeline=[dict(type='LoadAnnotations')])
        for sample in DATASETS.build(settings):
            found[Path(sample['img_path']).name] = sample['gt_seg_map']
    return found


def test_index_and_colour_masks_give_the_same_labels(call, raw: Path) -> None:
    names = ','.join(CamVidDataset.METAINFO['classes'])
    out = raw.parent
    index = (TOOL, raw / 'images', raw / 'masks', '--out', out / 'index', '--config', out / 'index.py')
    index += ('--classes', names)
    before = sorted(raw.rglob('*'))
    status, printed, _ = call(*index, '--dry-run')
    assert status == 0
    assert 'nothing was written' in printed
    assert not (out / 'index').exists()
    status, printed, _ = call(*index)
    assert status == 0
    assert 'masks: used in place' in printed
    assert 'is used as a class' not in printed  # it has been named
    colours = (TOOL, raw / 'images', raw / 'colours', '--out', out / 'rgb', '--config', out / 'rgb.py')
    colours += ('--classes', raw / 'label_colors.txt', '--ignore', '0,0,0')
    status, printed, _ = call(*colours)
    assert status == 0
    assert 'masks: converted' in printed
    assert sorted(raw.rglob('*')) == before
    one, other = labels_of(out / 'index.py'), labels_of(out / 'rgb.py')
    assert len(one) == 10
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    status, _, error = call(*colours)
    assert status == 1
    assert 'exists: use another folder, or --overwrite' in error
    assert call(*colours, '--overwrite')[0] == 0


def test_palettes_in_another_order_are_read_by_colour(call, raw: Path) -> None:
    out, colours = raw.parent, CamVidDataset.METAINFO['palette']
    (raw / 'palettes').mkdir()
    for turn, file in enumerate(sorted((raw / 'masks').iterdir())):
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        order = np.roll(np.arange(11), turn % 3)  # old index of each new one
        picture = Image.fromarray(np.append(np.argsort(order), [255] * 245).astype(np.uint8)[labels], 'P')
        flat = [value for index in order for value in colours[index]]
        picture.putpalette([*flat, *[0] * (768 - len(flat))])
        picture.save(raw / 'palettes' / file.name)
    where = ('--out', out / 'pal', '--config', out / 'pal.py', '--classes', raw / 'label_colors.txt')
    status, printed, _ = call(TOOL, raw / 'images', raw / 'palettes', *where, '--ignore', '0,0,0')
    assert status == 0
    assert 'palettes differ, so the colours are the classes: index 0 is' in printed
    labels = labels_of(out / 'pal.py')
    assert len(labels) == 10
    for name, found in labels.items():
        file = raw / 'masks' / f'{Path(name).stem}.png'
        assert (found == cv2.imread(str(file), cv2.IMREAD_UNCHANGED)).all()


def test_rotated_images_are_noted(call, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[274] = 3
    for folder in ('i', 'm'):
        (tmp_path / folder).mkdir()
    for name in ('a', 'b'):
        Image.new('RGB', (8, 6)).save(tmp_path / 'i' / f'{name}.jpg', exif=tags)
        labels = (np.arange(48).reshape(6, 8) % 2).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / 'm' / f'{name}.png')
    status, printed, _ = call(TOOL, tmp_path / 'i', tmp_path / 'm', '--name', 'x', '--dry-run')
    assert status == 0
    assert 'note: 2 images have an EXIF orientation, such as a.jpg (3), and are rotated' in printed


def test_bad_files_are_skipped_and_named(call, tmp_path: Path, monkeypatch) -> None:
    for folder in ('i', 'm'):
        (tmp_path / folder).mkdir()
        for name in 'abcde':
            labels = (np.arange(48).reshape(6, 8) % 3).astype(np.uint8)
            Image.fromarray(labels).save(tmp_path / folder / f'{name}.png')
    monkeypatch.setattr('PIL.Image.MAX_IMAGE_PIXELS', 1000)
    Image.new('P', (60, 60)).save(tmp_path / 'm' / 'b.png')
    (tmp_path / 'm' / 'a.png').write_bytes(b'')
    (tmp_path / 'i' / 'c.png').write_bytes((tmp_path / 'i' / 'c.png').read_bytes()[:20])
    arguments = (tmp_path / 'i', tmp_path / 'm', '--name', 'x', '--dry-run')
    status, _, error = call(TOOL, *arguments)
    assert status == 1
    assert 'a.png is damaged or not an image' in error
    status, printed, _ = call(TOOL, *arguments, '--skip-bad')
    assert status == 0
    assert '3 of 5 images cannot be used and are skipped' in printed
    assert all(name in printed for name in ('a.png is empty', 'b.png cannot be read', 'c.png cannot be read'))


def test_two_endings_are_read_in_place(call, tmp_path: Path) -> None:
    for folder in ('i', 'm'):
        (tmp_path / folder / 'city').mkdir(parents=True)
    for number in range(4):
        labels = (np.arange(48).reshape(6, 8) % (number + 2)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f'i/city/a_{number}_leftImg8bit.png'), labels)
        cv2.imwrite(str(tmp_path / f'm/city/a_{number}_gtFine_labelIds.png'), labels)
    where = ('--out', tmp_path / 'out', '--config', tmp_path / 'two.py')
    assert call(TOOL, tmp_path / 'i', tmp_path / 'm', *where)[0] == 0
    found = labels_of(tmp_path / 'two.py')
    assert [labels.max() for _, labels in sorted(found.items())] == [1, 2, 3, 4]


def test_paths_in_the_config_are_relative(call, raw: Path, repository: Path, monkeypatch) -> None:
    quickstart = repository / 'configs' / 'quickstart.py'
    monkeypatch.chdir(raw.parent)
    assert call(TOOL, 'raw/images', 'raw/masks', '--name', 'roads', '--base', quickstart)[0] == 0
    config = load_config('configs/roads.py')
    assert all(side % 32 == 0 for side in config.model.data_preprocessor.size)
    assert str(raw.parent) not in Path('configs/roads.py').read_text().replace(str(quickstart), '')


@pytest.mark.parametrize(
    'base',
    [
        'quickstart.py',  # weights and colours of six classes, patches of 16
        'dpt_vit-s14_252x336_camvid_cpu.py',  # weights of eleven classes, no auxiliary head
        'dpt_vit-b16_512x512_160k_ade20k_improved.py',
        'dpt_hybrid_512x512_160k_ade20k.py',
    ],
)
def test_any_config_can_be_the_base(call, repository: Path, base: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # without pretrain/
    for i in range(5):
        for folder in ('images', 'masks'):
            (tmp_path / folder).mkdir(exist_ok=True)
            labels = np.full((360, 480), i % 3, np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / f'{i}.png'), labels)
    file = tmp_path / 'mine.py'
    where = ('--out', tmp_path / 'mine', '--config', file, '--base', base)
    status, printed, _ = call(TOOL, tmp_path / 'images', tmp_path / 'masks', *where)
    assert status == 0
    needs = 'note: the training needs weights: pretrain/'
    assert 'note: 0 (40.0% of the pixels) is used as a class' in printed
    assert (needs in printed) == (base != 'quickstart.py')
    config = load_config(str(file), {'model.backbone.init_cfg': None})
    check_config(config, 'train')
    model = MODELS.build(config.model)
    heads = [model.decode_head, *(model.auxiliary_heads or [])]
    assert [head.num_classes for head in heads] == [3] * len(heads)
    assert len(heads) - 1 == len(
        load_config(str(repository / 'configs' / base)).model.get('auxiliary_heads') or []
    )
    assert (config.model.get('loss') or {}).get('class_weight') is None
    assert set(config.train_dataloader.dataset.metainfo) == {'classes'}
