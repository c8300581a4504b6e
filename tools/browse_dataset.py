"""Draw samples and labels or depth as the network receives them, after augmentation and preprocessing.

For the training split, these are the first samples of a run with that seed; for the other splits, they are
spread evenly over the data set. Red, green and blue are the channels in the network's order.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/browse_dataset.py configs/quickstart.py --number 16 --out seen.png
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from dpt.cli import add_config_options, one_line_errors
from dpt.config.load import load_config
from dpt.engine.sampling import Draw, InfiniteSampler, SeededDataset
from dpt.extras.browse import browse
from dpt.extras.files import check_picture_file, write_picture
from dpt.registry import MODELS
from dpt.visualization.hook import spread


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, default=12, help='number of samples (default: 12)')
    parser.add_argument(
        '--out', metavar='FILE', type=Path, default=Path('browse.png'), help='picture (default: browse.png)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of order and augmentation (default: 0)')
    add_config_options(parser)
    return parser.parse_args()


def draws(dataset: SeededDataset, split: str, number: int, seed: int) -> Iterator[Draw]:
    """Yield the index and augmentation seed of each sample to draw."""
    if split == 'train':
        yield from islice(InfiniteSampler(dataset, shuffle=True, seed=seed), number)
    else:
        yield from (Draw(index, seed) for index in sorted(spread(len(dataset), number)))


def open_split(config: Config, split: str) -> SeededDataset:
    loader = config.get(f'{split}_dataloader')
    if not loader:
        raise ValueError(f'the config has no {split}_dataloader')
    dataset = SeededDataset(loader['dataset'])
    dataset.full_init()
    return dataset


def main() -> None:
    with one_line_errors():
        args = parse_args()
        if args.number < 1:
            raise ValueError(f'--number {args.number}: must be 1 or more')
        check_picture_file(args.out)
        config = load_config(args.config, args.cfg_options)
        init_default_scope(config.get('default_scope', 'dpt'))
        dataset = open_split(config, args.split)
        meta = dataset.metainfo
        sheet = browse(
            (dataset[draw] for draw in draws(dataset, args.split, args.number, args.seed)),
            MODELS.build(config.model.data_preprocessor),
            meta.get('classes') or (),
            meta.get('palette'),
            training=args.split == 'train',
            unit='' if (config.model.get('decode_head') or {}).get('relative') else 'm',
        )
        write_picture(args.out, sheet)
        print(f'{args.out}: {sheet.shape[1]}x{sheet.shape[0]} pixels')


if __name__ == '__main__':
    main()
