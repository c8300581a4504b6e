"""Computing again instead of keeping: the same gradients from fewer tensors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dpt.models.layers import keep_intermediates, recomputed


class Block(nn.Module):
    """GELU between two layers, computed again or kept."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.again = nn.Linear(4, 64), nn.Linear(64, 4), again

    def forward(self, x: Tensor) -> Tensor:
        gelu: Callable = nn.functional.gelu
        if self.again:
            return recomputed(gelu, self.second, self.first(x))
        return self.second(gelu(self.first(x)))


def gradients(block: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> tuple[list[Tensor], int]:
    """Gradients of a block, and how many elements its forward pass keeps in activations."""
    x = torch.linspace(-1, 1, 40).view(10, 4).requires_grad_()
    kept = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = run(block, x).square().sum()
    return list(torch.autograd.grad(loss, (x, *block.parameters()))), sum(kept.values())


def test_gradients_are_the_same_bit_by_bit_and_the_result_is_not_kept() -> None:
    again, kept = (gradients(Block(flag), lambda block, x: block(x)) for flag in (True, False))
    for one, other in zip(again[0], kept[0], strict=True):
        assert torch.equal(one, other)
    assert again[1] <= kept[1] - 640  # 10 rows of 64


@pytest.mark.parametrize('times', [1, 2])
def test_the_backward_pass_may_run_again(times: int) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    loss = Block(True)(x).sum()
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    for _ in range(times):
        assert torch.equal(torch.autograd.grad(loss, x, retain_graph=True)[0], first)


def test_a_checkpoint_around_it_recomputes_the_whole() -> None:
    def whole(block: nn.Module, x: Tensor) -> Tensor:
        context = lambda: (keep_intermediates(), keep_intermediates())  # noqa: E731
        return checkpoint(block, x, use_reentrant=False, context_fn=context)

    again, kept = gradients(Block(True), whole), gradients(Block(False), lambda block, x: block(x))
    for one, other in zip(again[0], kept[0], strict=True):
        torch.testing.assert_close(one, other)


def test_without_gradients_nothing_is_computed_twice() -> None:
    calls = []

    def cheap(x: Tensor) -> Tensor:
        calls.append(x)
        return x + 1

    with torch.no_grad():
        assert torch.equal(recomputed(cheap, lambda x: 2 * x, torch.ones(2)), torch.full((2,), 4.0))
    assert len(calls) == 1
