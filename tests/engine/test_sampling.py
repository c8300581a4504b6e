"""Sample order and random seeds."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch

from dpt.engine.sampling import DefaultSampler, Draw, InfiniteSampler, SeededDataset, derived_seed, seed_step


def drawn(sampler: InfiniteSampler, count: int) -> list[tuple[int, int]]:
    return [(int(draw), draw.seed) for draw in islice(iter(sampler), count)]


def test_each_pass_has_every_sample_once_in_another_order() -> None:
    order = [index for index, _ in drawn(InfiniteSampler(range(7), seed=0), 21)]
    passes = [order[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert drawn(InfiniteSampler(range(7), seed=1), 7) != drawn(InfiniteSampler(range(7), seed=0), 7)


@pytest.mark.parametrize('place', [0, 3, 7, 100])
def test_sampling_can_start_at_any_position(place: int) -> None:
    whole, late = InfiniteSampler(range(7), seed=3), InfiniteSampler(range(7), seed=3)
    late.start_at(place)
    assert drawn(late, 9) == drawn(whole, place + 9)[place:]


def test_samples_of_an_iteration_do_not_depend_on_the_processes() -> None:
    alone = drawn(InfiniteSampler(range(10), seed=0), 24)
    samplers = [InfiniteSampler(range(10), seed=0) for _ in range(3)]
    for rank, sampler in enumerate(samplers):
        sampler.rank, sampler.world_size = rank, 3
    shares = [drawn(sampler, 8) for sampler in samplers]
    for step in range(4):  # each of two samples per process, six in total
        together = {draw for share in shares for draw in share[2 * step : 2 * step + 2]}
        assert together == set(alone[6 * step : 6 * step + 6])


def test_a_pickled_draw_is_an_index_with_its_seed() -> None:
    draw = pickle.loads(pickle.dumps(Draw(5, 77)))
    assert [10, 11, 12, 13, 14, 15][draw] == 15
    assert draw.seed == 77


def test_loading_depends_only_on_the_seed_of_the_draw() -> None:
    class Noise(torch.utils.data.Dataset):
        metainfo: dict = {}

        def __getitem__(self, index: int) -> tuple:
            return index, random.random(), np.random.rand(), torch.rand(1).item()

    dataset = SeededDataset(Noise())
    first = dataset[Draw(1, 2**62 + 5)]
    dataset[Draw(1, 6)]
    assert dataset[Draw(1, 2**62 + 5)] == first
    assert dataset[Draw(1, 6)][1:] != first[1:]
    assert dataset[Draw(2, 2**62 + 5)] == (2, *first[1:])


def test_derived_seeds_differ() -> None:
    seeds = {derived_seed(seed, a, b) for seed in range(3) for a in range(10) for b in range(10)}
    assert len(seeds) == 300


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(ValueError, match='empty'):
        InfiniteSampler([], seed=0)


def shares(processes: int, start: int, *, round_up: bool) -> list[list[tuple[int, int]]]:
    samplers = [DefaultSampler(range(10), seed=0, round_up=round_up) for _ in range(processes)]
    for rank, sampler in enumerate(samplers):
        sampler.rank, sampler.world_size = rank, processes
        sampler.start_at(start)
    return [drawn(sampler, 100) for sampler in samplers]


@pytest.mark.parametrize('processes', [1, 3, 4])
@pytest.mark.parametrize('start', [0, 6, 10, 16])
def test_finite_passes_do_not_depend_on_the_processes(processes: int, start: int) -> None:
    (alone,) = shares(1, start, round_up=False)
    exact = shares(processes, start, round_up=False)
    assert sorted(draw for share in exact for draw in share) == sorted(alone)
    rounded = shares(processes, start, round_up=True)
    assert {draw for share in rounded for draw in share} >= set(alone)
    assert len({len(share) for share in rounded}) == 1
    sampler = DefaultSampler(range(10), seed=0, round_up=True)
    assert sampler.advance(start, 100) == sampler.next_pass(start + 1)


def test_steps_seed_every_generator() -> None:
    draws = []
    for iteration in (3, 4, 3):
        seed_step(0, iteration, rank=0)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[2] != draws[1]
