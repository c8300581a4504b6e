"""What a model costs: parameters, floating-point operations, memory, time by part."""

from dpt.profiling.device import matrix_rate
from dpt.profiling.flops import PartCost, flop_counter, part_costs, training_flops
from dpt.profiling.memory import Allocations, TensorMemory, allocations

__all__ = [
    'Allocations',
    'PartCost',
    'TensorMemory',
    'allocations',
    'flop_counter',
    'matrix_rate',
    'part_costs',
    'training_flops',
]
