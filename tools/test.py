"""Evaluate a checkpoint.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.

Example:
    python tools/test.py configs/dpt_vit-b16_512x512_160k_ade20k.py CHECKPOINT --aug-test
"""

import argparse
import json

from mmengine.dist import is_main_process

from dpt.checkpoints import checkpoint_hash, load_model
from dpt.cli import add_common_arguments, one_line_errors
from dpt.config import check_config, load_config
from dpt.config.testing import (
    describe_protocol,
    skip_absent_masks,
    use_test_time_augmentation,
    write_results,
)
from dpt.engine import build_runner
from dpt.engine.distributed import set_local_rank, unwrapped
from dpt.engine.hooks import check_class_names


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of dpt or MMSegmentation, path or URL')
    parser.add_argument(
        '--aug-test', '--tta', action='store_true', help='multi-scale and flip test-time augmentation'
    )
    parser.add_argument(
        '--out', metavar='DIR', help='write predictions: label maps as PNG, depth as .npy files'
    )
    parser.add_argument('--show-dir', metavar='DIR', help='write the predictions drawn over the images')
    parser.add_argument(
        '--scores',
        metavar='FILE.npz',
        help='write scores of each image and the confusion matrix, for report.py and confusion_matrix.py',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    with one_line_errors():
        args = parse_args()
        set_local_rank(args.local_rank)
        digest = checkpoint_hash(args.checkpoint)  # first, so that a missing file is reported at once
        config = load_config(args.config, args.cfg_options, args.work_dir)
        check_config(config, 'test')
        config.load_from, config.resume = None, False
        config.total_batch_size = None  # only for training; the number of processes need not divide it
        if args.aug_test:
            use_test_time_augmentation(config)
        skip_absent_masks(config)
        write_results(config, out_dir=args.out, show_dir=args.show_dir, scores=args.scores)
        runner = build_runner(config, args.launcher)
        model = unwrapped(runner.model)
        load_model(model.module if args.aug_test else model, args.checkpoint)
        check_class_names(args.checkpoint, getattr(runner.test_dataloader.dataset, 'metainfo', {}))
        protocol = describe_protocol(config)
        protocol.append(f'checkpoint: {args.checkpoint} (sha256 {digest})')
        runner.logger.info('\n  '.join(['protocol', *protocol]))
        metrics = runner.test()
        if is_main_process():
            print('RESULT ' + json.dumps(metrics))


if __name__ == '__main__':
    main()
