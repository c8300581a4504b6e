"""Resumable samplers and deterministic seeds.

Every random draw of a training depends only on (seed, iteration, rank) or (seed, position in the sample
order), so that a resumed run equals an uninterrupted one, whatever the number of processes and workers.
"""

import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from dpt.registry import DATA_SAMPLERS, DATASETS

_STEP, _SAMPLE, _ORDER = range(3)  # independent streams
_64_BITS = (1 << 64) - 1


def derived_seed(seed: int, *key: int) -> int:
    """Return a 63-bit seed for ``key``; different keys yield independent seeds (splitmix64, Steele 2014)."""
    state = 0
    for part in (seed, *key):
        state = (state ^ (part & _64_BITS)) + 0x9E3779B97F4A7C15 & _64_BITS
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _64_BITS
        state ^= state >> 31
    return state >> 1


def broadcast_seed(seed: int) -> int:
    """Return the seed of rank 0."""
    seeds = [seed]
    broadcast_object_list(seeds)
    return seeds[0]


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Seed the random generators of an iteration (dropout, drop path) on the CPU and the current GPU."""
    step_seed = derived_seed(seed, _STEP, iteration, rank)
    random.seed(step_seed)
    np.random.seed(step_seed & 0xFFFFFFFF)
    # torch.manual_seed formats a stack trace for every device that is not in use, which takes 0.5 ms.
    torch.default_generator.manual_seed(step_seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(step_seed)


class Draw(int):
    """Index of a sample, with the seed for loading it."""

    seed: int

    def __new__(cls, index: int, seed: int) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.seed)


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Data set that seeds the random generators with the seed of each :class:`Draw` before loading it.

    Args:
        dataset: The data set or its config.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    @property
    def metainfo(self) -> dict:
        """Metainfo of the data set."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Initialise a lazy data set."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # before __init__, as in copying
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, draw: Draw) -> Any:
        random.seed(draw.seed)
        np.random.seed(draw.seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(draw.seed)
        return self.dataset[draw]


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler):
    """Sampler that repeats the data set endlessly and can start at any position.

    Position p belongs to pass p // len(dataset); every pass is shuffled differently. The processes take
    positions in turn, so the samples of an iteration depend only on the total batch size.

    Args:
        dataset: Data set to sample from.
        shuffle: Whether to shuffle each pass.
        seed: Seed of the order; ``None`` for a random seed shared by all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.size = len(dataset)
        if not self.size:
            raise ValueError('the training data set is empty: check data_root, data_prefix and ann_file')
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def start_at(self, place: int) -> None:
        """Make the next iterator start after ``place`` samples, counted over all processes."""
        self.start = place

    def advance(self, place: int, count: int) -> int:
        """Return the position after an iteration of ``count`` samples, counted over all processes."""
        return place + count

    def next_pass(self, place: int) -> int:
        """Return the start position of the next pass, or ``place`` if a pass starts there."""
        return -(-place // self.size) * self.size

    def _order(self, turn: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(derived_seed(self.seed, _ORDER, turn))
        return torch.randperm(self.size, generator=generator).tolist()

    def _draw(self, order: list[int], index: int, place: int) -> Draw:
        return Draw(order[index % self.size], derived_seed(self.seed, _SAMPLE, place))

    def __iter__(self) -> Iterator[Draw]:
        place = self.start + self.rank
        turn, order = -1, []
        while True:
            if place // self.size != turn:
                turn = place // self.size
                order = self._order(turn)
            yield self._draw(order, place, place)
            place += self.world_size

    def __len__(self) -> int:
        """Number of samples of this process in one pass."""
        return -(-self.size // self.world_size)


@DATA_SAMPLERS.register_module()
class DefaultSampler(InfiniteSampler):
    """mmengine's sampler of one pass over the data set, which here can start at any position.

    Args:
        dataset: Data set to sample from.
        shuffle: Whether to shuffle each pass.
        seed: Seed of the order; ``None`` for a random seed shared by all processes.
        round_up: Whether to repeat samples so that every process gets the same number. Training needs this;
            an evaluation would count the repeated samples twice.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = False
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        self.round_up = round_up

    def advance(self, place: int, count: int) -> int:
        """Return the place after an iteration; the last iteration of a pass may have fewer samples."""
        return min(place + count, (place // self.size + 1) * self.size)

    def _places(self, begin: int) -> range:
        """Return the positions in a pass that this process loads, from ``begin`` on.

        Positions past the end repeat samples.
        """
        end = self.size
        if self.round_up:
            end = begin - (begin - end) // self.world_size * self.world_size
        return range(begin + self.rank, end, self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        turn, begin = divmod(self.start, self.size)
        order = self._order(turn)
        for index in self._places(begin):
            yield self._draw(order, index, turn * self.size + index)

    def __len__(self) -> int:
        """Number of samples of this process in one pass."""
        return len(self._places(0))
