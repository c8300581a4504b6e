"""Every random draw of a training follows from (seed, iteration, rank) or (seed, place in the order)."""

import random
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from dpt.registry import DATA_SAMPLERS, DATASETS

_STEP, _SAMPLE, _ORDER = range(3)  # streams that must not meet
_64_BITS = (1 << 64) - 1


def derived_seed(seed: int, *key: int) -> int:
    """Return a seed of 63 bits for ``key``; different keys give unrelated ones (splitmix64, Steele 2014)."""
    state = 0
    for part in (seed, *key):
        state = (state ^ (part & _64_BITS)) + 0x9E3779B97F4A7C15 & _64_BITS
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _64_BITS
        state ^= state >> 31
    return state >> 1


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Fix what dropout and the like draw in an iteration, on the CPU and on this process's GPU."""
    step_seed = derived_seed(seed, _STEP, iteration, rank)
    # Not torch.manual_seed, which writes down the stack for every device that is not in use: 0.5 ms.
    torch.default_generator.manual_seed(step_seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(step_seed)


class Draw(int):
    """The index of a sample to load, with the seed of all that is drawn while it is loaded."""

    seed: int

    def __new__(cls, index: int, seed: int) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __reduce__(self) -> tuple:
        return Draw, (int(self), self.seed)


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set whose pipelines draw what the :class:`Draw` says, in whatever process it is loaded.

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
        """Read the list of samples, where the data set puts that off."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Any:
        random.seed(draw.seed)
        np.random.seed(draw.seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(draw.seed)
        return self.dataset[draw]


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler):
    """An endless order of samples that can be entered anywhere.

    Place p belongs to pass p // len(dataset) over the data set, and each pass has an order of its own. The
    processes take places in turn, so that the samples of an iteration depend on the total batch alone.

    Args:
        dataset: What is sampled from.
        shuffle: Whether each pass is shuffled.
        seed: What the order follows from; ``None`` for a drawn one, the same in all processes.
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
        """Let the next iterator begin at a place: the number of samples that all processes have seen."""
        self.start = place

    def _order(self, turn: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(derived_seed(self.seed, _ORDER, turn))
        return torch.randperm(self.size, generator=generator).tolist()

    def __iter__(self) -> Iterator[Draw]:
        place = self.start + self.rank
        turn, order = -1, []
        while True:
            if place // self.size != turn:
                turn = place // self.size
                order = self._order(turn)
            yield Draw(order[place % self.size], derived_seed(self.seed, _SAMPLE, place))
            place += self.world_size

    def __len__(self) -> int:
        return self.size
