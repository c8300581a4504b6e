"""``tools/check_data.py`` as a user runs it."""

import json
import shutil
from pathlib import Path


def test_camvid_is_sound(call, camvid_root: Path, tmp_path: Path) -> None:
    options = ('--workers', 2, '--json', tmp_path / 'found.json', '--cfg-options', f'data_root={camvid_root}')
    status, printed, _ = call('check_data', 'dpt_vit-s14_364x476_4k_camvid.py', *options)
    assert status == 0
    assert printed.endswith('no faults found\n')
    found = json.loads((tmp_path / 'found.json').read_text())
    assert [one['images'] for one in found] == [367, 101, 233]
    assert [row['name'] for row in found[0]['labels']][:2] == ['sky', 'building']
    assert sum(row['pixels'] for row in found[1]['labels']) == 101 * 360 * 480


def test_a_part_of_ade20k_is_called_that(call, ade_sample_root: Path, tmp_path: Path) -> None:
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        shutil.copytree(ade_sample_root / kind / 'validation', tmp_path / kind / 'validation')
        assert len(list((tmp_path / kind / 'validation').glob(f'*.{suffix}'))) == 3
    options = ('--workers', 0, '--cfg-options', f'data_root={tmp_path}')
    status, printed, _ = call('check_data', 'dpt_vit-b16_512x512_160k_ade20k.py', *options)
    assert status == 1
    assert '1997 of 2,000 images are missing, the first ADE_val_00000004.jpg' in printed
    assert 'ADE20K not found' in printed  # the training images
    assert 'val_dataloader, test_dataloader: 3 images' in printed
