"""Write a self-contained HTML report of a training: curves, classes, images and config.

Scores and images are those that a test wrote to the work directory:

    python tools/test.py CONFIG CHECKPOINT --scores WORK_DIR/scores.npz --show-dir WORK_DIR/show

With --watch, a page of a training that runs is written anew, and the browser reloads it, until the training
ends. It shows the time left.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/report.py work_dirs/quickstart --out report.html
    python tools/report.py work_dirs/quickstart --watch 30
"""

import argparse
import time
from pathlib import Path

from dpt.cli import one_line_errors
from dpt.engine.work_dir import is_in_use
from dpt.extras.report.page import make_report, waiting_page
from dpt.files import write_whole


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', metavar='WORK_DIR', help='work directory of a training')
    parser.add_argument('--out', metavar='FILE', type=Path, help='default: WORK_DIR/report.html')
    parser.add_argument('--scores', metavar='FILE.npz', help='default: WORK_DIR/scores.npz, if it exists')
    parser.add_argument('--pictures', metavar='DIR', help='default: WORK_DIR/show')
    parser.add_argument(
        '--number', type=int, default=5, help='number of worst and of best images (default: 5)'
    )
    parser.add_argument(
        '--watch', type=int, metavar='SECONDS', help='write it anew until the training of train.py ends'
    )
    return parser.parse_args()


def watch(work_dir: str, out: Path, seconds: int, number: int) -> None:
    """Write the report every so many seconds while a training runs in ``work_dir``, and when it has ended.

    Raises:
        FileNotFoundError, ValueError: As :func:`make_report`, when the training has ended.
    """
    print(f'{out}: open it in a browser; written every {seconds} s until the training ends', flush=True)
    while running := is_in_use(work_dir):
        try:
            page = make_report(work_dir, number=number, refresh=seconds)
        except (FileNotFoundError, ValueError) as error:  # before the first line of the log
            page = waiting_page(str(error), seconds)
        write_whole(page.encode(), out)
        until = time.monotonic() + seconds
        while running and time.monotonic() < until:
            time.sleep(1)
            running = is_in_use(work_dir)
    write_whole(make_report(work_dir, number=number).encode(), out)
    print('no training runs here: this is its last report')


def main() -> None:
    with one_line_errors():
        args = parse_args()
        if args.number < 0:
            raise ValueError(f'--number {args.number}: must be 0 or more')
        if args.watch is not None and args.watch < 1:
            raise ValueError(f'--watch {args.watch}: must be 1 or more seconds')
        out = args.out or Path(args.work_dir, 'report.html')
        if not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out}: the folder does not exist')
        if args.watch:
            watch(args.work_dir, out, args.watch, args.number)
            return
        page = make_report(args.work_dir, scores_file=args.scores, pictures=args.pictures, number=args.number)
        out.write_text(page, encoding='utf-8')
        print(f'{out}: {out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
