"""The written-out gradient of a GRU against torch's own layer and against finite differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from worldprobe.agents._gru import gru_recurrence

D = 3


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_values_and_gradients_are_those_of_torch(length: int, n: int, width: int, seed: int) -> None:
    layer = nn.GRU(D, width, dtype=torch.float64)
    weights = layer.all_weights[0]
    x, state, along = draw(length, n, D, seed=seed), draw(n, width, seed=seed + 1), draw(length, n, width, seed=seed + 2)
    given_of_x = nn.functional.linear(x, weights[0], weights[2])
    own = gru_recurrence(given_of_x, state, weights[1], weights[3])
    torchs, _ = layer(x, state.unsqueeze(0))
    torch.testing.assert_close(own, torchs)
    wanted = [x, state, *weights]
    mine, other = (torch.autograd.grad((h * along).sum(), wanted) for h in (own, torchs))
    torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("gaps", [0.0, 0.4, 1.0])
def test_the_gradient_is_that_of_finite_differences(gaps: float) -> None:
    gap = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) < gaps
    inputs = (draw(5, 3, 12, seed=0), draw(3, 4, seed=1), draw(12, 4, seed=2), draw(12, seed=3))
    assert torch.autograd.gradcheck(lambda g, state, u, b: gru_recurrence(g, state, u, b, gap), inputs)


def test_the_gradient_can_be_asked_for_twice() -> None:
    """Nothing that was kept is written over."""
    leaves = (draw(5, 3, 12, seed=0), draw(3, 4, seed=1), draw(12, 4, seed=2), draw(12, seed=3))
    h = gru_recurrence(*leaves).square().sum()
    first = torch.autograd.grad(h, leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(h, leaves), first, rtol=0, atol=0)
