"""Write the masks of Pascal Context from PASCAL in Detail; needs pycocotools (pip install -e '.[data]').

Exit status: 0 if done, 1 for a mistake, 2 for a wrong argument.

Example:
    python tools/dataset_converters/pascal_context.py data/VOCdevkit/VOC2010
"""

import argparse
from pathlib import Path

from rich.progress import track

from dpt.cli import one_line_errors
from dpt.extras.conversion import pascal_context


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('voc', type=Path, help='folder VOC2010, with JPEGImages/')
    parser.add_argument('--json', type=Path, help=f'annotations (default: {pascal_context.JSON} in VOC)')
    args = parser.parse_args()
    with one_line_errors():
        images, annotations = pascal_context.read_annotations(args.json or args.voc / pascal_context.JSON)
        for image in track(images, 'masks'):
            pascal_context.convert(image, annotations[image['image_id']], args.voc)
        counts = pascal_context.write_split_files(args.voc, images)
        for phase, count in counts.items():
            print(f'{phase}: {count} of {pascal_context.COUNTS[phase]} masks')


if __name__ == '__main__':
    main()
