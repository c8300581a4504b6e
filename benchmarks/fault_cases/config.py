"""Mistakes in a config: told before the run begins, with file and key."""

from collections.abc import Callable
from pathlib import Path

from fault_cases import Fault
from fault_cases.runs import error_line, run_tool, tiny_config

PIPELINE = 'train_dataloader.dataset.pipeline'


def refused(option: str, phrase: str, *, key: str | None = None) -> Callable[[Path], tuple[str, bool]]:
    """Training with the option ends in one line with file, key and phrase, before the engine says a word."""

    def run(folder: Path) -> tuple[str, bool]:
        config = tiny_config(folder)
        # Without its data the run can only have been stopped by the config.
        (folder / 'data').rename(folder / 'elsewhere')
        result = run_tool('tools/train.py', config, '--work-dir', folder / 'work', '--cfg-options', option)
        line = error_line(result.stderr)
        told = all(part in line for part in (str(config), key or option.partition('=')[0], phrase))
        holds = result.returncode == 1 and told and not result.stdout
        return f'exit {result.returncode}, {line.replace(str(folder), "") or result.stderr[-300:]}', holds

    return run


def refused_in_file(text: str, phrase: str) -> Callable[[Path], tuple[str, bool]]:
    """The same for lines of the config file."""

    def run(folder: Path) -> tuple[str, bool]:
        config = tiny_config(folder, more=text)
        result = run_tool('tools/train.py', config, '--work-dir', folder / 'work')
        line = error_line(result.stderr)
        holds = result.returncode == 1 and str(config) in line and phrase in line and not result.stdout
        return f'exit {result.returncode}, {line.replace(str(folder), "") or result.stderr[-300:]}', holds

    return run


def refused_by_test(folder: Path) -> tuple[str, bool]:
    """tools/test.py meets a misspelt argument of its data set."""
    config = tiny_config(folder)
    (folder / 'any.pth').write_bytes(b'not read so far')
    option = 'test_dataloader.dataset.img_sufix=.png'
    result = run_tool('tools/test.py', config, folder / 'any.pth', '--cfg-options', option)
    line = error_line(result.stderr)
    holds = result.returncode == 1 and str(config) in line and 'did you mean img_suffix?' in line
    return f'exit {result.returncode}, {line.replace(str(folder), "") or result.stderr[-300:]}', holds


def indivisible(folder: Path) -> tuple[str, bool]:
    """Three images an iteration for two processes."""
    config = tiny_config(folder)
    options = ('--work-dir', folder / 'work', '--cfg-options', 'total_batch_size=3')
    result = run_tool('tools/train.py', config, *options, processes=2)
    lines = [
        line for line in result.stderr.splitlines() if line.startswith('error: total_batch_size=3 cannot')
    ]
    return f'exit {result.returncode}, {lines[0] if lines else result.stderr[-300:]}', bool(lines)


TOLD = 'exit 1 before anything is built, with file, key and the name meant'
FAULTS = (
    Fault(
        'config.unknown_argument', TOLD, refused('model.backbone.embed_dim=32', 'did you mean embed_dims?')
    ),
    Fault('config.unknown_type', TOLD, refused('model.decode_head.type=DPTHed', 'did you mean DPTHead?')),
    Fault(
        'config.pipeline', TOLD, refused(f'{PIPELINE}.3.cat_max_ration=0.5', 'did you mean cat_max_ratio?')
    ),
    Fault('config.hook', TOLD, refused('default_hooks.logger.intervall=5', 'did you mean interval?')),
    Fault(
        'config.optimizer',
        TOLD,
        refused('optim_wrapper.optimizer.weight_decy=0', 'did you mean weight_decay?'),
    ),
    Fault('config.schedule', TOLD, refused('param_scheduler.1.powr=2', 'did you mean power?')),
    Fault(
        'config.wrong_type',
        'exit 1, with file, key and type',
        refused('optim_wrapper.optimizer.lr=abc', 'str'),
    ),
    Fault(
        'config.num_classes',
        'exit 1, with both counts',
        refused('model.decode_head.num_classes=7', '6 classes'),
    ),
    Fault(
        'config.crop_no_multiple_of_patch',
        'exit 1, with file, key and patch',
        refused('model.data_preprocessor.size=(100,128)', 'patch_size=16'),
    ),
    Fault(
        'config.crop_larger_than_padding',
        'exit 1, with both keys',
        refused(f'{PIPELINE}.3.crop_size=(128,128)', 'model.data_preprocessor.size'),
    ),
    Fault(
        'config.missing_weights',
        'exit 1, with file, key and path',
        refused_in_file(
            "model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='gone.pth')\n",
            'model.backbone.init_cfg.checkpoint: gone.pth does not exist',
        ),
    ),
    Fault(
        'config.top_level_key',
        TOLD,
        refused_in_file("custom_hook = [dict(type='EMAHook')]\n", 'did you mean custom_hooks?'),
    ),
    Fault('config.test_tool', TOLD, refused_by_test),
    Fault('config.batch_does_not_divide', 'exit 1, with key and processes', indivisible),
)
