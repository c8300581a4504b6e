"""``tools/analyze_logs.py`` as a user runs it."""

import json

import cv2


def test_table_and_picture(call, tmp_path):
    for name, score in (('first', 41.25), ('second', 43.5)):
        folder = tmp_path / name / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [dict(step=10, loss=1.0, lr=0.1), dict(step=10, mIoU=score)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    out = tmp_path / 'curves.png'
    status, printed, _ = call('analyze_logs', tmp_path / 'first', tmp_path / 'second', '--out', out)
    assert status == 0
    assert '41.25' in printed
    assert '43.50' in printed
    assert cv2.imread(str(out)).std() > 5
