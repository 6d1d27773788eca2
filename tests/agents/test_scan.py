"""The parallel scan against the loop it replaces, values and gradients, at every length."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldprobe.agents import linear_scan


def loop(decay: Tensor, written: Tensor, first: Tensor, reset: Tensor) -> Tensor:
    states, h = [], first
    for a, b, begins in zip(decay, written, reset, strict=True):
        h = a * torch.where(begins.unsqueeze(1), 0.0, h) + b
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64])
def test_the_scan_is_the_loop(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    leaves = [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((length, 3, 2), (length, 3, 2), (3, 2))]
    reset = torch.rand(length, 3, generator=generator) < 0.2
    weight = torch.randn(length, 3, 2, dtype=torch.float64, generator=generator)
    results = []
    for scan in (linear_scan, loop):
        inputs = decay, written, first = [leaf.clone().requires_grad_() for leaf in leaves]
        h = scan(decay, written, first, reset)
        results.append((h, *torch.autograd.grad((h * weight).sum(), inputs)))
    for parallel, serial in zip(*results, strict=True):
        torch.testing.assert_close(parallel, serial)


def test_without_resets_the_past_goes_on() -> None:
    h = linear_scan(torch.full((4, 1, 1), 0.5), torch.zeros(4, 1, 1), torch.ones(1, 1))
    torch.testing.assert_close(h.flatten(), torch.tensor([0.5, 0.25, 0.125, 0.0625]))
