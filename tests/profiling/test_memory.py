"""Live bytes of tensors."""

import torch

from dpt.extras.profiling import TensorMemory, allocations

KIB = 256  # floats


def test_live_and_peak_bytes_of_a_chain() -> None:
    x = torch.zeros(KIB)  # from before: not counted
    with TensorMemory() as memory:
        y = x + 1
        z = y * 2
        assert memory.live == 2048
        del y
        assert memory.live == 1024
        z.add_(1)
        z[:10].mul_(2)
        x.view(16, 16).t()
        assert memory.live == 1024
        del z
    assert (memory.live, memory.peak, memory.largest) == (0, 2048, 1024)


def test_what_autograd_keeps_is_alive_until_the_backward_pass() -> None:
    x = torch.zeros(KIB, requires_grad=True)
    with TensorMemory() as memory:
        y = x.exp().exp().sum()
        assert memory.live == 2 * 1024 + 4
        y.backward()
        del y
        assert memory.live == 1024  # the gradient
    assert x.grad is not None


def test_a_storage_counts_once_however_many_views_it_has() -> None:
    with TensorMemory() as memory:
        parts = torch.zeros(4 * KIB).split(KIB)
        assert memory.live == 4096
        kept = parts[0]
        del parts
        assert memory.live == 4096
        del kept
        assert memory.live == 0


def test_unfused_attention_shows() -> None:
    q = torch.zeros(1, 2, 512, 8)
    peaks = {}
    for backend in (torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.nn.attention.SDPBackend.MATH):
        with torch.nn.attention.sdpa_kernel(backend), TensorMemory() as memory:
            torch.nn.functional.scaled_dot_product_attention(q, q, q)
        peaks[backend.name] = memory.peak
    assert peaks['FLASH_ATTENTION'] < 4 * 2 * 512 * 512 <= peaks['MATH']


def test_the_allocator_tells_scratch_memory_too() -> None:
    @torch.library.custom_op('dpt_tests::scratch', mutates_args=())
    def scratch(x: torch.Tensor) -> torch.Tensor:
        return (x.new_zeros(1000) + 1)[:10].clone()

    kept = []
    result = allocations(lambda: kept.append(scratch(torch.zeros(1))))
    assert (result.largest, result.left) == (4000, 40)
    assert 8000 <= result.peak < 8200
    assert result.operators['dpt_tests::scratch'] == 1
