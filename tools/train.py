"""Train a model from a config file.

On SIGTERM, SIGINT or SIGUSR1 the training finishes the step, saves a checkpoint and exits with status 75;
--resume continues from it. A second signal ends the process at once.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments, 75 if a signal stopped the training and
--resume can continue it.

Example:
    python tools/train.py configs/dpt_vit-b16_512x512_160k_ade20k.py --amp
"""

import argparse

from dpt.cli import add_common_arguments, one_line_errors
from dpt.config import check_config, load_config
from dpt.engine import build_runner, enable_amp
from dpt.engine.distributed import set_local_rank
from dpt.engine.stop import stop_status
from dpt.engine.work_dir import locked_work_dir, saved_before_restart


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='resume from PATH, or from the newest checkpoint in the work directory (auto, the default)',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bf16 if the device supports it, else fp16'
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        set_local_rank(args.local_rank)
        config = load_config(args.config, args.cfg_options, args.work_dir)
        if args.amp:
            enable_amp(config)
        resume = 'auto' if saved_before_restart(config.work_dir) else args.resume
        check_config(config, 'train', resume)
        with locked_work_dir(config.work_dir, args.launcher):
            runner = build_runner(config, args.launcher, resume)
            runner.train()
        raise SystemExit(stop_status(runner))


if __name__ == '__main__':
    main()
