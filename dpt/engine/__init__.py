"""Training engine: runner, loop, checkpoints, optimiser, signals, distributed training, logs."""

from dpt.engine.checkpointing import CheckpointHook
from dpt.engine.distributed import SyncBuffersHook
from dpt.engine.hooks import ClassCheckHook, RunInfoHook
from dpt.engine.logging import LogProcessor, RuntimeInfoHook
from dpt.engine.loop import EpochBasedTrainLoop, IterBasedTrainLoop
from dpt.engine.non_finite import NonFiniteHook
from dpt.engine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper, enable_amp
from dpt.engine.runner import PretrainedInit, Runner, build_runner
from dpt.engine.sampling import DefaultSampler, InfiniteSampler, SeededDataset
from dpt.engine.stop import StopSignalHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'ClassCheckHook',
    'DefaultOptimWrapperConstructor',
    'DefaultSampler',
    'EpochBasedTrainLoop',
    'InfiniteSampler',
    'IterBasedTrainLoop',
    'LogProcessor',
    'NonFiniteHook',
    'OptimWrapper',
    'PretrainedInit',
    'RunInfoHook',
    'Runner',
    'RuntimeInfoHook',
    'SeededDataset',
    'StopSignalHook',
    'SyncBuffersHook',
    'build_runner',
    'enable_amp',
]
