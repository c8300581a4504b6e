"""The verdict of scaling.py, and one of its measurements."""

import scaling


def rows(**changes: float) -> list[dict]:
    first = dict(sweep='side', value=256, mode='train', gflop=1.0, cpu_s=1.0, peak_mib=10.0)
    return [first, dict(first, value=512, gflop=5.0, cpu_s=5.0, peak_mib=40.0) | changes]


def test_what_grows_as_the_arithmetic_says_holds() -> None:
    judged = scaling.judge(rows())
    assert judged[1]['excess'] == dict(cpu_s=1.0, peak_mib=1.0)
    assert all(map(scaling.holds, judged))
    assert 'GROWS FASTER' not in scaling.table(judged)


def test_time_may_grow_as_pixels_where_the_products_grow_slower() -> None:
    assert scaling.judge(rows(gflop=2.0, cpu_s=4.0))[1]['excess']['cpu_s'] == 1.0


def test_what_grows_faster_is_told() -> None:
    for changes in (dict(peak_mib=44.0), dict(cpu_s=7.5)):
        judged = scaling.judge(rows(**changes))
        assert [scaling.holds(row) for row in judged] == [True, False]
        assert scaling.table(judged).count('GROWS FASTER') == 1


def test_processes_have_their_own_images() -> None:
    two = rows(gflop=1.0, cpu_s=1.0, peak_mib=10.0)
    two = [dict(row, sweep='processes', value=i + 1) for i, row in enumerate(two)]
    assert scaling.judge(two)[1]['excess'] == dict(cpu_s=1.0, peak_mib=1.0)


def test_both_steps_are_measured_and_drawn(tmp_path) -> None:
    settings = dict(scaling.DEFAULTS, side=64, classes=3)
    found = scaling.measure(settings, distributed=False)
    assert [row['mode'] for row in found] == ['train', 'predict']
    assert all(row[key] > 0 for row in found for key in ('gflop', 'cpu_s', 'peak_mib'))
    scaling.draw([dict(sweep='side', value=64, **row) for row in found], str(tmp_path / 'a.png'))
    assert (tmp_path / 'a.png').stat().st_size > 5000
