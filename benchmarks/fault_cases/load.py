"""Measure the peak resident memory of long evaluations and large images."""

import json
import os
from pathlib import Path

from . import Fault
from .runs import measured, run_tool, tiny_config

FEW, MANY = 20, 400
FLAT = 40
"""Tolerance in MiB between the peaks for few and many images, due to allocators."""
HUGE = (6000, 8000)
"""(height, width) of the large image."""
HALF = (3000, 4000)
"""(height, width) of the image predicted as a whole; the time of attention is quadratic in the pixels."""
CROP = 512
SLIDE = 6 << 10
"""MiB that sliding windows may add: copies of the image and logits of one row of windows."""
WHOLE = 1 << 10
"""MiB that the label map of a whole image may add to the features and the logits of the head."""


def evaluation(folder: Path) -> tuple[str, bool]:
    """Run ``tools/test.py`` on few and on many images (links to the same five images)."""
    peaks, scores = [], []
    for count in (FEW, MANY):
        part = folder / str(count)
        part.mkdir()
        config = tiny_config(part, train=2, val=5)
        for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
            five = sorted((part / 'data' / kind / 'validation').iterdir())
            for i in range(5, count):
                os.link(five[i % 5], five[0].with_name(f'more_{i:05d}.{suffix}'))
        if not scores:
            options = ('--cfg-options', 'train_cfg.max_iters=1', 'train_cfg.val_interval=9')
            trained = run_tool('tools/train.py', config, '--work-dir', folder / 'work', *options)
            assert trained.returncode == 0, trained.stderr[-1000:]
        status, output, peak = measured(
            *('tools/test.py', config, folder / 'work' / 'iter_1.pth', '--work-dir', part / 'work'),
        )
        assert status == 0, output[-1000:]
        peaks.append(peak)
        scores.append([line for line in output.splitlines() if line.startswith('RESULT ')][-1])
    # Each of the five images occurs equally often, so the scores are equal.
    equal = scores[0] == scores[1]
    seen = f'{FEW} images: {peaks[0]:.0f} MiB, {MANY}: {peaks[1]:.0f} MiB, scores equal: {equal}'
    return seen, peaks[1] < peaks[0] + FLAT and equal


LARGE = """
import json, resource, sys, time
import numpy as np, torch
from dpt.apis import init_model, inference_model

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.manual_seed(0)
options = json.loads(sys.argv[2])
model = init_model(sys.argv[1], cfg_options=options)
image = np.random.default_rng(0).integers(0, 256, (*json.loads(sys.argv[3]), 3), dtype=np.uint8)
parts = {}
features = model.neck.forward

def noted(*arguments, **named):
    maps = features(*arguments, **named)
    parts['features'] = peak()
    return maps

model.neck.forward = noted
start = peak()
began = time.process_time()
labels = inference_model(model, image).pred_sem_seg.data
assert labels.shape == (1, *image.shape[:2])
print('LARGE', json.dumps(dict(start=start, **parts, end=peak(), seconds=time.process_time() - began)))
"""


def _large(folder: Path, mode: dict, size: tuple[int, int]) -> dict:
    config = tiny_config(folder, train=2, val=1)
    options = {
        'model.decode_head.num_classes': 150,
        'model.loss.class_weight': None,
        'model.test_cfg': mode,
        'test_dataloader.dataset.pipeline': [
            dict(type='LoadImageFromFile'),
            dict(type='PackSegInputs'),
        ],
    }
    status, output, _ = measured('-c', LARGE, config, json.dumps(options), json.dumps(size))
    assert status == 0, output[-1500:]
    return json.loads(output.rpartition('LARGE ')[2].splitlines()[0])


def slide(folder: Path) -> tuple[str, bool]:
    """Predict 8000x6000 pixels and 150 classes in windows of 512; all logits would take 27 GiB."""
    found = _large(folder, dict(mode='slide', crop_size=(CROP, CROP), stride=(CROP, CROP)), HUGE)
    added = found['end'] - found['start']
    return f'+{added:.0f} MiB, limit {SLIDE}; {found["seconds"]:.0f} s of CPU time', added < SLIDE


def whole(folder: Path) -> tuple[str, bool]:
    """Predict an image as a whole, computing the label map a few classes at a time."""
    found = _large(folder, dict(mode='whole'), HALF)
    added = found['end'] - found['features']
    logits = 4 * 150 * HALF[0] * HALF[1] / 4 / (1 << 20)  # of the head, at half resolution
    features = f'features +{found["features"] - found["start"]:.0f} MiB, logits {logits:.0f} MiB'
    return f'{features}, total +{added:.0f}; {found["seconds"]:.0f} s of CPU time', added < WHOLE + logits


FAULTS = (
    Fault('load.evaluation', f'peak for {MANY} images within {FLAT} MiB of that for {FEW}', evaluation),
    Fault('load.slide', '8000x6000, 150 classes, in windows: logits of only one row of windows', slide),
    Fault('load.whole', '4000x3000, 150 classes, whole: label map within features and logits', whole),
)
