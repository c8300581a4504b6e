"""Depth scores equal the definitions of others, for each protocol, whatever the number of processes."""

import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from dpt.datasets import NYUDataset
from dpt.evaluation import DepthMetric, DepthScores
from dpt.structures import SegDataSample

SIZE = (480, 640)


def maps(seed: int = 0, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth in metres; a part of the truth is not measured, some of it beyond 10 m."""
    draw = np.random.default_rng(seed)
    truth = draw.uniform(0.5, 11, size).astype(np.float32)
    prediction = (truth * draw.lognormal(0.1, 0.3, size)).astype(np.float32)
    truth[draw.random(size) < 0.3] = 0
    return prediction, truth


def sample(prediction: np.ndarray, truth: np.ndarray | None, path: str = 'a.jpg') -> dict:
    found = dict(img_path=path, pred_depth_map=dict(data=torch.tensor(prediction)[None]))
    return found if truth is None else dict(found, gt_depth_map=dict(data=torch.tensor(truth)[None]))


def evaluate(pairs: list, **arguments) -> dict[str, float]:
    metric = DepthMetric(**arguments)
    metric.process(None, [sample(*pair) for pair in pairs])
    return metric.evaluate(len(pairs))


def toolbox(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The Monocular-Depth-Estimation-Toolbox and DINOv3: valid pixels of one image."""
    ratio, error = np.maximum(truth / prediction, prediction / truth), np.log(prediction) - np.log(truth)
    return dict(
        d1=(ratio < 1.25).mean(),
        d2=(ratio < 1.25**2).mean(),
        d3=(ratio < 1.25**3).mean(),
        abs_rel=(np.abs(truth - prediction) / truth).mean(),
        sq_rel=((truth - prediction) ** 2 / truth).mean(),
        rmse=np.sqrt(((truth - prediction) ** 2).mean()),
        rmse_log=np.sqrt((error**2).mean()),
        log10=np.abs(np.log10(truth) - np.log10(prediction)).mean(),
        silog_kitti=np.sqrt((error**2).mean() - error.mean() ** 2) * 100,
    )


def mmseg(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """MMSegmentation and Depth Anything V2 differ in SILog only."""
    error = np.log(prediction) - np.log(truth)
    silog = np.sqrt((error**2).mean() - 0.5 * error.mean() ** 2)
    return {**toolbox(prediction, truth), 'silog': silog}


def mean(scores, pairs) -> dict[str, float]:
    found = [scores(*(one.astype(np.float64) for one in pair)) for pair in pairs]
    return {name: np.mean([one[name] for one in found]) for name in found[0]}


def test_scores_equal_toolbox_and_dinov3_on_nyu() -> None:
    pairs = [maps(seed) for seed in range(3)]
    found = evaluate(pairs, min_depth_eval=1e-3, max_depth_eval=10, crop_type='nyu_crop', depth_clamp=True)
    inside = np.zeros(SIZE, bool)
    inside[45:471, 41:601] = True
    valid = [inside & (truth > 1e-3) & (truth < 10) for _, truth in pairs]
    clamped = [(p.clip(1e-3, 10)[v], t[v]) for (p, t), v in zip(pairs, valid, strict=True)]
    expected = mean(toolbox, clamped)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_scores_equal_mmseg_and_depth_anything_without_clamp() -> None:
    pairs = [maps(seed, (30, 40)) for seed in range(3)]
    expected = mean(mmseg, [(p[t > 0], t[t > 0]) for p, t in pairs])
    assert evaluate(pairs) == pytest.approx(expected, rel=1e-5)
    assert list(evaluate(pairs, depth_metrics=['rmse', 'd1'], prefix='val')) == ['val/rmse', 'val/d1']


@pytest.mark.parametrize(
    ('crop', 'box'),
    # Rows and columns of the toolbox for an image of 375x1242, after its crop of 352x1216 where it applies.
    [
        ('garg_crop', (153, 371, 44, 1197)),
        ('eigen_crop', (124, 342, 44, 1197)),
        ('kb_crop', (23, 375, 13, 1229)),
        (['kb_crop', 'garg_crop'], (23 + 143, 23 + 349, 13 + 43, 13 + 1172)),
    ],
)
def test_crops_of_kitti_select_the_published_pixels(crop, box) -> None:
    prediction, truth = maps(1, (375, 1242))
    top, bottom, left, right = box
    inside = (prediction[top:bottom, left:right], truth[top:bottom, left:right])
    assert evaluate([(prediction, truth)], crop_type=crop) == evaluate([inside])
    with pytest.raises(ValueError, match=r'a\.jpg: kb_crop needs 352x1216 pixels'):
        evaluate([maps(1)], crop_type='kb_crop')


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale, shift = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
    return scale * x + shift


@pytest.mark.parametrize(
    ('alignment', 'inverse', 'fit'),
    [
        ('median', False, lambda p, t: p * np.median(t) / np.median(p)),
        ('median', True, lambda p, t: 1 / p * np.median(t) / np.median(1 / p)),
        ('least_squares', False, least_squares),
        ('least_squares', True, lambda p, t: least_squares(1 / p, t)),
        ('least_squares_disparity', False, lambda p, t: 1 / least_squares(1 / p, 1 / t)),
        ('least_squares_disparity', True, lambda p, t: 1 / least_squares(p, 1 / t)),
    ],
)
def test_alignment_equals_numpy(alignment, inverse, fit) -> None:
    prediction, truth = maps(2, (40, 50))
    prediction = 3 / prediction + 0.2 if inverse else 3 * prediction + 0.2
    valid = truth > 0
    aligned = fit(*(one[valid].astype(np.float64) for one in (prediction, truth)))
    found = evaluate(
        [(prediction, truth)],
        alignment=alignment,
        inverse=inverse,
        min_depth_eval=0.1,
        max_depth_eval=20,
        depth_clamp=True,
    )
    expected = mean(mmseg, [(aligned.clip(0.1, 20), truth[valid])])
    assert found == pytest.approx(expected, rel=1e-4)


def test_perfect_relative_prediction_scores_perfectly() -> None:
    _, truth = maps(3)
    inverse = np.divide(7, truth, where=truth > 0, out=np.zeros_like(truth)) + 2
    found = evaluate([(inverse, truth)], alignment='least_squares_disparity', inverse=True)
    assert found['d1'] == 1
    assert found['abs_rel'] < 1e-5


@pytest.mark.parametrize(('arguments', 'cap'), [({}, 8), (dict(max_depth_eval=20), 20)])
def test_aligned_disparity_below_zero_is_capped(arguments, cap) -> None:
    truth = np.array([[2] * 20 + [4] * 20 + [8]], np.float32)
    inverse = np.array([[1] * 20 + [0.5] * 20 + [-0.5]], np.float32)
    aligned = least_squares(inverse[0].astype(np.float64), 1 / truth[0].astype(np.float64))
    assert (aligned <= 0).any()
    depth = np.where(aligned > 1 / cap, 1 / aligned.clip(1e-9), cap)
    found = evaluate([(inverse, truth)], alignment='least_squares_disparity', inverse=True, **arguments)
    assert found == pytest.approx(mean(mmseg, [(depth, truth[0])]), rel=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'protocol'),
    [
        ({}, '1 images, true depth 0.1 to 80 m, crop none, clamped: False'),
        (
            dict(inverse=True, alignment='least_squares_disparity'),
            '1 images, true depth 0.1 to 80, crop none, clamped: False, aligned by least_squares_disparity',
        ),
    ],
)
def test_only_metric_depth_has_a_unit(monkeypatch, arguments, protocol) -> None:
    lines: list[str] = []
    monkeypatch.setattr('dpt.evaluation.depth.print_log', lambda line, *_, **__: lines.append(line))
    evaluate([maps()], min_depth_eval=0.1, max_depth_eval=80, **arguments)
    assert lines[-1].splitlines()[-1] == protocol


def test_images_without_a_valid_pixel_do_not_count(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr('dpt.evaluation.depth.print_log', lambda line, *_, **__: lines.append(line))
    pair, empty = maps(0, (30, 40)), np.zeros((30, 40), np.float32)
    assert evaluate([pair, (empty, empty, 'b.jpg')]) == evaluate([pair])
    assert '1 of 2 images have no valid pixel and do not count, such as b.jpg' in lines
    with pytest.raises(
        ValueError, match=r'no image has a pixel with a true depth from 50 to 80.*rescale_factor'
    ):
        evaluate([pair], min_depth_eval=50, max_depth_eval=80)


def test_predictions_that_are_not_positive_are_wrong() -> None:
    _, truth = maps(0, (30, 40))
    found = evaluate([(-truth, truth)])
    assert found['d1'] == found['d3'] == 0
    assert not math.isfinite(found['rmse_log'])
    with pytest.raises(ValueError, match=r'a\.jpg: the prediction has \d+ pixels that are NaN'):
        evaluate([(truth * np.nan, truth)])


def test_sizes_that_differ_and_missing_truth_name_the_image() -> None:
    prediction, truth = maps(0, (30, 40))
    with pytest.raises(ValueError, match=r'a\.jpg: the prediction has 30x20 pixels and the truth 30x40'):
        evaluate([(prediction[:, :20], truth)])
    with pytest.raises(ValueError, match=r'a\.jpg: the sample has no gt_depth_map: load it with LoadDepth'):
        evaluate([(prediction, None)])


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(depth_metrics=['rms']), "depth_metrics has the unknown value 'rms'"),
        (dict(crop_type='nyu'), "crop_type has the unknown value 'nyu'"),
        (dict(alignment='mean'), "alignment has the unknown value 'mean'"),
        (dict(inverse=True), 'inverse=True requires an alignment'),
        (dict(inverse=True, alignment='median', depth_scale_factor=256), 'inverse=True the model predicts'),
        (dict(min_depth_eval=3, max_depth_eval=2), 'must be at least 0 and below max_depth_eval=2'),
        (dict(format_only=True), 'requires output_dir'),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DepthMetric(**arguments)


def test_scores_do_not_depend_on_processes_or_order(monkeypatch) -> None:
    pairs = [(*maps(seed, (20, 30)), f'{seed}.jpg') for seed in range(7)]
    whole = evaluate(pairs)
    parts = [DepthMetric() for _ in range(3)]
    for i, pair in enumerate(pairs):
        parts[i % 3].process(None, [sample(*pair)])
    sent = [(part._images, [row.tolist() for row in part._scores]) for part in parts]
    monkeypatch.setattr('dpt.evaluation.depth.all_gather_object', lambda own: sent)
    assert parts[1].evaluate(7) == whole
    with pytest.raises(ValueError, match='7 samples were processed but the dataset has 6'):
        parts[2].evaluate(6)


@pytest.mark.parametrize('factor', [None, 256])
def test_predictions_and_scores_are_written(tmp_path, factor) -> None:
    import cv2

    prediction, truth = maps(0, (30, 40))
    file = tmp_path / 's.npz'
    arguments = dict(output_dir=str(tmp_path / 'out'), depth_scale_factor=factor, scores_file=str(file))
    found = evaluate([(prediction, truth, 'x/a.jpg')], **arguments)
    if factor is None:
        np.testing.assert_array_equal(np.load(tmp_path / 'out' / 'a.npy'), prediction)
    else:
        written = cv2.imread(str(tmp_path / 'out' / 'a.png'), cv2.IMREAD_UNCHANGED)
        assert np.abs(written / 256 - prediction).max() <= 0.5 / 256
    scores = DepthScores.load(file)
    assert dict(zip(scores.names, scores.values[0], strict=True)) == found
    with pytest.raises(ValueError, match=r'would both be written to a\.(npy|png)'):
        evaluate([(prediction, truth, 'x/a.jpg'), (prediction, truth, 'y/a.jpg')], **arguments)
    assert evaluate([(prediction, None, 'b.jpg')], **{**arguments, 'format_only': True}) == {}


def test_real_depth_scores_by_itself(depth_samples_root) -> None:
    pipeline = [dict(type=f'Load{kind}') for kind in ('ImageFromFile', 'DepthAnnotation')]
    dataset = NYUDataset(
        data_root=str(depth_samples_root / 'nyu'),
        data_prefix=dict(img_path='images', depth_map_path='depth'),
        pipeline=[*pipeline, dict(type='PackSegInputs')],
    )
    protocol = dict(crop_type='nyu_crop', min_depth_eval=1e-3, max_depth_eval=10, alignment='median')
    evaluator = Evaluator(dict(type='DepthMetric', **protocol))
    for item in dataset:
        one: SegDataSample = item['data_samples']
        one.pred_depth_map = PixelData(data=one.gt_depth_map.data * 1.3 + 1e-6)
        evaluator.process([one], None)
    scores = evaluator.evaluate(3)
    assert scores['d1'] == 1
    assert scores['rmse'] < 1e-4
