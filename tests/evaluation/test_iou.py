"""The metric that the engine drives."""

import json
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from oracle import CLASSES, K, maps, metric, oracle, sample

from dpt.evaluation import IoUMetric, Scores, segmentation_metrics
from dpt.evaluation.confusion import score_table
from dpt.structures import SegDataSample


@pytest.mark.parametrize(
    ('prediction', 'label', 'message'),
    [
        ([[0, 1]], [[0, -1]], r'label values \[-1\]'),
        ([[0, 5]], [[0, 1]], r'predicted values \[5\]'),
        ([[0, 1]], [[0, 1, 2]], '1x2 pixels and the label 1x3'),
        ([[0.0, 1.0]], [[0, 1]], 'prediction must hold integers'),
    ],
)
def test_bad_maps_raise(prediction, label, message):
    with pytest.raises(ValueError, match=r'street/7\.jpg: .*' + message):
        metric().process(None, [sample(prediction, label, path='street/7.jpg')])


def test_missing_truth_names_image_and_remedy():
    with pytest.raises(ValueError, match=r'a/0\.jpg: .*no gt_sem_seg.*format_only'):
        metric().process(None, [sample(np.zeros((2, 2), int))])


def test_evaluator_builds_and_runs_it():
    evaluator = Evaluator(dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'], beta=2))
    evaluator.dataset_meta = dict(classes=CLASSES)
    pairs = [maps(seed) for seed in range(4)]
    for batch in (pairs[:3], pairs[3:]):
        data_samples = []
        for prediction, label in batch:
            one = SegDataSample(metainfo=dict(img_path='x.jpg'))
            one.pred_sem_seg = PixelData(data=torch.tensor(prediction)[None])
            one.gt_sem_seg = PixelData(data=torch.tensor(label, dtype=torch.uint8)[None])
            data_samples.append(one)
        evaluator.process(data_samples, None)
    scores = evaluator.evaluate(4)
    expected = oracle(pairs, beta=2)
    assert list(scores) == ['aAcc', 'mIoU', 'mAcc', 'mFscore', 'mPrecision', 'mRecall']
    for name, value in scores.items():
        score = expected['aAcc'] if name == 'aAcc' else np.nanmean(expected[name[1:]])
        assert value == pytest.approx(100 * score, rel=1e-14)
        assert type(value) is float


def test_nan_to_num_counts_in_mean():
    prediction, label = maps()
    iou = oracle([(prediction, label)])['IoU']
    counted = metric(nan_to_num=0)
    counted.process(None, [sample(prediction, label)])
    scores = counted.evaluate(1)
    assert scores['mIoU'] == pytest.approx(100 * np.nansum(iou) / K)
    assert counted.per_class['IoU'][4] == 0


@pytest.mark.parametrize('void', [255, 7])
def test_class_left_out_is_in_neither_table_nor_means(void, tmp_path, capsys):
    prediction, label = maps()
    counted = metric(
        ignore_index=1, iou_metrics=['mIoU', 'mDice', 'mFscore'], scores_file=str(tmp_path / 's.npz')
    )
    counted.dataset_meta['ignore_index'] = void
    counted.process(None, [sample(prediction, np.where(label == 255, void, label))])
    scores = counted.evaluate(1)
    expected = oracle([(prediction, np.where(label == 1, 255, label))])
    kept = [0, 2, 3, 4]
    for name in ('IoU', 'Acc', 'Dice', 'Fscore', 'Precision', 'Recall'):
        assert scores[f'm{name}'] == pytest.approx(100 * np.nanmean(expected[name][kept]))
    assert scores['aAcc'] == pytest.approx(100 * expected['aAcc'])
    assert counted.per_class['Class'] == ['sky', 'tree', 'car', 'pole']
    stored = Scores.load(tmp_path / 's.npz')
    iou = segmentation_metrics(stored.confusion, left_out=stored.left_out)['IoU']
    np.testing.assert_allclose(100 * np.nanmean(iou), scores['mIoU'])
    assert stored.miou == pytest.approx(scores['mIoU'])


def test_void_label_comes_from_the_data_set():
    prediction, label = maps()
    counted = metric()
    counted.dataset_meta['ignore_index'] = 300
    counted.process(None, [sample(prediction, np.where(label == 255, 300, label))])
    assert counted.evaluate(1)['mIoU'] == pytest.approx(
        100 * np.nanmean(oracle([(prediction, label)])['IoU'])
    )


def test_class_255_of_300_counts():
    label = np.array([[254, 255, 256, 299]])
    counted = metric()
    counted.dataset_meta = dict(classes=list(map(str, range(300))), ignore_index=65535)
    counted.process(None, [sample(label, label)])
    counted.evaluate(1)
    assert counted.per_class['IoU'][255] == 100


def test_prefix_names_and_nan_without_labelled_pixels():
    counted = metric(prefix='val')
    counted.process(None, [sample([[0]], [[255]])])
    scores = counted.evaluate(1)
    assert set(scores) == {'val/aAcc', 'val/mIoU', 'val/mAcc'}
    assert all(np.isnan(value) for value in scores.values())


def test_table_names_classes_without_pixels_in_the_truth():
    per_class = dict(Class=['sky', 'tree', 'car'], pixels=[4, 0, 2], IoU=[50.0, 0.0, 50.0])
    means = dict(mIoU=33.3, aAcc=66.67)
    last = score_table(per_class, means).splitlines()[-2:]
    assert last == ['aAcc 66.67', '1 of 3 classes have no pixels in the ground truth: tree']
    per_class['pixels'] = [3, 1, 2]
    assert score_table(per_class, means).endswith('aAcc 66.67')
    many = dict(Class=list('abcdefghijkl'), pixels=[0] * 12, IoU=[None] * 12)
    assert score_table(many, means).endswith('a, b, c, d, e, f, g, h, ...')


def test_per_class_results_survive_as_json():
    prediction, label = maps()
    counted = metric()
    counted.process(None, [sample(prediction, label)])
    counted.evaluate(1)
    table = json.loads(json.dumps(counted.per_class, allow_nan=False))
    assert table['Class'] == list(CLASSES)
    assert table['pixels'] == [int((label == k).sum()) for k in range(K)]
    np.testing.assert_allclose(
        [np.nan if value is None else value for value in table['IoU']],
        100 * oracle([(prediction, label)])['IoU'],
    )


def test_table_fits_terminal_and_marks_absent_classes(monkeypatch):
    texts = []
    monkeypatch.setattr('dpt.evaluation.iou.print_log', lambda text, logger: texts.append((text, logger)))
    counted = metric(('x' * 60, *CLASSES[1:]), iou_metrics=('mIoU', 'mDice'))
    counted.process(None, [sample(*maps())])
    counted.evaluate(1)
    (table, logger), *others = texts
    assert not others
    assert logger == 'current'
    lines = table.strip('\n').split('\n')
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows['class'] == ['pixels', '%', 'IoU', 'Acc', 'Dice']
    assert rows['pole'] == ['0.00', '-', '-', '-']
    assert rows['tree'][:3] == ['0.00', '0.00', '-']
    shares = [float(rows[name][0]) for name in ('road', 'tree', 'car', 'pole')]
    first = next(values for name, values in rows.items() if name.startswith('xxx'))
    assert float(first[0]) + sum(shares) == pytest.approx(100, abs=0.03)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(iou_metrics=['mIou']), 'iou_metrics'),
        (dict(iou_metrics=[]), 'iou_metrics'),
        (dict(format_only=True), 'output_dir'),
        (dict(collect_device='cuda'), 'collect_device'),
        (dict(label_offset=-1), 'label_offset'),
    ],
)
def test_bad_arguments_raise(kwargs, message):
    with pytest.raises(ValueError, match=message):
        IoUMetric(**kwargs)


def test_missing_classes_raise():
    with pytest.raises(ValueError, match='classes'):
        IoUMetric().process(None, [sample([[0]], [[0]])])


@pytest.mark.parametrize('seen', [4, 6])
def test_padded_or_lost_samples_raise(seen):
    counted = metric()
    counted.process(None, [sample(*maps())] * seen)
    with pytest.raises(ValueError, match=f'{seen} samples .* has 5: .*round_up=False'):
        counted.evaluate(5)
    counted.process(None, [sample([[0]], [[0]])])
    assert counted.evaluate(1)['mIoU'] == 100


def test_each_evaluation_starts_from_zero():
    counted = metric()
    for seed in (0, 1):
        pair = maps(seed)
        counted.process(None, [sample(*pair)])
        assert counted.evaluate(1)['mIoU'] == pytest.approx(100 * np.nanmean(oracle([pair])['IoU']))


@pytest.mark.parametrize(
    ('classes', 'offset', 'dtype'),
    [(CLASSES, 0, np.uint8), (CLASSES, 1, np.uint8), ([str(k) for k in range(256)], 1, np.uint16)],
)
def test_format_only_writes_labels_without_truth(tmp_path, classes, offset, dtype):
    written = metric(classes, format_only=True, output_dir=str(tmp_path / 'out'), label_offset=offset)
    prediction = np.arange(len(classes))[None]
    written.process(None, [sample(prediction, path='images/ADE_val_1.jpg')])
    assert written.evaluate(1) == {}
    png = cv2.imread(str(tmp_path / 'out/ADE_val_1.png'), cv2.IMREAD_UNCHANGED)
    assert png.dtype == dtype
    np.testing.assert_array_equal(png, prediction + offset)


def test_predictions_are_written_during_evaluation(tmp_path):
    counted = metric(output_dir=str(tmp_path))
    counted.process(None, [sample(*maps())])
    assert 'mIoU' in counted.evaluate(1)
    assert (tmp_path / '0.png').exists()


def test_same_stem_in_two_folders_raises(tmp_path):
    written = metric(format_only=True, output_dir=str(tmp_path))
    written.process(None, [sample([[1]], path='a/x.jpg')])
    written.process(None, [sample([[1]], path='a/x.jpg')])
    with pytest.raises(ValueError, match=r'a/x\.jpg and b/x\.jpg would both be written to x\.png'):
        written.process(None, [sample([[2]], path='b/x.jpg')])
    assert cv2.imread(str(tmp_path / 'x.png'), cv2.IMREAD_UNCHANGED)[0, 0] == 1


def test_no_warning_about_missing_prefix(monkeypatch):
    levels = []
    monkeypatch.setattr('mmengine.evaluator.metric.print_log', lambda *a, level=0, **k: levels.append(level))
    IoUMetric()
    assert logging.WARNING not in levels


WORKER = """
import json, sys
import torch
import torch.distributed as dist
sys.path.append('tests/evaluation')
from oracle import maps, metric, sample

rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group('gloo', init_method='file://' + rendezvous, rank=rank, world_size=2)
torch.set_num_threads(1)

def run(indices, size, paths=None, **kwargs):
    counted = metric(iou_metrics=('mIoU', 'mFscore'), **kwargs)
    for i in indices:
        counted.process(None, [sample(*maps(i), path=(paths or '{}.jpg').format(i))])
    try:
        return counted.evaluate(size)
    except ValueError as error:
        return str(error)

shared = out + '_pictures'
results = dict(
    scores=run(range(rank, 5, 2), 5, scores_file=out + '.npz'),
    padded=run([rank, rank + 2, (rank + 4) % 5], 5),
    idle=run(range(5) if rank == 0 else [], 5),
    collision=run([7], 2, paths=f'folder{rank}/{{}}.jpg', output_dir=shared, format_only=True),
)
json.dump(results, open(f'{out}_{rank}.json', 'w'))
dist.destroy_process_group()
"""


def test_two_processes_equal_one_to_the_last_digit(tmp_path, repository):
    arguments = [str(tmp_path / 'rendezvous'), str(tmp_path / 'out')]
    workers = [
        subprocess.Popen(
            [sys.executable, '-c', WORKER, str(rank), *arguments],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        output, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0, output
    first, second = (json.loads((tmp_path / f'out_{rank}.json').read_text()) for rank in range(2))
    assert first == second

    alone = metric(iou_metrics=('mIoU', 'mFscore'))
    alone.process(None, [sample(*maps(i), path=f'{i}.jpg') for i in range(5)])
    expected = alone.evaluate(5)
    assert first['scores'] == expected
    assert first['idle'] == expected
    assert sorted(Scores.load(tmp_path / 'out.npz').images) == [f'{i}.jpg' for i in range(5)]
    assert '6 samples' in first['padded']
    assert 'round_up=False' in first['padded']
    assert 'would both be written to 7.png' in first['collision']
