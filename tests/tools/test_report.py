"""``tools/report.py`` on a training."""


def test_report_of_a_training(call, trained, tmp_path):
    out = tmp_path / 'report.html'
    status, printed, _ = call('report', trained, '--out', out)
    assert status == 0
    assert str(out) in printed
    html = out.read_text(encoding='utf-8')
    assert html.count('<figure>') >= 4  # validation drew four images
    assert 'num_layers=4' in html
