"""What the tools print and log."""

import json
from pathlib import Path


def result_of(output: str) -> dict:
    """The metrics that test.py prints last."""
    return json.loads(output.splitlines()[-1].removeprefix('RESULT '))


def logged(work_dir: Path, key: str) -> list[dict]:
    """The lines of all training logs that have a value, in order."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if key in line]
