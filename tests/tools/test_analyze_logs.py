"""``tools/analyze_logs.py`` as a user runs it."""

import json

import cv2


def test_table_and_picture(tool_main, tmp_path, capsys):
    for name, score in (('first', 41.25), ('second', 43.5)):
        folder = tmp_path / name / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        lines = [dict(step=10, loss=1.0, lr=0.1), dict(step=10, mIoU=score)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    main = tool_main('tools/analyze_logs.py')
    out = tmp_path / 'curves.png'
    assert main(tmp_path / 'first', tmp_path / 'second', '--out', out) == 0
    printed = capsys.readouterr().out
    assert '41.25' in printed
    assert '43.50' in printed
    assert cv2.imread(str(out)).std() > 5


def test_mistakes_end_in_a_line(tool_main, tmp_path, capsys):
    main = tool_main('tools/analyze_logs.py')
    for arguments, message in (
        ([tmp_path / 'gone'], 'no training log found'),
        ([tmp_path, '--out', tmp_path / 'curves.xyz'], 'must end in one of'),
        ([tmp_path, '--out', tmp_path / 'gone/curves.png'], 'the folder does not exist'),
    ):
        assert main(*arguments) == 1
        assert message in capsys.readouterr().err
