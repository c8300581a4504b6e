"""Compare training logs in a table; optionally plot loss, learning rate, score and speed.

The sessions of a resumed training are joined. The table shows the mean loss of the last ten log lines and the
median speed.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/analyze_logs.py work_dirs/first work_dirs/second --out curves.png
"""

import argparse
from pathlib import Path

from dpt.cli import one_line_errors
from dpt.extras.files import check_figure_file
from dpt.extras.logs import read_run, table
from dpt.extras.report.figures import draw_curves


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory or vis_data/scalars.json')
    parser.add_argument('--out', metavar='FILE', type=Path, help='figure to write: .png, .pdf, .svg, ...')
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        if args.out:
            check_figure_file(args.out)
        runs = [read_run(path) for path in args.runs]
        print(table(runs))
        if args.out:
            draw_curves(runs).savefig(args.out, dpi=120)


if __name__ == '__main__':
    main()
