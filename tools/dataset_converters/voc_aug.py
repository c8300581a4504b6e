"""Add the masks of the Semantic Boundaries Dataset (SBD) to PASCAL VOC 2012.

Needs scipy: pip install -e '.[data]'.

Exit status: 0 if done, 1 for a mistake, 2 for a wrong argument.

Example:
    python tools/dataset_converters/voc_aug.py data/VOCdevkit/VOC2012 data/VOCaug
"""

import argparse
from pathlib import Path

from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.conversion import pascal_voc


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('voc', type=Path, help='folder VOC2012, with JPEGImages/')
    parser.add_argument('sbd', type=Path, help="SBD's folder, unpacked, with dataset/cls/*.mat")
    args = parser.parse_args()
    with one_line_errors():
        sources = pascal_voc.find_sources(args.sbd)
        for source in track(sources, 'masks'):
            pascal_voc.convert(source, args.voc)
        counts = pascal_voc.write_split_files(args.voc, args.sbd)
        print(f'{len(sources)} masks; ' + ', '.join(f'{name}: {count}' for name, count in counts.items()))
        if counts['trainaug.txt'] != pascal_voc.AUGMENTED:
            print(f'note: the complete data sets give {pascal_voc.AUGMENTED} training images (trainaug.txt)')


if __name__ == '__main__':
    main()
