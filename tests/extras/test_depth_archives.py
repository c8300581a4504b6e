"""Prepare NYUv2 and KITTI from small stand-ins of their archives."""

import zipfile
from pathlib import Path

import pytest

from dpt.datasets import KITTIDataset, NYUDataset
from dpt.extras import depth_archives

NYU_PAIR = ('kitchen_0028b/rgb_00045.jpg', 'kitchen_0028b/sync_depth_00045.png')
DRIVE = '2011_09_26_drive_0002_sync'
KITTI_PAIR = (
    f'2011_09_26/{DRIVE}/image_02/data/0000000069.png',
    f'{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png',
)


@pytest.fixture(autouse=True)
def _small_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs for training, one for testing."""
    for release in (NYUDataset.SPLITS, KITTIDataset.SPLITS):
        for name, count in zip(list(release), (2, 1), strict=True):
            monkeypatch.setitem(release, name, count)


def make_zip(path: Path, names: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, name.encode())
    return path


def write_splits(root: Path, prefix: str, pair: tuple[str, str]) -> None:
    root.mkdir()
    other = [name.replace('69', '70').replace('45', '46') for name in pair]
    (root / f'{prefix}train.txt').write_text('{} {} 721.5\n{} {} 721.5\n'.format(*pair, *other))
    (root / f'{prefix}test.txt').write_text('/{} /{} 721.5\n{} None 721.5\n'.format(*pair, other[0]))


def test_nyu_is_unpacked_and_compared(tmp_path: Path, tool_main, capsys) -> None:
    root, tool = tmp_path / 'nyu', tool_main('tools/prepare_nyu.py')
    assert tool('--root', root) == 1
    shown = capsys.readouterr().out
    assert f'nyu_train.txt: not in {root}' in shown
    assert 'see nyu.zip with training and test: https://' in shown
    write_splits(root, 'nyu_', NYU_PAIR)
    sync = make_zip(tmp_path / 'sync.zip', ['sync/' + name for name in (*NYU_PAIR, 'other/rgb_00000.jpg')])
    assert tool('--root', root, '--archive', sync) == 1
    shown = capsys.readouterr().out
    assert f'{sync}: unpacked 2 files' in shown
    assert 'nyu_test.txt: all files of 1 pairs exist' in shown
    assert 'nyu_train.txt: 1 of 2 image files are missing, such as kitchen_0028b/rgb_00046.jpg' in shown
    assert not (root / 'other').exists()
    for name in NYU_PAIR:
        file = root / name.replace('45', '46')
        file.write_bytes(b'x')
    assert tool('--root', root, '--archive', sync) == 0
    assert f'{sync}: unpacked 0 files' in capsys.readouterr().out
    assert len(NYUDataset('nyu_train.txt', data_root=str(root))) == 2


def test_kitti_names_the_archives_of_missing_drives(tmp_path: Path, tool_main, capsys) -> None:
    root, tool = tmp_path / 'kitti', tool_main('tools/prepare_kitti.py')
    write_splits(root, 'kitti_eigen_', KITTI_PAIR)
    other = [name.replace('69', '70') for name in KITTI_PAIR]
    depth = make_zip(
        tmp_path / 'data_depth_annotated.zip', [f'train/{KITTI_PAIR[1]}', f'val/{other[1]}', 'val/x.txt']
    )
    assert tool('--root', root, '--archive', depth) == 1
    shown = capsys.readouterr().out
    assert f'{depth}: unpacked 2 files' in shown
    assert f'kitti_eigen_train.txt: 2 of 2 image files are missing, such as {KITTI_PAIR[0]}' in shown
    assert f'they are in {DRIVE}.zip (2)' in shown
    make_zip(
        tmp_path / 'raw' / f'{DRIVE}.zip', [KITTI_PAIR[0], other[0], f'2011_09_26/{DRIVE}/oxts/data/0.txt']
    )
    assert tool('--root', root, '--archive', tmp_path / 'raw') == 0
    assert (root / 'input' / KITTI_PAIR[0]).is_file()
    assert (root / 'gt_depth' / KITTI_PAIR[1]).is_file()
    assert len(KITTIDataset('kitti_eigen_test.txt', data_root=str(root))) == 1


@pytest.mark.parametrize(
    ('content', 'archive', 'words'),
    [
        (
            None,
            'a.zip',
            'has no split file, without which nothing is unpacked: put nyu_train.txt',
        ),
        ('a b\n../x y', 'a.zip', "nyu_train.txt has the path '../x', which leaves the folder"),
        ('a', 'a.zip', "has the line 'a': expected IMAGE DEPTH"),
        ('a b', 'noise.zip', 'noise.zip is not a complete zip file'),
        ('a b', 'absent.zip', 'absent.zip does not exist'),
    ],
)
def test_mistakes_are_one_line(tmp_path, tool_main, capsys, content, archive, words) -> None:
    make_zip(tmp_path / 'a.zip', [])
    (tmp_path / 'noise.zip').write_bytes(b'noise')
    (tmp_path / 'nyu').mkdir()
    if content is not None:
        (tmp_path / 'nyu' / 'nyu_train.txt').write_text(content)
    tool = tool_main('tools/prepare_nyu.py')
    assert tool('--root', tmp_path / 'nyu', '--archive', tmp_path / archive) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.replace('(set DPT_TRACEBACK=1 to see the traceback)', '').strip().splitlines()) == 1


def test_damaged_entries_are_not_kept(tmp_path: Path) -> None:
    write_splits(tmp_path / 'nyu', 'nyu_', NYU_PAIR)
    file = make_zip(tmp_path / 'a.zip', [NYU_PAIR[0]])
    content = bytearray(file.read_bytes())
    at = content.index(NYU_PAIR[0].encode(), 40)  # the content, after the name of the entry
    content[at] ^= 255
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.zip is not a complete zip file'):
        depth_archives.prepare(depth_archives.NYU, tmp_path / 'nyu', [file])
    assert not [one for one in (tmp_path / 'nyu').rglob('*') if one.is_file() and one.suffix != '.txt']
