"""Read the scalars that a training logged, joining resumed sessions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

SCORES = {'mIoU': True, 'abs_rel': False, 'd1': True}
"""Scores of validations in the table, and whether more is better; each is shown if a run has it."""
LAST = 10
"""Number of last log lines over which the loss in the table is averaged."""


@dataclass
class RunLog:
    """Log of a training.

    Args:
        name: Work directory or file, as given.
        sessions: Log files, one per session.
        train: Training lines sorted by step: ``step``, ``loss``, ``lr``, ``time`` and others.
        val: Validation lines sorted by step: ``step``, ``mIoU`` and others.
    """

    name: str
    sessions: list[Path] = field(default_factory=list)
    train: list[dict] = field(default_factory=list)
    val: list[dict] = field(default_factory=list)

    def join(self, path: Path, lines: list[dict]) -> None:
        """Add a later session, which replaces the lines of earlier sessions from its first step on."""
        train = [line for line in lines if 'loss' in line]
        if not train:  # a test in the same folder, or a failed start
            return
        val = [line for line in lines if 'loss' not in line]
        # A session may begin with the validation of the step from which it resumes.
        first, first_val = train[0]['step'], min(line['step'] for line in lines)
        self.train = [line for line in self.train if line['step'] < first] + train
        self.val = [line for line in self.val if line['step'] < first_val] + val
        if not any(line['step'] < first for line in self.train):
            self.sessions = []
        self.sessions.append(path)

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Return the steps at which a training or validation value was logged, and the values."""
        lines = [line for line in (*self.train, *self.val) if key in line]
        return [line['step'] for line in lines], [line[key] for line in lines]

    def summary(self) -> dict[str, float | None]:
        """Return the columns of the table; values that were not logged are None."""
        losses = self.series('loss')[1][-LAST:]
        rates, times, memory = (self.series(key)[1] for key in ('images_per_s', 'time', 'memory'))
        times = times[: len(self.train)]  # validation logs the time per image
        return {
            'iterations': self.train[-1]['step'],
            'loss': mean(losses),
            'peak lr': max(self.series('lr')[1], default=None),
            **self._summary_of_scores(),
            'images/s': median(rates) if rates else None,
            's/iteration': median(times) if times else None,
            'memory MiB': max(memory) if memory else None,
        }

    def score(self) -> str:
        """Return the name of the score by which the run is judged: the first of ``SCORES`` that it has."""
        return next((name for name in SCORES if self.series(name)[1]), 'mIoU')

    def _summary_of_scores(self) -> dict[str, float | None]:
        name = self.score()
        steps, scores = self.series(name)
        choose = max if SCORES[name] else min
        best = choose(range(len(scores)), key=scores.__getitem__) if scores else None
        return {
            f'best {name}': None if best is None else scores[best],
            'at': None if best is None else steps[best],
            f'last {name}': scores[-1] if scores else None,
        }


def find_sessions(path: Path) -> list[Path]:
    """Return the log files of a work directory, oldest first, or the given log file.

    Raises:
        FileNotFoundError: If there is no log.
    """
    if path.is_file():
        return [path]
    # The folder of a session is named after its start time.
    for pattern in ('*/vis_data/scalars.json', 'vis_data/scalars.json', 'scalars.json'):
        files = sorted(path.glob(pattern))
        if files:
            return files
    raise FileNotFoundError(
        f'{path}: no training log found: expected a work directory that contains */vis_data/scalars.json, or '
        'such a file'
    )


def read_lines(path: Path, earlier: Sequence[dict] = ()) -> list[dict]:
    """Read a log with one JSON object per line, skipping an incomplete last line.

    Args:
        path: The log.
        earlier: Training lines of earlier sessions, for the validation with which a session may begin.

    Raises:
        ValueError: If a line is not a JSON object with a step.
    """
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    found: list[dict] = []
    # The last iteration of each epoch.
    ends = {line['epoch']: line['step'] for line in earlier if 'epoch' in line}
    epoch = max(ends, default=None)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            step = record['step']
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and found:
                break
            raise ValueError(
                f'{path}, line {number}: not a JSON object with a step, as in vis_data/scalars.json'
            ) from None
        # With log_with_hierarchy=True, names begin with the phase.
        record = {key.removeprefix('train/').removeprefix('val/'): value for key, value in record.items()}
        if 'base_lr' in record:  # the configured lr; 'lr' is that of the first group
            record['lr'] = record['base_lr']
        if 'loss' in record:
            epoch = record.get('epoch')
            ends[epoch] = step
        elif step in ends and (step == epoch or not found):  # a validation may be logged by epoch
            step = ends[step]
        found.append(dict(record, step=int(step)))
    return found


def read_run(path: str | Path) -> RunLog:
    """Read the log of a training.

    Args:
        path: Work directory, whose sessions are joined, or log file.

    Raises:
        FileNotFoundError: If there is no log.
        ValueError: If a file is not a log, or there is no training iteration.
    """
    path = Path(path)
    run = RunLog(str(path))
    for file in find_sessions(path):
        run.join(file, read_lines(file, run.train))
    if not run.train:
        raise ValueError(f'{path}: the log has no training iteration (a line with a loss)')
    return run


def table(runs: list[RunLog]) -> str:
    """Format the summaries of runs as a table with one row per run."""
    names = [run.name if len(run.name) <= 40 else f'...{run.name[-37:]}' for run in runs]
    width = max(len('run'), *map(len, names))
    summaries = [run.summary() for run in runs]
    keys = list(dict.fromkeys(key for summary in summaries for key in summary))
    header = f'{"run":<{width}}' + ''.join(f'{key:>14}' for key in keys)
    rows = [
        f'{name:<{width}}' + ''.join(f'{_cell(key, summary.get(key)):>14}' for key in keys)
        for name, summary in zip(names, summaries, strict=True)
    ]
    return '\n'.join([header, '-' * len(header), *rows])


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return '-'
    if key in ('iterations', 'at', 'memory MiB'):
        return f'{value:.0f}'
    return f'{value:.2f}' if 'mIoU' in key else f'{value:.4g}'
