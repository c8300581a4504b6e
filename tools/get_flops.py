"""Print the parameters, floating-point operations and activation memory of a config's model, by part.

Several configs are compared in a Markdown table, one row each: parameters, those that are trained, operations
of one image, and the memory that one more image in a batch keeps for the backward pass, in float32 and under
bfloat16 autocast.

The model is not run and no weights are loaded. A multiply-add counts as two operations. Activation memory is
what a float32 training step keeps for the backward pass after each part.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/get_flops.py configs/dpt_vit-b16_512x512_160k_ade20k.py --shape 512 683
    python tools/get_flops.py configs/dpt_dinov2-*.py
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from dpt.cli import add_config_options, one_line_errors
from dpt.config.load import load_config
from dpt.extras.profiling import PartCost, model_cost, part_costs, training_flops


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='+', help='config files')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), help='image size (default: the training crop)'
    )
    add_config_options(parser)
    return parser.parse_args()


def choose_shape(shape: list[int] | None, config: Config) -> tuple[int, int, int, int]:
    """Return the shape 1xCxHxW of the image."""
    preprocessor = config.model.data_preprocessor
    size = shape or preprocessor.get('size')
    if size is None:
        raise ValueError('the config has no model.data_preprocessor.size: give --shape H W')
    if min(size) < 1:
        raise ValueError(f'--shape {size[0]} {size[1]}: both must be 1 or more')
    return 1, len(preprocessor.mean), size[0], size[1]


def table(parts: list[PartCost]) -> str:
    """Format the costs as a table with totals."""
    header = f'{"part":<18}{"parameters (M)":>16}{"GFLOP":>10}{"activations (MiB)":>20}'
    costs = [(part.name, part.parameters, part.flops, part.activation_bytes) for part in parts]
    costs.append(('all', *(sum(column) for column in list(zip(*costs, strict=True))[1:])))
    rows = [
        f'{name:<18}{n / 1e6:>16.2f}{flops / 1e9:>10.1f}{size / 2**20:>20.1f}'
        for name, n, flops, size in costs
    ]
    rule = '-' * len(header)
    return '\n'.join([header, rule, *rows[:-1], rule, rows[-1]])


def compare(configs: list[Config], paths: list[str], shape: list[int] | None) -> Iterator[str]:
    """Yield the lines of a table that compares models."""
    columns = ['parameters, M', 'trained, M', 'forward, GFLOP', 'training, GFLOP', 'kept, MiB', 'in bf16']
    yield '| config | image | ' + ' | '.join(columns) + ' |'
    yield '|---|---|' + '---|' * len(columns)
    for config, path in zip(configs, paths, strict=True):
        size = choose_shape(shape, config)
        cost = model_cost(config.model, size)
        counts = (cost.parameters / 1e6, cost.trained / 1e6, cost.flops / 1e9, cost.training_flops / 1e9)
        values = [f'{x:,.1f}' for x in counts] + [f'{x / 2**20:,.0f}' for x in (cost.kept, cost.kept_bf16)]
        yield f'| `{Path(path).stem}` | {size[2]}x{size[3]} | ' + ' | '.join(values) + ' |'


def main() -> None:
    with one_line_errors():
        args = parse_args()
        configs = [load_config(path, args.cfg_options) for path in args.config]
        init_default_scope(configs[0].get('default_scope', 'dpt'))
        if len(configs) > 1:
            for line in compare(configs, args.config, args.shape):
                print(line, flush=True)
            return
        config = configs[0]
        shape = choose_shape(args.shape, config)
        print(f'one image of {shape[2]}x{shape[3]}')
        print(table(part_costs(config.model, shape)))
        print(f'a training step: {training_flops(config.model, shape) / 1e9:.1f} GFLOP')


if __name__ == '__main__':
    main()
