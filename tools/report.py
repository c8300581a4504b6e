"""Write a self-contained HTML report of a training: curves, classes, images and config.

Scores and images are those that a test wrote to the work directory:

    python tools/test.py CONFIG CHECKPOINT --scores WORK_DIR/scores.npz --show-dir WORK_DIR/show

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/report.py work_dirs/quickstart --out report.html
"""

import argparse
from pathlib import Path

from dpt.cli import one_line_errors
from dpt.extras.report.page import make_report


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
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        if args.number < 0:
            raise ValueError(f'--number {args.number}: must be 0 or more')
        out = args.out or Path(args.work_dir, 'report.html')
        if not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out}: the folder does not exist')
        page = make_report(args.work_dir, scores_file=args.scores, pictures=args.pictures, number=args.number)
        out.write_text(page, encoding='utf-8')
        print(f'{out}: {out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
