"""``tools/report.py`` as a user runs it, on a training and its test."""


def test_report_of_a_training(tool_main, trained, tmp_path, capsys):
    main = tool_main('tools/report.py')
    out = tmp_path / 'report.html'
    assert main(trained, '--out', out) == 0
    html = out.read_text(encoding='utf-8')
    assert html.count('<figure>') >= 4  # validation drew four images
    assert 'num_layers=4' in html
    assert str(out) in capsys.readouterr().out


def test_mistakes_end_in_a_line(tool_main, tmp_path, capsys):
    main = tool_main('tools/report.py')
    for arguments, message in (
        ([tmp_path], 'no training log found'),
        ([tmp_path, '--number', -1], '0 or more'),
        ([tmp_path, '--out', tmp_path / 'gone/report.html'], 'the folder does not exist'),
    ):
        assert main(*arguments) == 1
        assert message in capsys.readouterr().err
