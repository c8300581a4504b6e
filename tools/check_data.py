"""Read all images, masks and depth files of a config before training; report statistics and faults.

Exit status: 0 if no faults were found, 1 if there are faults or on an error, 2 for invalid arguments.

Example:
    python tools/check_data.py configs/dpt_vit-b16_512x512_160k_ade20k.py --workers 8
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dpt.cli import add_config_options, one_line_errors
from dpt.config.load import load_config
from dpt.config.walk import DATALOADERS, innermost_datasets
from dpt.extras.check_data import as_dict, check_dataset, judge_overlap, render
from dpt.extras.read_samples import Record

LINE_EVERY = 30
"""Seconds between progress lines if the output is not a terminal."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count() or 1,
        help='number of reading processes (default: all cores)',
    )
    parser.add_argument('--json', metavar='FILE', type=Path, help='write all findings as JSON')
    return parser.parse_args()


def datasets_of(config: Config) -> list[tuple[str, dict]]:
    """Return (loaders, data set) pairs, with one pair for a data set that several loaders share."""
    found: dict[str, tuple[list[str], dict]] = {}
    for loader in DATALOADERS:
        for dataset in innermost_datasets((config.get(loader) or {}).get('dataset')):
            files = {
                key: dataset[key] for key in sorted(dataset) if key not in ('pipeline', 'max_bad_samples')
            }
            found.setdefault(repr(files), ([], dataset))[0].append(loader)
    return [(', '.join(dict.fromkeys(names)), dataset) for names, dataset in found.values()]


def shown(records: Iterable[Record], total: int, name: str) -> Iterator[Record]:
    """Yield the records and show progress: a bar on a terminal, lines otherwise."""
    if sys.stderr.isatty():
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield from progress.track(records, total=total)
        return
    start = printed = time.monotonic()
    for done, record in enumerate(records, 1):
        now = time.monotonic()
        if now - printed > LINE_EVERY:
            printed, left = now, (now - start) / done * (total - done)
            print(f'{name}: {done}/{total} images, {left:.0f} s left', file=sys.stderr, flush=True)
        yield record


def main() -> None:
    with one_line_errors():
        args = parse_args()
        config = load_config(args.config, args.cfg_options)
        if args.workers < 0:
            raise ValueError(f'--workers {args.workers}: must be 0 or more')
        if args.json and not args.json.absolute().parent.is_dir():
            raise FileNotFoundError(f'--json {args.json}: the folder does not exist')
        with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'dpt'):
            found = [
                check_dataset(one, name, args.workers, partial(shown, name=name))
                for name, one in datasets_of(config)
            ]
        for one in found:
            for other in found:
                if 'train_dataloader' in one.name and 'train_dataloader' not in other.name:
                    judge_overlap(one, other)
        print('\n\n'.join(render(one) for one in found))
        if args.json:
            args.json.write_text(json.dumps([as_dict(one) for one in found], indent=1) + '\n')
        wrong = sum(len(messages) for one in found for messages in one.faults.values())
        print(f'\n{wrong} faults' if wrong else '\nno faults found')
        raise SystemExit(1 if wrong else 0)


if __name__ == '__main__':
    main()
