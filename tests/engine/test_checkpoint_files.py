"""Writing, verifying and finding checkpoint files."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dpt.engine.checkpointing import POINTER, remove_leftovers, write_checkpoint, write_pointer
from dpt.engine.resume import damage, find_resume

CONTENT = dict(state_dict=dict(weight=torch.arange(5000.0), bias=torch.ones(7)), meta=dict(iter=3))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A work directory with checkpoints of three iterations and a pointer to the last."""
    for iteration in (4, 8, 12):
        content = dict(CONTENT, meta=dict(iter=iteration))
        write_checkpoint(content, tmp_path / f'iter_{iteration}.pth')
    write_checkpoint(CONTENT, tmp_path / 'best_mIoU_iter_99.pth')
    write_pointer(tmp_path, tmp_path / 'iter_12.pth')
    return tmp_path


def test_a_written_file_is_complete_and_passes_zipfile_verification(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'iter_3.pth'
    write_checkpoint(CONTENT, path)
    assert torch.equal(torch.load(path, weights_only=True)['state_dict']['weight'], torch.arange(5000.0))
    assert [file.name for file in path.parent.iterdir()] == ['iter_3.pth']
    assert damage(path) is None
    subprocess.run([sys.executable, '-m', 'zipfile', '-t', str(path)], check=True, stdout=subprocess.DEVNULL)


def test_changed_bytes_are_detected_as_damage(tmp_path: Path) -> None:
    path = tmp_path / 'iter_3.pth'
    write_checkpoint(CONTENT, path)
    content, random = path.read_bytes(), np.random.default_rng(0)
    found = 0
    for place in random.integers(0, len(content), 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        if damage(path) is not None:
            found += 1
            continue
        # Undetected changes are in bytes that loading ignores, such as padding.
        loaded = torch.load(path, weights_only=True)
        assert loaded['meta'] == CONTENT['meta']
        for key, tensor in CONTENT['state_dict'].items():
            assert torch.equal(loaded['state_dict'][key], tensor)
    assert found > 150


@pytest.mark.parametrize('kept', [0.0, 0.3, 0.99])
def test_a_truncated_file_is_damage(tmp_path: Path, kept: float) -> None:
    path = tmp_path / 'iter_3.pth'
    write_checkpoint(CONTENT, path)
    os.truncate(path, int(path.stat().st_size * kept))
    assert 'empty' in damage(path) or 'truncated' in damage(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    code = (
        'import resource, torch; from pathlib import Path; '
        'from dpt.engine.checkpointing import write_checkpoint; '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); '
        f'path = Path({str(tmp_path / "iter_3.pth")!r}); '
        'write_checkpoint(dict(a=torch.ones(9)), path); write_checkpoint(dict(a=torch.ones(99_000)), path)'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'iter_3.pth: the checkpoint could not be written ([Errno 27] File too large' in result.stderr
    assert 'continue with --resume' in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ['iter_3.pth']
    assert torch.load(tmp_path / 'iter_3.pth', weights_only=True)['a'].tolist() == [1.0] * 9


def test_leftovers_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    path = tmp_path / 'iter_3.pth'
    write_checkpoint(CONTENT, path)
    code = (
        'import time, torch; from pathlib import Path; from dpt.files import whole_file\n'
        f'with whole_file(Path({str(path)!r})) as file:\n'
        '    file.write(b"half"); file.flush(); time.sleep(60)'
    )
    writer = subprocess.Popen([sys.executable, '-c', code])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) == 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    writer.kill()
    writer.wait()
    assert damage(path) is None
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ['iter_3.pth']


def test_the_pointer_survives_a_move(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert (run / POINTER).read_text() == 'iter_12.pth'
    moved = tmp_path_factory.mktemp('moved') / 'run'
    run.rename(moved)
    assert find_resume(str(moved)) == (str(moved / 'iter_12.pth'), ())


def test_checkpoints_in_another_folder_are_found(run: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / 'work'
    write_pointer(work_dir, run / 'iter_12.pth')
    assert (work_dir / POINTER).read_text() == '../iter_12.pth'
    os.truncate(run / 'iter_12.pth', 100)
    assert Path(find_resume(str(work_dir))[0]).samefile(run / 'iter_8.pth')


def test_damaged_files_are_skipped_and_named(run: Path) -> None:
    os.truncate(run / 'iter_12.pth', 100)
    content = bytearray((run / 'iter_8.pth').read_bytes())
    content[content.index(torch.arange(5000.0).numpy().tobytes()) + 7] ^= 1
    (run / 'iter_8.pth').write_bytes(content)
    path, skipped = find_resume(str(run))
    assert path == str(run / 'iter_4.pth')
    assert 'iter_12.pth: it is truncated' in skipped[0]
    assert 'iter_8.pth: the checksum of' in skipped[1]
    with pytest.raises(ValueError, match='iter_12.pth: it is truncated'):
        find_resume(str(run), str(run / 'iter_12.pth'))
    (run / 'iter_4.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='no valid checkpoint.*iter_12.*iter_8.*iter_4.pth: it is empty'):
        find_resume(str(run))


def test_a_checkpoint_without_pointer_is_found(run: Path) -> None:
    (run / POINTER).unlink()
    assert find_resume(str(run))[0] == str(run / 'iter_12.pth')
    (run / 'iter_12.pth').unlink()
    write_pointer(run, run / 'iter_12.pth')
    path, skipped = find_resume(str(run))
    assert path == str(run / 'iter_8.pth')
    assert 'iter_12.pth: it does not exist' in skipped[0]


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        find_resume(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='this checkpoint does not exist'):
        find_resume(str(tmp_path), 'gone.pth')
    write_checkpoint(CONTENT, tmp_path / 'best_mIoU_iter_9.pth')  # weights only
    with pytest.raises(FileNotFoundError, match='nothing to resume'):
        find_resume(str(tmp_path))


def test_a_foreign_zip_file_is_skipped(run: Path) -> None:
    with zipfile.ZipFile(run / 'iter_50.pth', 'w') as archive:
        archive.writestr('a', 'b')
    assert find_resume(str(run))[0] == str(run / 'iter_12.pth')
