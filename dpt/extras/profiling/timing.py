"""Clocks: how long a step takes, and which part of it takes how long."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dpt.extras.profiling.device import AddedMemory, synchronize
from dpt.extras.profiling.flops import REST
from dpt.extras.profiling.parts import watch_parts

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """How long a step takes and what memory it adds.

    Attributes:
        seconds: Mean time of a step with the device kept busy, for the rate.
        latencies: Time of each step with the device waited for.
        added_mib: Memory over that before the first step, at its peak.
    """

    seconds: float
    latencies: list[float]
    added_mib: float

    @property
    def median(self) -> float:
        """Median latency in seconds."""
        return statistics.median(self.latencies)

    @property
    def p90(self) -> float:
        """Latency in seconds that nine of ten steps stay within."""
        ordered = sorted(self.latencies)
        return ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]


def time_step(step: Step, device: torch.device, *, warmup: int, iters: int) -> Timing:
    """Time a step; on a GPU twice, once without waiting between steps and once with."""
    memory = AddedMemory(device)
    for _ in range(warmup):
        step()
    latencies = []
    for _ in range(iters):
        synchronize(device)
        began = time.perf_counter()
        step()
        synchronize(device)
        latencies.append(time.perf_counter() - began)
    seconds = sum(latencies) / iters
    if device.type == 'cuda':
        seconds = _busy_seconds(step, device, iters)
    return Timing(seconds, latencies, memory.mib())


def _busy_seconds(step: Step, device: torch.device, iters: int) -> float:
    """Return the mean time on the device of steps that are given to it without waiting."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    began.record()
    for _ in range(iters):
        step()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3 / iters


class PartTimer:
    """Share the time of steps out among parts; what is in none is ``rest``.

    Parts may lie in each other: the outer one's clock stands still meanwhile. The device is waited for at
    every change, so that the sum exceeds the time of an undisturbed step where kernels are short.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    def _account(self) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._stack:
            name = self._stack[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def enter(self, name: str) -> None:
        """Start the clock of a part."""
        self._account()
        self._stack.append(name)

    def leave(self, _: str) -> None:
        """Stop the clock of the part entered last, and go on with that around it."""
        self._account()
        self._stack.pop()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is in the context as a part."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave(name)

    @contextmanager
    def method(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Time calls of a method of an object as a part, while in the context."""
        original, was_own = getattr(owner, name), name in vars(owner)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return original(*args, **kwargs)

        object.__setattr__(owner, name, timed)
        try:
            yield
        finally:
            if was_own:
                object.__setattr__(owner, name, original)
            else:
                object.__delattr__(owner, name)


def timed_parts(model: nn.Module, timer: PartTimer) -> AbstractContextManager[None]:
    """Time the parts of a model while in the context."""
    return watch_parts(model, timer.enter, timer.leave)


def time_parts(step: Step, timer: PartTimer, *, iters: int) -> dict[str, float]:
    """Return the mean seconds of each part in a step, the rest last."""
    timer.seconds.clear()
    for _ in range(iters):
        with timer.part(REST):
            step()
    rest = timer.seconds.pop(REST, 0.0)
    return {name: seconds / iters for name, seconds in [*timer.seconds.items(), (REST, rest)]}
