"""Write the 19 train ids of Cityscapes beside its published masks of label ids.

Exit status: 0 if done, 1 for a mistake, 2 for a wrong argument.

Example:
    python tools/dataset_converters/cityscapes.py data/cityscapes
"""

import argparse
from pathlib import Path

from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.conversion import cityscapes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder with leftImg8bit/ and gtFine/')
    parser.add_argument('--gt-dir', default='gtFine', help='folder of masks in it (default: gtFine)')
    args = parser.parse_args()
    with one_line_errors():
        sources = cityscapes.find_sources(args.root, args.gt_dir)
        for source in track(sources, 'train ids'):
            cityscapes.convert(source)
        for split, expected in cityscapes.COUNTS.items():
            count = sum(source.parent.parent.name == split for source in sources)
            print(f'{split}: {count} masks' + (f' of {expected}' if args.gt_dir == 'gtFine' else ''))


if __name__ == '__main__':
    main()
