"""A process that shows no life, or does not move on while others wait, is named; a slow job is left alone."""

import threading

import pytest
from torch.distributed import HashStore

from dpt.engine.rank_watch import LOOKS, RankWatch, RankWatchHook


class Job:
    """Watches of several processes, which look only when they are told to."""

    def __init__(self, world_size: int = 3, timeout: float = 10) -> None:
        store = HashStore()
        self.watches = [
            RankWatch(store, rank, world_size=world_size, timeout=timeout, lost=print)
            for rank in range(world_size)
        ]

    def look(self, *ranks: int, times: int = 1) -> dict[int, str]:
        """What each of these ranks finds wrong, the first that it finds."""
        found: dict[int, str] = {}
        for _ in range(times):
            for rank in ranks:
                if text := self.watches[rank].look():
                    found.setdefault(rank, text)
        return found

    def step(self, *ranks: int) -> None:
        for rank in ranks:
            self.watches[rank].steps += 1


def test_a_slow_job_is_left_alone() -> None:
    job = Job()
    assert not job.look(0, 1, 2, times=3 * LOOKS)
    job.step(0, 1, 2)
    assert not job.look(0, 1, 2, times=3 * LOOKS)


def test_a_stopped_rank_is_named_in_time() -> None:
    job = Job()
    job.look(0, 1, 2)
    assert not job.look(0, 2, times=LOOKS - 1)
    found = job.look(0, 2, times=2)
    assert set(found) == {0}
    assert found[0].startswith('rank 1 (process ')
    assert 'no sign of life for 10 s' in found[0]


def test_a_stopped_first_rank_is_seen_by_the_others() -> None:
    job = Job()
    job.look(0, 1, 2)
    found = job.look(1, 2, times=LOOKS + 1)
    assert set(found) == {1, 2}
    assert found[2].startswith('rank 0 ')


def test_a_rank_that_never_came_is_named() -> None:
    assert 'rank 2 has given no sign of life' in Job().look(0, 1, times=LOOKS + 1)[0]


def test_a_rank_that_hangs_while_others_wait_is_named() -> None:
    job = Job()
    job.step(0, 1, 2)
    job.look(0, 1, 2)
    job.step(0, 2)
    assert not job.look(0, 1, 2, times=LOOKS - 1)
    assert 'rank 1' in job.look(0, 1, 2, times=2)[0]
    job = Job()
    job.look(0, 1, 2)
    job.step(1, 2)
    found = job.look(0, 1, 2, times=LOOKS + 1)
    assert 'rank 0' in found[1]
    assert 'it hangs' in found[1]


def test_a_rank_that_lags_but_moves_is_left_alone() -> None:
    job = Job()
    for _ in range(20):
        job.step(0, 0, 1, 2)
        assert not job.look(0, 1, 2, times=LOOKS // 2)


def test_a_rank_that_has_ended_is_not_missed() -> None:
    job = Job()
    job.look(0, 1, 2)
    job.watches[1].start()
    job.watches[1].stop()
    job.step(0, 2)
    assert not job.look(0, 2, times=3 * LOOKS)


def test_a_store_that_is_gone_is_the_first_rank_s_silence(monkeypatch) -> None:
    job = Job()
    job.look(0, 1)

    def fail(*arguments: object) -> None:
        raise RuntimeError('Connection reset by peer')

    monkeypatch.setattr(job.watches[1], 'store', type('Gone', (), dict(set=fail, get=fail, check=fail))())
    assert job.look(1, times=LOOKS + 1)[1].startswith('rank 0 (process')


def test_the_thread_reports_once_and_ends() -> None:
    reported: list[str] = []
    done = threading.Event()

    def lost(text: str) -> None:
        reported.append(text)
        done.set()

    watch = RankWatch(HashStore(), 0, world_size=2, timeout=0.1, lost=lost)
    watch.start()
    assert done.wait(30)
    watch.join(30)
    assert not watch.is_alive()
    assert len(reported) == 1


def test_the_time_out_has_to_be_one() -> None:
    with pytest.raises(ValueError, match='rank_timeout=0 must'):
        RankWatchHook(timeout=0)
