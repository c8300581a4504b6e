"""Read the whole data set of a config before training, and tell what is in it and what is wrong.

Exit status 0 if nothing is wrong, 1 if something is, 2 for a wrong argument.

Example:
    python tools/check_data.py configs/dpt_vit-b16_512x512_160k_ade20k.py --workers 8
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
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
from dpt.extras.check_data.contents import Contents, Inspector, Record, inspect_files, open_dataset, read_all
from dpt.extras.check_data.report import as_dict, judge, judge_overlap, render

LINE_EVERY = 30
"""Seconds between lines of progress where the output is no terminal."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, help='processes that read (default: all cores)'
    )
    parser.add_argument('--json', metavar='FILE', type=Path, help='write all that was found as JSON')
    return parser.parse_args()


def datasets_of(config: Config) -> list[tuple[str, dict]]:
    """Return the data sets by the loaders that read them; one that several loaders read is there once."""
    found: list[tuple[list[str], dict]] = []
    for loader in DATALOADERS:
        for dataset in innermost_datasets((config.get(loader) or {}).get('dataset')):
            same = [names for names, known in found if _files(known) == _files(dataset)]
            if same:
                same[0].append(loader)
            else:
                found.append(([loader], dataset))
    return [(', '.join(dict.fromkeys(names)), dataset) for names, dataset in found]


def _files(dataset: dict) -> str:
    return repr(
        sorted((key, value) for key, value in dataset.items() if key not in ('pipeline', 'max_bad_samples'))
    )


def shown(records: Iterable[Record], total: int, name: str) -> Iterator[Record]:
    """Pass records on and show how many of them there were, and the time left at the rate of late."""
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
    start = told = time.monotonic()
    for done, record in enumerate(records, 1):
        now = time.monotonic()
        if now - told > LINE_EVERY:
            told, left = now, (now - start) / done * (total - done)
            print(f'{name}: {done}/{total} images, {left:.0f} s left', file=sys.stderr, flush=True)
        yield record


def check(name: str, config: dict, workers: int) -> Contents:
    contents = open_dataset(config, name)
    if contents.dataset is None:
        return contents
    with_masks = not config.get('test_mode')
    inspect_files(contents, with_masks)
    inspector = Inspector(contents.dataset, config.get('pipeline') or [], with_masks)
    for record in shown(read_all(inspector, workers), len(contents.dataset), name):
        contents.add(record)
    judge(contents, training='train_dataloader' in name)
    return contents


def main() -> None:
    with one_line_errors():
        args = parse_args()
        config = load_config(args.config, args.cfg_options)
        if args.workers < 0:
            raise ValueError(f'--workers {args.workers}: 0 or more was expected')
        if args.json and not args.json.absolute().parent.is_dir():
            raise FileNotFoundError(f'--json {args.json}: the folder does not exist')
        with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'dpt'):
            found = [check(name, one, args.workers) for name, one in datasets_of(config)]
        for one in found:
            for other in found:
                if 'train_dataloader' in one.name and 'train_dataloader' not in other.name:
                    judge_overlap(one, other)
        print('\n\n'.join(render(one) for one in found))
        if args.json:
            args.json.write_text(json.dumps([as_dict(one) for one in found], indent=1) + '\n')
        wrong = sum(len(told) for one in found for told in one.faults.values())
        print(f'\n{wrong} faults' if wrong else '\nnothing is wrong')
        raise SystemExit(1 if wrong else 0)


if __name__ == '__main__':
    main()
