"""Download, check and unpack ADE20K's benchmark, ADEChallengeData2016.zip, and verify the folder.

An interrupted download resumes. The tool checks the archive's SHA-1, its list of files, the CRC of each file
and the sizes of all images. If the folder exists, it is only verified.

Exit status: 0 if the data set is complete, 1 if it is not or on an error, 2 for invalid arguments.

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
from dpt.datasets.ade20k import ARCHIVE, URL, find_full_release
from dpt.extras import ade20k


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--root', type=Path, default=Path('data/ade'), help=f'parent folder of {ARCHIVE} (default: data/ade)'
    )
    parser.add_argument('--archive', type=Path, help='archive downloaded by other means')
    parser.add_argument('--url', default=URL, help=f'download address (default: {URL})')
    parser.add_argument(
        '--sha1',
        default=ade20k.SHA1,
        metavar='HASH',
        help='expected SHA-1, or "any" for a repacked archive (default: the published one)',
    )
    return parser.parse_args()


@contextmanager
def progress_of(what: str) -> Iterator[ade20k.Progress]:
    """Show a progress bar of bytes."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def check(file: Path, sha1: str, *, fetched: bool) -> None:
    try:
        ade20k.check_archive(file)  # first, because its message says what the file is
        if sha1 != 'any':
            with progress_of('SHA-1') as progress:
                ade20k.check_hash(file, sha1, progress)
    except ValueError as error:
        if not fetched:
            raise
        raise ValueError(f'{error}; move {file} away first, or it is used again') from None


def bar(what: str) -> Callable[[Iterable], Iterable]:
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
                    print(f'note: {full} is from the full ADE20K release, which has other labels; not used')
                print(f'{args.url} -> {file}')
                with progress_of('download') as progress:
                    ade20k.download(args.url, file, progress)
            check(file, args.sha1, fetched=not args.archive)
            hashed = '' if args.sha1 == 'any' else f', its SHA-1 is {args.sha1}'
            print(f'{file}: contains all files of the release{hashed}')
            ade20k.unpack(file, args.root, bar('unpack'))
        wrong = ade20k.check_folder(folder, bar('verify'))
        counts = ' and '.join(f'{split.count:,} {name}' for name, split in ade20k.SPLITS.items())
        print('\n'.join(wrong) if wrong else f'{folder}: complete, {counts} images, names and sizes match')
        raise SystemExit(1 if wrong else 0)


if __name__ == '__main__':
    main()
