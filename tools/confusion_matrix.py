"""Draw the confusion matrix and the IoU of each class, and print the most frequent confusions.

It reads a file written by tools/test.py --scores and does not run the model.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/test.py CONFIG CHECKPOINT --scores scores.npz
    python tools/confusion_matrix.py scores.npz --out confusion.png --iou-out iou.png
"""

import argparse
from pathlib import Path

from dpt.cli import one_line_errors
from dpt.evaluation import Scores, segmentation_metrics
from dpt.extras.files import check_figure_file
from dpt.extras.report.figures import NORMALIZED, draw_class_bars, draw_confusion, worst_confusions


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scores', metavar='SCORES', help='.npz file written by tools/test.py --scores')
    parser.add_argument('--out', metavar='FILE', type=Path, help='picture of the confusion matrix')
    parser.add_argument('--iou-out', metavar='FILE', type=Path, help='picture of the IoU of each class')
    parser.add_argument(
        '--normalize',
        choices=tuple(NORMALIZED),
        default='truth',
        help='which counts add up to 100 %% (default: truth)',
    )
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        for path in filter(None, (args.out, args.iou_out)):
            check_figure_file(path)
        scores = Scores.load(args.scores)
        iou = 100 * segmentation_metrics(scores.confusion, left_out=scores.left_out)['IoU']
        print(f'{"ground truth":<24}{"predicted as":<24}{"% of class":>12}{"% of errors":>12}')
        for truth, prediction, of_truth, of_errors in worst_confusions(scores.confusion, scores.classes):
            print(f'{truth:<24.23}{prediction:<24.23}{of_truth:>12.2f}{of_errors:>12.2f}')
        if args.out:
            draw_confusion(scores.confusion, scores.classes, args.normalize).savefig(args.out, dpi=120)
        if args.iou_out:
            draw_class_bars(scores.classes, iou.tolist()).savefig(args.iou_out, dpi=120)


if __name__ == '__main__':
    main()
