"""Get ADE20K's benchmark, ADEChallengeData2016.zip: download it, check it, unpack it, verify what is there.

A download that was cut off goes on where it ended. The archive's SHA-1, its list of files, the CRC of each
and the sizes of all images are compared. A folder that is there already is verified only.

Exit status: 0 if the data set is complete, 1 if not or for a mistake, 2 for a wrong argument.

Example:
    python tools/prepare_ade20k.py --root data/ade
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, track

from dpt.cli import one_line_errors
from dpt.extras.ade20k import archive
from dpt.datasets.ade20k import URL, find_full_release
from dpt.extras.ade20k.archive import check_archive, check_folder, check_hash, download, unpack
from dpt.extras.ade20k.release import ARCHIVE


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--root', type=Path, default=Path('data/ade'), help=f'folder that gets {ARCHIVE} (default: data/ade)'
    )
    parser.add_argument('--archive', type=Path, help='a file fetched by other means')
    parser.add_argument('--url', default=URL, help=f'another address (default: {URL})')
    parser.add_argument(
        '--sha1',
        default=archive.SHA1,
        metavar='HASH',
        help='SHA-1 that it must have, any for an archive packed anew (default: the published)',
    )
    return parser.parse_args()


@contextmanager
def progress_of(what: str) -> Iterator[archive.Told]:
    """Show bytes that are done."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def fetch(url: str, target: Path) -> Path:
    print(f'{url} -> {target}')
    with progress_of('download') as told:
        return download(url, target, told)


def check(file: Path, sha1: str, *, fetched: bool) -> None:
    try:
        check_archive(file)  # first: it knows what else a file may be
        if sha1 != 'any':
            with progress_of('SHA-1') as told:
                check_hash(file, sha1, told)
    except ValueError as error:
        if not fetched:
            raise
        raise ValueError(f'{error}; before that, move {file} away, else it is taken again') from None


def shown(what: str) -> Callable[[Iterable], Iterable]:
    return lambda items: track(items, what, console=Console(stderr=True), disable=not sys.stderr.isatty())


def main() -> None:
    with one_line_errors():
        args = parse_args()
        folder = args.root / ARCHIVE
        if not folder.exists():
            file = args.archive or args.root / f'{ARCHIVE}.zip'
            if not args.archive and not file.exists():
                full = find_full_release(folder)
                if full is not None:
                    print(
                        f'note: {full} is of the full ADE20K release, which has other labels and is not used'
                    )
                fetch(args.url, file)
            check(file, args.sha1, fetched=not args.archive)
            hashed = '' if args.sha1 == 'any' else f', its SHA-1 is {args.sha1}'
            print(f'{file}: the files of the release are all in it{hashed}')
            unpack(file, args.root, shown('unpack'))
        wrong = check_folder(folder, shown('verify'))
        counts = ' and '.join(f'{split.count:,} {name}' for name, split in archive.FOLDERS.items())
        print('\n'.join(wrong) if wrong else f'{folder}: complete, {counts} images, names and sizes fit')
        raise SystemExit(1 if wrong else 0)


if __name__ == '__main__':
    main()
