"""What the runner needs beside mmengine's own parts."""

from dpt.engine.checkpoint_hook import CheckpointHook
from dpt.engine.class_check import ClassCheckHook
from dpt.engine.cudnn_search import CudnnSearchHook
from dpt.engine.log_processor import LogProcessor
from dpt.engine.loops import IterBasedTrainLoop
from dpt.engine.non_finite_hook import NonFiniteHook
from dpt.engine.optim_constructor import DefaultOptimWrapperConstructor
from dpt.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from dpt.engine.pretrained import PretrainedInit
from dpt.engine.randomness import InfiniteSampler, SeededDataset
from dpt.engine.rank_watch import RankWatchHook
from dpt.engine.run_info import RunInfoHook
from dpt.engine.runtime_info import RuntimeInfoHook
from dpt.engine.signals import StopSignalHook
from dpt.engine.sync_buffers import SyncBuffersHook

__all__ = [
    'AmpOptimWrapper',
    'CheckpointHook',
    'ClassCheckHook',
    'CudnnSearchHook',
    'DefaultOptimWrapperConstructor',
    'InfiniteSampler',
    'IterBasedTrainLoop',
    'LogProcessor',
    'NonFiniteHook',
    'OptimWrapper',
    'PretrainedInit',
    'RankWatchHook',
    'RunInfoHook',
    'RuntimeInfoHook',
    'SeededDataset',
    'StopSignalHook',
    'SyncBuffersHook',
]
