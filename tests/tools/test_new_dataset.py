"""``tools/new_dataset.py`` on CamVid in raw form, and its config in the tools that follow."""

from pathlib import Path

import cv2
import numpy as np
import pytest

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
def test_any_config_can_be_the_base(call, repository: Path, base: str, tmp_path: Path) -> None:
    for i in range(5):
        for folder in ('images', 'masks'):
            (tmp_path / folder).mkdir(exist_ok=True)
            labels = np.full((360, 480), i % 3, np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / f'{i}.png'), labels)
    file = tmp_path / 'mine.py'
    where = ('--out', tmp_path / 'mine', '--config', file, '--base', repository / 'configs' / base)
    assert call(TOOL, tmp_path / 'images', tmp_path / 'masks', *where)[0] == 0
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
