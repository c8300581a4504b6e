"""Compare the scores of dpt and MMSegmentation for a config and checkpoint of MMSegmentation.

MMSegmentation trains and tests a small DPT with its own tools and the config in its wheel. Then
``tools/test.py`` of this repository runs the same config file with the same ``--cfg-options`` (with the names
of MMSegmentation) on the unmodified checkpoint. First, the classes and colours of the data sets that both
support are compared; without data, this is the only comparison.

Example:
    python benchmarks/mmseg_config.py --peer-python ~/mmseg-venv/bin/python --camvid data/camvid

The other environment needs mmsegmentation 1.x. Its test cannot load its own checkpoints with torch 2.6 and
later, so it gets a copy with only the weights. The exit status is 0 only if all scores agree to the two
digits that MMSegmentation prints.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG = 'configs/dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WIDTH = 32
SHRUNKEN = dict(
    pretrained=None,
    **{
        'backbone.img_size': 64,
        'backbone.embed_dims': WIDTH,
        'backbone.num_layers': 4,
        'backbone.num_heads': 2,
        'backbone.out_indices': (0, 1, 2, 3),
        'decode_head.embed_dims': WIDTH,
        'decode_head.in_channels': (WIDTH,) * 4,
        'decode_head.channels': 16,
        'decode_head.post_process_channels': (8, 16, 16, 16),
        'data_preprocessor.size': (96, 96),
    },
)
CAMVID_CLASSES = 'sky,building,pole,road,pavement,tree,signsymbol,fence,car,pedestrian,bicyclist'
METRICS = ('aAcc', 'mIoU', 'mAcc')
DATASETS = (
    'ADE20KDataset',
    'CityscapesDataset',
    'PascalVOCDataset',
    'PascalContextDataset',
    'PascalContextDataset59',
    'DarkZurichDataset',
    'NightDrivingDataset',
    'BDD100KDataset',
    'COCOStuffDataset',
    'LoveDADataset',
    'PotsdamDataset',
    'ISPRSDataset',
    'iSAIDDataset',
    'ChaseDB1Dataset',
    'DRIVEDataset',
    'HRFDataset',
    'REFUGEDataset',
    'STAREDataset',
    'SynapseDataset',
)
THEIR_METAINFO = """
import json, sys, mmseg.datasets
print('METAINFO', json.dumps({name: getattr(mmseg.datasets, name).METAINFO for name in sys.argv[1:]}))
"""
WEIGHTS_ONLY = """
import sys, torch
content = torch.load(sys.argv[1], map_location='cpu', weights_only=False)
torch.save(dict(state_dict=content['state_dict'], meta={}), sys.argv[2])
"""


def common_options(iterations: int) -> dict[str, object]:
    """Return options for a small model and a short schedule with a high learning rate."""
    options: dict[str, object] = {f'model.{key}': value for key, value in SHRUNKEN.items()}
    for loader in LOADERS:
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
    options.update(
        {
            'train_dataloader.dataset.pipeline.3.crop_size': (96, 96),
            'train_cfg.max_iters': iterations,
            'train_cfg.val_interval': iterations + 1,
            'optim_wrapper.optimizer.lr': 3e-3,
            'param_scheduler.0.end': 5,
            'param_scheduler.1.begin': 5,
            'param_scheduler.1.end': iterations,
            'default_hooks.checkpoint.interval': iterations,
            'randomness.seed': 0,
        }
    )
    return options


def ade_options(root: Path) -> dict[str, object]:
    """Return options for ADE20K or a sample of it. Trains on validation images, as a sample has no others."""
    options: dict[str, object] = {f'{loader}.dataset.data_root': root for loader in LOADERS}
    options['train_dataloader.dataset.data_prefix.img_path'] = 'images/validation'
    options['train_dataloader.dataset.data_prefix.seg_map_path'] = 'annotations/validation'
    return options


def camvid_options(root: Path) -> dict[str, object]:
    """Return options for CamVid in ADE20K's layout, with MMSegmentation's base data set."""
    options: dict[str, object] = {'model.decode_head.num_classes': 11}
    for loader in LOADERS:
        options[f'{loader}.dataset.type'] = 'BaseSegDataset'
        options[f'{loader}.dataset.metainfo.classes'] = CAMVID_CLASSES
        options[f'{loader}.dataset.data_root'] = root
        step = 1 if loader == 'train_dataloader' else 2
        options[f'{loader}.dataset.pipeline.{step}.reduce_zero_label'] = False
    for loader in LOADERS[1:]:
        options[f'{loader}.dataset.pipeline.1.scale'] = (480, 360)
    options['train_dataloader.dataset.pipeline.2.scale'] = (480, 360)
    return options


def as_arguments(options: dict[str, object]) -> list[str]:
    """Return options as command line arguments."""
    return [f'{key}={str(value).replace(" ", "")}' for key, value in options.items()]


def run(command: list[object], log: Path) -> str:
    """Run a command, write its output to ``log``, and return the output."""
    words = [str(word) for word in command]
    result = subprocess.run(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log.write_text(result.stdout)
    if result.returncode:
        raise SystemExit(f'{" ".join(words)}\n{result.stdout[-3000:]}\nfailed; see {log}')
    return result.stdout


def peer_scores(output: str) -> dict[str, float]:
    """Return the scores in the last line of MMSegmentation's test."""
    line = [line for line in output.splitlines() if 'Iter(test)' in line and 'mIoU' in line][-1]
    return {name: float(value) for name, value in re.findall(r'(\w+): (\d+\.\d+)', line) if name in METRICS}


def our_scores(output: str) -> dict[str, float]:
    """Return the scores in the last line of dpt's test."""
    line = [line for line in output.splitlines() if line.startswith('RESULT ')][-1]
    return json.loads(line.removeprefix('RESULT '))


def compare(name: str, options: dict[str, object], images: int, peer: str, tools: Path, folder: Path) -> bool:
    """Train with MMSegmentation, test with both, and print the scores; return whether they agree."""
    config = tools.parent / CONFIG
    trained = folder / name
    training = [*as_arguments(options)]
    run(
        [peer, tools / 'train.py', config, '--work-dir', trained, '--cfg-options', *training],
        folder / f'{name}_train.log',
    )
    checkpoint = Path((trained / 'last_checkpoint').read_text().strip())
    stripped = folder / f'{name}_weights.pth'
    run([peer, '-c', WEIGHTS_ONLY, checkpoint, stripped], folder / f'{name}_strip.log')
    testing = [*training, f'test_dataloader.dataset.indices={images}']
    equal = True
    for kind, theirs, ours in (('whole', [], []), ('--aug-test', ['--tta'], ['--aug-test'])):
        tail = ['--work-dir', folder / f'{name}_test', '--cfg-options', *testing]
        log = folder / f'{name}_{kind.strip("-")}'
        reference = peer_scores(
            run([peer, tools / 'test.py', config, stripped, *theirs, *tail], Path(f'{log}_mmseg.log'))
        )
        found = our_scores(
            run([sys.executable, 'tools/test.py', config, checkpoint, *ours, *tail], Path(f'{log}_dpt.log'))
        )
        for metric in METRICS:
            same = abs(round(found[metric], 2) - reference[metric]) < 1e-6
            equal &= same
            values = f'{reference[metric]:14.2f}{found[metric]:10.4f}'
            print(f'{name:8}{kind:12}{metric:6}{values}  {"equal" if same else "DIFFERENT"}', flush=True)
    return equal


def compare_metainfo(theirs: dict[str, dict]) -> bool:
    """Compare the classes and colours of each data set with MMSegmentation's; return whether all agree."""
    from dpt import datasets

    equal = True
    for name, reference in theirs.items():
        found = getattr(datasets, name).METAINFO
        same = [list(found[key]) == list(reference[key]) for key in ('classes', 'palette')]
        equal &= all(same)
        words = ['equal' if one else 'DIFFERENT' for one in same]
        print(f'{name:24}{len(reference["classes"]):4} classes {words[0]}, palette {words[1]}', flush=True)
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--peer-python', required=True, help='Python of an environment with mmsegmentation 1.x'
    )
    parser.add_argument('--camvid', type=Path, help="CamVid in ADE20K's layout")
    parser.add_argument('--ade', type=Path, help='ADEChallengeData2016, or some of its images in its layout')
    parser.add_argument('--iterations', type=int, default=60, help='training iterations of MMSegmentation')
    parser.add_argument('--images', type=int, default=20, help='maximum number of test images')
    parser.add_argument('--work-dir', type=Path, help='folder of logs and checkpoints (default: new)')
    args = parser.parse_args()
    os.environ.setdefault('OMP_NUM_THREADS', '2')
    folder = (args.work_dir or Path(tempfile.mkdtemp(prefix='mmseg_config_'))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    where = 'import mmseg; print("PATH", mmseg.__path__[0])'
    found = run([args.peer_python, '-c', where], folder / 'where.log')
    tools = Path(re.findall(r'PATH (.+)', found)[-1]) / '.mim' / 'tools'
    found = run([args.peer_python, '-c', THEIR_METAINFO, *DATASETS], folder / 'metainfo.log')
    equal = compare_metainfo(json.loads(re.findall(r'METAINFO (.+)', found)[-1]))
    print(f'logs: {folder}\n{"data":8}{"test":12}{"":6}{"MMSegmentation":>14}{"dpt":>10}')
    for name, root, options in (('camvid', args.camvid, camvid_options), ('ade', args.ade, ade_options)):
        if root:
            chosen = {**common_options(args.iterations), **options(root.resolve())}
            equal &= compare(name, chosen, args.images, args.peer_python, tools, folder)
    print('all equal to the printed precision' if equal else 'NOT equal')
    raise SystemExit(0 if equal else 1)


if __name__ == '__main__':
    main()
