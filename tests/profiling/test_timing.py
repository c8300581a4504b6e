"""Clocks, with a clock of our own."""

import pytest
import torch
from mmengine.structures import PixelData

from dpt.extras.profiling import device, timing
from dpt.extras.profiling.device import AddedMemory, matrix_rate
from dpt.extras.profiling.timing import PartTimer, Timing, time_parts, time_step, timed_parts
from dpt.registry import MODELS
from dpt.structures import SegDataSample

CPU = torch.device('cpu')


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def tick(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, 'time', clock)
    return clock


def test_the_clock_of_the_outer_part_stands_still(clock: Clock) -> None:
    timer = PartTimer(CPU)

    def step() -> None:
        clock.tick(1)
        with timer.part('outer'):
            clock.tick(2)
            with timer.part('inner'):
                clock.tick(4)
            clock.tick(8)
        clock.tick(16)

    assert time_parts(step, timer, iters=3) == dict(inner=4, outer=10, rest=17)


def test_methods_are_timed_and_put_back(clock: Clock) -> None:
    class Worker:
        def work(self, seconds: float) -> str:
            clock.tick(seconds)
            return 'done'

    worker, timer = Worker(), PartTimer(CPU)
    with timer.method(worker, 'work', 'part'):
        assert worker.work(3) == 'done'
    worker.work(5)
    assert timer.seconds == dict(part=3)
    assert not vars(worker)


def test_rate_and_latency(clock: Clock) -> None:
    durations = iter([100, *range(1, 11)])  # the first warms up
    result = time_step(lambda: clock.tick(next(durations)), CPU, warmup=1, iters=10)
    assert (result.seconds, result.median, result.p90) == (5.5, 5.5, 10)


def test_nine_of_ten_stay_within_p90() -> None:
    assert Timing(0, [float(i) for i in range(20)], 0).p90 == 18
    assert Timing(0, [7.0], 0).p90 == 7


def test_memory_that_work_adds() -> None:
    memory = AddedMemory(CPU)
    torch.ones(64 << 20, dtype=torch.uint8)
    assert 60 < memory.mib() < 200


def test_the_matrix_rate_draws_nothing() -> None:
    state = torch.get_rng_state()
    assert matrix_rate(CPU, torch.float32, repeats=1) > 1e9
    assert torch.equal(state, torch.get_rng_state())


def test_every_part_is_timed_in_training_and_prediction(model_config: dict) -> None:
    model = MODELS.build(model_config)
    images, timer = torch.zeros(1, 3, 64, 64), PartTimer(CPU)
    parts = {'backbone', 'reassemble', 'convs', 'fusion', 'project', 'classifier'}
    with timed_parts(model, timer), torch.no_grad():
        model.eval()(images, mode='predict')
    assert parts <= set(timer.seconds)
    timer.seconds.clear()
    label = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 64, 64, dtype=torch.uint8)))
    with timed_parts(model, timer):
        model.train().loss(images, [label])
    assert parts <= set(timer.seconds)


def test_the_matrix_rate_of_a_cpu_is_that_of_its_faster_library(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = 2 * 1024**3
    for matrices, convolution in ((0.5, 0.25), (0.25, 0.5)):
        durations = iter([matrices] * 3 + [convolution] * 3)
        monkeypatch.setattr(device, '_seconds', lambda work, on, durations=durations: next(durations))
        assert matrix_rate(CPU, torch.float32, repeats=2) == operations / 0.25


def test_memory_that_earlier_work_has_left_is_not_counted_as_there() -> None:
    small = [torch.ones(60 << 10, dtype=torch.uint8) for _ in range(2000)]
    last = torch.ones(60 << 10, dtype=torch.uint8)  # keeps the top of the heap in use
    del small
    memory = AddedMemory(CPU)
    again = [torch.ones(60 << 10, dtype=torch.uint8) for _ in range(2000)]
    assert memory.mib() > 80
    del again, last
