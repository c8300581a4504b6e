"""Pass hostile checkpoints to every entry point of the program, including files that expand to 16 GiB."""

from pathlib import Path

from . import Fault
from .hostile_files import BOMB, write_hostile
from .runs import measured, run_tool, tiny_config

CONVERTERS = 'tools/model_converters'
API = "import sys; from dpt.apis import init_model; init_model('{config}', sys.argv[1])"
MEMORY_SLACK = 200  # MiB that rejecting a bomb may add


def payload_everywhere(folder: Path) -> tuple[str, bool]:
    """Load a file with a payload next to the optimizer state through every entry point."""
    config = tiny_config(folder, train=2, val=1)
    file, made = write_hostile('optimizer_payload.pth', folder)
    out = folder / 'out.pth'
    train = ('tools/train.py', config, '--work-dir', folder / 'work')
    pretrained = ('model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={file}')
    ways: dict[str, tuple[object, ...]] = {
        'load_from': (*train, '--cfg-options', f'load_from={file}'),
        'resume': (*train, '--resume', file),
        'backbone': (*train, '--cfg-options', *pretrained),
        'test': ('tools/test.py', config, file, '--work-dir', folder / 'work'),
        'api': ('-c', API.format(config=config), file),
        'publish_model': ('tools/publish_model.py', file, out),
    }
    for name in ('vit2mmseg', 'isl2dpt', 'dpt2mmseg'):
        ways[name] = (f'{CONVERTERS}/{name}.py', file, out)
    wrong = []
    for way, command in ways.items():
        result = run_tool(*command)
        refused = result.returncode == 1 and f'{file}: refused' in result.stderr
        # Only the Python API may print a traceback, because it raises an exception.
        if not refused or ('Traceback' in result.stderr and way != 'api') or made.exists():
            wrong.append(f'{way}: {result.stderr[-200:]}')
    seen = f'{len(ways) - len(wrong)} of {len(ways)} entry points reject it by name; ran: {made.exists()}'
    return f'{seen} {" ".join(wrong)}', not wrong and not made.exists() and not out.exists()


def bombs(folder: Path) -> tuple[str, bool]:
    """Compare the memory for rejecting files of 16 GiB with that for a file rejected at its first byte."""
    peaks = {}
    for name in ('page.pth', 'bomb.pth', 'bomb.npz', 'expanded.pth'):
        file, _ = write_hostile(name, folder)
        status, output, peaks[name] = measured('tools/publish_model.py', file, folder / 'out.pth')
        assert status == 1, output
        assert name == 'page.pth' or 'would become' in output, output
    least = peaks.pop('page.pth')
    shown = ', '.join(f'{name} +{peak - least:.0f} MiB' for name, peak in peaks.items())
    return f'of {BOMB >> 30} GiB: {shown}', max(peaks.values()) < least + MEMORY_SLACK


FAULTS = (
    Fault(
        'foreign.payload_everywhere',
        'every entry point names it in one line; no code runs',
        payload_everywhere,
    ),
    Fault('foreign.bombs', f'rejected before unpacking: at most + {MEMORY_SLACK} MiB of memory', bombs),
)
