"""Measure the cost of a model: parameters, floating-point operations, memory, and time by part."""

from dpt.extras.profiling.costs import (
    ModelCost,
    PartCost,
    TensorMemory,
    flop_counter,
    model_cost,
    part_costs,
    training_flops,
)
from dpt.extras.profiling.hook import UtilizationHook
from dpt.extras.profiling.timing import matrix_rate

__all__ = [
    'ModelCost',
    'PartCost',
    'TensorMemory',
    'UtilizationHook',
    'flop_counter',
    'matrix_rate',
    'model_cost',
    'part_costs',
    'training_flops',
]
