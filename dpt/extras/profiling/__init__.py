"""What a model costs: parameters, floating-point operations, memory, time by part."""

from dpt.extras.profiling.device import matrix_rate
from dpt.extras.profiling.flops import PartCost, flop_counter, part_costs, training_flops
from dpt.extras.profiling.memory import Allocations, TensorMemory, allocations

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
