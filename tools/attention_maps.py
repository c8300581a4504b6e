"""Draw attention maps of the class token, or of a pixel, for each layer in backbone.out_indices.

A second row shows how much the class token changes each patch in the neck's readout. Attention is averaged
over the heads, and each map is scaled from its minimum to its maximum.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/attention_maps.py CONFIG CHECKPOINT image.jpg --pixel 200 310 --out attention.png
"""

import argparse
from pathlib import Path

from dpt.apis import Preparation, init_model
from dpt.cli import add_config_options, one_line_errors
from dpt.extras.attention import attention_maps, draw_maps
from dpt.extras.browse import restore
from dpt.extras.files import check_picture_file, write_picture
from dpt.visualization.overlay import contact_sheet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of dpt or MMSegmentation, path or URL')
    parser.add_argument('image', help='image file')
    parser.add_argument(
        '--pixel',
        type=int,
        nargs=2,
        metavar=('ROW', 'COLUMN'),
        help='pixel to use instead of the class token',
    )
    parser.add_argument('--out', metavar='FILE', type=Path, default=Path('attention.png'))
    parser.add_argument('--device', help='default: the GPU if there is one')
    add_config_options(parser)
    return parser.parse_args()


def scaled(
    pixel: list[int] | None, original: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int] | None:
    """Return the position of a pixel in the resized image."""
    if pixel is None:
        return None
    if not all(0 <= place < length for place, length in zip(pixel, original, strict=True)):
        raise ValueError(f'--pixel {pixel[0]} {pixel[1]} is outside the image of {original[0]}x{original[1]}')
    row, column = (place * new // old for place, old, new in zip(pixel, original, size, strict=True))
    return row, column


def main() -> None:
    with one_line_errors():
        args = parse_args()
        check_picture_file(args.out)
        model = init_model(args.config, args.checkpoint, args.device, args.cfg_options)
        prepared = Preparation(model.cfg)(args.image)
        batch = model.data_preprocessor(
            dict(inputs=[prepared['inputs']], data_samples=[prepared['data_samples']]), training=False
        )
        sample = batch['data_samples'][0]
        pixel = scaled(args.pixel, sample.ori_shape[:2], sample.img_shape[:2])
        maps = attention_maps(model, batch['inputs'], pixel)
        picture = restore(model.data_preprocessor, batch['inputs'][0])
        write_picture(args.out, contact_sheet(draw_maps(picture, maps, pixel), 1 + len(maps)))
        print(f'{args.out}: layers {", ".join(str(one.layer) for one in maps)}')


if __name__ == '__main__':
    main()
