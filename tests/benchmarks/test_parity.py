"""The chain can fail: a perturbed value turns the verdict of its row and the exit status."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import parity
import pytest
from parity_chain import LINKS, evaluation, predictions
from parity_chain.job import Job
from parity_chain.table import Row, exit_status, render

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(0)
STEM = 'backbone.patch_embed.projection.weight'
FUSION = 'fusion_blocks.0.project.conv.weight'


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model_arrays(names: tuple[str, ...]) -> Arrays:
    arrays = {f'{mode}.{size}': floats(3, 4) for mode in ('eval', 'train') for size in ('8x8', '8x9')}
    for kind in ('double', 'single', 'again'):
        arrays |= {f'{kind}.{name}': floats(5) for name in names}
    return arrays | {f'statistics.{name}.running_mean': floats(5) for name in names}


def optimiser_arrays(names: tuple[str, ...]) -> Arrays:
    arrays: Arrays = {f'weight.{name}': floats(50) for name in names}
    arrays |= {f'moved.{name}': floats(50) for name in names}
    arrays |= {'losses': np.linspace(5, 4, 20), 'rates': np.full(20, 6e-5)}
    again = {f'again.{name}': array for name, array in arrays.items() if not name.startswith('moved.')}
    return arrays | again


def theirs_and_ours(make: Callable[[tuple[str, ...]], Arrays]) -> tuple[Arrays, Arrays]:
    """The same arrays under the reference's names and under ours."""
    theirs = make((STEM, f'decode_head.{FUSION}'))
    return theirs, {
        name.replace('decode_head.fusion', 'neck.fusion'): array for name, array in theirs.items()
    }


def evaluation_arrays() -> tuple[Arrays, Arrays]:
    confusion = RNG.integers(1, 9, (4, 4))
    hits, truth, predicted = np.diagonal(confusion), confusion.sum(1), confusion.sum(0)
    scores: Arrays = {name: floats(4) for name in evaluation.SCORES} | {'aAcc': floats()}
    scores['IoU'][1] = np.nan
    scores['mean.mIoU'] = np.array(47.75)
    areas = dict(intersect=hits, union=truth + predicted - hits, predicted=predicted, truth=truth)
    theirs = scores | {'confusion': confusion} | {f'area.{name}': area for name, area in areas.items()}
    return theirs, scores | {'confusion': confusion}


def pipelines_arrays() -> tuple[Arrays, Arrays]:
    arrays = {
        name: RNG.integers(0, 255, 99).astype(np.uint8) for name in ('images', 'labels', 'batch_labels')
    }
    arrays |= {'batch': floats(9), 'meta': np.array(['a', 'b']), 'dataset': np.array(['2 files', 'wall'])}
    return arrays, arrays


def predictions_arrays() -> tuple[Arrays, Arrays]:
    theirs = {'image.labels': RNG.integers(0, 5, (200, 300)).astype(np.uint8)}
    return theirs, theirs | {'image.margin': np.full((200, 300), 0.1, np.float32)}


def loss_arrays() -> tuple[Arrays, Arrays]:
    from parity_chain.loss import IGNORED

    arrays = {f'{share}.decode.{name}': floats() for share in IGNORED for name in ('loss_ce', 'acc_seg')}
    return arrays, arrays


def other_loss_arrays() -> tuple[Arrays, Arrays]:
    from parity_chain.loss import IGNORED

    arrays = {f'{share}.value': floats() for share in IGNORED[:-1]}
    arrays |= {f'{share}.gradient': floats(4) for share in IGNORED[:-1]}
    return arrays, arrays


def transform_arrays() -> tuple[Arrays, Arrays]:
    arrays = {name: RNG.integers(0, 255, 99).astype(np.uint8) for name in ('images', 'labels')}
    arrays['shapes'] = np.array(['(3, 4, 3)'])
    return arrays, arrays


def groups_arrays(names: tuple[str, ...]) -> Arrays:
    settings = np.array([6e-5, 0.01, 1e-8, 0, 0.9, 0.999])
    return {'type': np.array('AdamW')} | {f'parameter.{name}': settings for name in names}


CASES: dict[tuple[str, str], Callable[[], tuple[Arrays, Arrays]]] = {
    ('model', 'project'): lambda: theirs_and_ours(model_arrays),
    ('loss', 'published'): loss_arrays,
    ('loss', 'dice'): other_loss_arrays,
    ('pipelines', 'train_CamVid'): pipelines_arrays,
    ('pipelines', 'transform_0'): transform_arrays,
    ('optimiser', 'groups'): lambda: theirs_and_ours(groups_arrays),
    ('optimiser', 'schedule'): lambda: ({'lr': np.linspace(1, 2, 8)},) * 2,
    ('optimiser', 'steps'): lambda: theirs_and_ours(optimiser_arrays),
    ('evaluation', 'seeded'): evaluation_arrays,
    ('predictions', 'whole'): predictions_arrays,
}
UNCOMPARED = ('moved.', 'again.', '1.0.decode.acc_seg', 'image.margin')


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(folder=str(tmp_path), config='', links=list(LINKS), quick=True)


def perturbed(array: np.ndarray) -> np.ndarray:
    changed = array.copy().reshape(-1)
    if changed.dtype.kind == 'U':
        changed[-1] = 'x'
    elif changed.dtype.kind == 'f':
        changed[-1] = changed[-1] * 1.1 + 0.1
    else:
        changed[-1] += 1
    return changed.reshape(array.shape)


@pytest.mark.parametrize(('link', 'case'), CASES)
def test_equal_sides_hold_and_perturbed_arrays_differ(link: str, case: str, job: Job) -> None:
    theirs, ours = CASES[link, case]()
    rows = LINKS[link].compare(case, theirs, ours, job)
    assert exit_status(rows) == 0, render(rows)
    compared = [name for name in ours if not name.startswith(UNCOMPARED)]
    assert compared
    for name in compared:
        changed = LINKS[link].compare(case, theirs, ours | {name: perturbed(ours[name])}, job)
        assert exit_status(changed) == 1, f'{name} was changed unnoticed\n{render(changed)}'


def test_missing_parameter_is_a_difference(job: Job) -> None:
    theirs, ours = theirs_and_ours(model_arrays)
    ours.pop(f'double.{STEM}')
    rows = LINKS['model'].compare('project', theirs, ours, job)
    assert [row.measure for row in rows if not row.holds] == [rows[3].measure]
    assert STEM in rows[3].note


def test_pixels_may_differ_only_at_near_ties(job: Job) -> None:
    theirs, ours = predictions_arrays()
    ours['image.labels'] = perturbed(ours['image.labels'])
    assert exit_status(predictions.compare('whole', theirs, ours, job)) == 1
    ours['image.margin'][-1, -1] = predictions.MARGIN / 2
    rows = predictions.compare('whole', theirs, ours, job)
    assert exit_status(rows) == 0
    assert '1 of 60000 pixels differ' in rows[1].note
    assert rows[1].difference == pytest.approx(predictions.MARGIN / 2)
    ours['image.labels'] = theirs['image.labels'].copy()
    ours['image.labels'][:1] += 1
    ours['image.margin'][:] = 0
    assert [row.holds for row in predictions.compare('whole', theirs, ours, job)] == [False, True]


def test_table_shows_differences_tolerances_and_verdicts() -> None:
    good, bad, odd = (Row('model', 'logits', value, 1e-5, 'worst: x') for value in (1e-6, 2e-5, float('nan')))
    text = render([good, bad, odd])
    assert [line.split()[-1] for line in text.splitlines() if line.startswith('model')] == [
        'holds',
        'DIFFERS',
        'DIFFERS',
    ]
    assert '1 of 3 comparisons hold' in text
    assert [exit_status(rows) for rows in ([good], [good, bad], [odd], [])] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--links', 'model,los'], "unknown ['los']; choose from model,loss"),
        (['--peer-python', '/nowhere/python'], 'create it with benchmarks/setup_peer.sh'),
        (['--data-root', '/nowhere', '--links', 'pipelines'], '/nowhere with images/'),
        (['--links', 'evaluation'], "No module named 'mmseg'"),
    ],
)
def test_wrong_arguments_and_peers_are_errors_of_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, 'disable', lambda level: None)  # for the tests after this one
        assert parity.main(['--peer-python', sys.executable, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith('error: ')
