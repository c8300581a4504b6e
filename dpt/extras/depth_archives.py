"""Unpack the pairs of image and depth that split files list from archives, and report what is missing."""

import shutil
import stat
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import track

from dpt.datasets.depth import NO_DEPTH, KITTIDataset, NYUDataset
from dpt.datasets.text import text_lines


@dataclass(frozen=True)
class Release:
    """Where the files of a published data set are, in its archives and in its folder.

    Args:
        name: Name of the data set.
        splits: Number of pairs of image and depth by split file.
        folders: Folders of images and depth below the root.
        target_of: Returns the path below the root for a file in an archive, or None to leave it out.
        part_of: Returns the archive that contains a path of a split file.
        sources: Where the archives and the split files are published, a line each.
    """

    name: str
    splits: Mapping[str, int]
    folders: tuple[str, str]
    target_of: Callable[[str], str | None]
    part_of: Callable[[str], str]
    sources: tuple[str, ...]


SPLITS_URL = 'https://github.com/zhyever/Monocular-Depth-Estimation-Toolbox/tree/main/splits'


def _nyu_target(name: str) -> str | None:
    """``.../kitchen_0028b/rgb_00045.jpg`` becomes ``kitchen_0028b/rgb_00045.jpg``."""
    parts = PurePosixPath(name).parts[-2:]
    return '/'.join(parts) if len(parts) == 2 and parts[1].startswith(('rgb_', 'sync_depth_')) else None


NYU = Release(
    name='NYUv2',
    splits=NYUDataset.SPLITS,
    folders=('', ''),
    target_of=_nyu_target,
    part_of=lambda name: 'nyu.zip (training and test) or sync.zip (training)',
    sources=(
        'nyu.zip with training and test: https://drive.google.com/file/d/1wC-io-14RCIL4XTUrQLk6lBqU2AexLVp '
        '(Monocular-Depth-Estimation-Toolbox, docs/dataset_prepare.md)',
        'sync.zip with training only, of BTS: '
        'https://drive.google.com/file/d/1AysroWpfISmm-yRFGBgFTrLy6FjQwvwP',
        f'nyu_train.txt and nyu_test.txt: {SPLITS_URL}',
    ),
)


def _kitti_target(name: str) -> str | None:
    """Images go below ``input``, depth below ``gt_depth`` without ``train`` or ``val``."""
    parts = PurePosixPath(name).parts
    if 'proj_depth' in parts:
        return '/'.join(('gt_depth', *parts[parts.index('proj_depth') - 1 :]))
    if 'data' in parts and parts.index('data') >= 3:
        return '/'.join(('input', *parts[parts.index('data') - 3 :]))
    return None


KITTI = Release(
    name='KITTI',
    splits=KITTIDataset.SPLITS,
    folders=('input', 'gt_depth'),
    target_of=_kitti_target,
    part_of=lambda name: 'data_depth_annotated.zip' if 'proj_depth' in name else f'{name.split("/")[1]}.zip',
    sources=(
        'raw data, a zip for each drive (synced+rectified): '
        'https://www.cvlibs.net/datasets/kitti/raw_data.php, '
        'such as https://s3.eu-central-1.amazonaws.com/avg-kitti/raw_data/2011_09_26_drive_0001/'
        '2011_09_26_drive_0001_sync.zip',
        'depth, data_depth_annotated.zip: '
        'https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction',
        f'kitti_eigen_train.txt and kitti_eigen_test.txt: {SPLITS_URL}',
    ),
)


def read_pairs(file: Path) -> list[tuple[str, str]]:
    """Return the image and the depth file of each line of a split file, without those that have no depth.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a line is not ``IMAGE DEPTH [FOCAL LENGTH]``, or a path leaves the folder.
    """
    if not file.is_file():
        raise FileNotFoundError(f'split file {file} does not exist')
    pairs = []
    for line in text_lines(file.read_bytes(), f'split file {file}'):
        fields = line.split()
        if len(fields) not in (2, 3):
            raise ValueError(f'split file {file} has the line {line!r}: expected IMAGE DEPTH [FOCAL LENGTH]')
        image, depth = (field.lstrip('/') for field in fields[:2])
        for path in (image, depth):
            if not _is_safe(path):
                raise ValueError(f'split file {file} has the path {path!r}, which leaves the folder')
        if depth != NO_DEPTH:
            pairs.append((image, depth))
    return pairs


def _is_safe(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and '..' not in PurePosixPath(path).parts and ':' not in path


def listed_files(release: Release, root: Path) -> set[str]:
    """Return the paths below the root that the split files in it list."""
    files = [root / name for name in release.splits if (root / name).is_file()]
    return {
        str(PurePosixPath(folder, name))
        for file in files
        for pair in read_pairs(file)
        for folder, name in zip(release.folders, pair, strict=True)
    }


def unpack_listed(
    archive: Path,
    root: Path,
    release: Release,
    wanted: set[str],
    progress: Callable[[Iterable], Iterable] = iter,
) -> int:
    """Unpack the wanted files of a zip archive that do not exist yet; each is complete or absent.

    Args:
        archive: The archive.
        root: Folder of the data set.
        release: The data set.
        wanted: Paths below ``root``.
        progress: Wraps the entries to show progress.

    Returns:
        Number of unpacked files.

    Raises:
        FileNotFoundError: If the archive does not exist.
        ValueError: If it is not a zip file, or an entry is damaged.
    """
    if not archive.is_file():
        raise FileNotFoundError(f'archive {archive} does not exist')
    count = 0
    try:
        with zipfile.ZipFile(archive) as content:
            for entry in progress(content.infolist()):
                target = None if entry.is_dir() or _is_link(entry) else release.target_of(entry.filename)
                if target is None or target not in wanted or (root / target).exists():
                    continue
                _extract(content, entry, root / target)
                count += 1
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f'{archive} is not a complete zip file ({error}): download it again') from error
    return count


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{uuid.uuid4().hex}.partial')
    try:
        with content.open(entry) as source, partial.open('wb') as file:
            shutil.copyfileobj(source, file)  # checks the CRC at the end
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def compare(root: Path, release: Release) -> tuple[list[str], list[str]]:
    """Compare a folder with the published splits; return what is complete and what is missing."""
    complete, missing = [], []
    for name, published in release.splits.items():
        if not (root / name).is_file():
            missing.append(f'{name}: not in {root}')
            continue
        pairs = read_pairs(root / name)
        if len(pairs) != published:
            missing.append(f'{name}: lists {len(pairs):,} pairs, but the published file {published:,}')
        absent = list(_absent(root, pairs, release.folders))
        if not absent:
            complete.append(f'{name}: all files of {len(pairs):,} pairs exist')
        for kind in ('image', 'depth'):
            names = [file for what, file in absent if what == kind]
            if names:
                parts = Counter(release.part_of(file) for file in names)
                listed = ', '.join(f'{part} ({count:,})' for part, count in parts.most_common(5))
                more = f' and {len(parts) - 5} more' if len(parts) > 5 else ''
                missing.append(
                    f'{name}: {len(names):,} of {len(pairs):,} {kind} files are missing, such as {names[0]}; '
                    f'they are in {listed}{more}'
                )
    return complete, missing


def _absent(
    root: Path, pairs: Sequence[tuple[str, str]], folders: tuple[str, str]
) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        for kind, name, folder in zip(('image', 'depth'), pair, folders, strict=True):
            if not (root / folder / name).is_file():
                yield kind, name


def prepare(
    release: Release, root: Path, archives: Sequence[Path], progress: Callable[[Iterable], Iterable] = iter
) -> tuple[list[str], list[str]]:
    """Unpack what the split files list from archives, and compare the folder with the release.

    Args:
        release: The data set.
        root: Its folder, with the split files.
        archives: Zip files, and folders of zip files.
        progress: Wraps the entries of an archive to show progress.

    Returns:
        What was done or is complete, and what is missing, a line each.
    """
    done = []
    files = [file for one in archives for file in (sorted(one.glob('*.zip')) if one.is_dir() else [one])]
    wanted = listed_files(release, root) if files else set()
    if files and not wanted:
        raise ValueError(
            f'{root} has no split file, without which nothing is unpacked: put '
            f'{" and ".join(release.splits)} there; {release.sources[-1]}'
        )
    for file in files:
        count = unpack_listed(file, root, release, wanted, progress)
        done.append(f'{file}: unpacked {count:,} files')
    complete, missing = compare(root, release)
    if missing:
        missing += [f'see {source}' for source in release.sources]
    return done + complete, missing


def run(release: Release, root: Path, archives: Sequence[Path]) -> int:
    """Prepare a data set and print the result; return 1 if it is incomplete."""

    def bar(entries: Iterable) -> Iterable:
        console = Console(stderr=True)
        return track(list(entries), 'unpack', console=console, disable=not sys.stderr.isatty())

    done, missing = prepare(release, root, archives, bar)
    print('\n'.join([*done, *missing]))
    return 1 if missing else 0
