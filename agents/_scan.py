"""The linear recurrence h_t = a_t h_{t-1} + b_t over a whole sequence, in a number of steps that grows as its logarithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def linear_scan(decay: Tensor, written: Tensor, first: Tensor, reset: Tensor | None = None) -> Tensor:
    """Return h_1 .. h_T of h_t = a_t h_{t-1} + b_t, elementwise, from h_0 = `first`, and from 0 wherever a reset holds.

    Neighbouring steps are joined into one of half as many, a = a_{2k+1} a_{2k}, b = a_{2k+1} b_{2k} + b_{2k+1}, until one is left;
    then the steps between are filled in. Work grows as T, depth as log T. The gradient is the same recurrence backwards.

    Parameters
    ----------
    decay, written : Tensor
        a and b, (T, n, width).
    first : Tensor
        h_0, (n, width).
    reset : Tensor, optional
        bool (T, n): where nothing is carried into a step.

    Returns
    -------
    Tensor
        (T, n, width).

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import linear_scan
    >>> linear_scan(torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1), torch.tensor([[2.0]])).flatten()
    tensor([2., 2., 2.])

    References
    ----------
    Blelloch 1990, "Prefix sums and their applications".
    """
    if reset is not None:
        decay = decay.masked_fill(reset.unsqueeze(-1), 0.0)
        first = first.masked_fill(reset[0].unsqueeze(-1), 0.0)
    scanned: Tensor = _Scan.apply(decay, torch.cat([(written[0] + decay[0] * first).unsqueeze(0), written[1:]]))  # type: ignore[no-untyped-call]
    return scanned


class _Scan(torch.autograd.Function):
    """h_t = a_t h_{t-1} + b_t with h_0 = b_0 and its adjoint, g_t = dh_t + a_{t+1} g_{t+1}."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, written: Tensor) -> Tensor:
        """Scan forwards."""
        h = _join(decay, written)
        ctx.save_for_backward(decay, h)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Scan backwards."""
        decay, h = ctx.saved_tensors
        backwards = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)])
        to_written = _join(backwards, gradients[0].flip(0)).flip(0)
        to_decay = torch.cat([torch.zeros_like(h[:1]), to_written[1:] * h[:-1]])
        return to_decay, to_written


def _join(decay: Tensor, written: Tensor) -> Tensor:
    """Scan by joining neighbours."""
    n_steps = len(decay)
    if n_steps == 1:
        return written
    even, odd = slice(0, n_steps - 1, 2), slice(1, None, 2)
    h = torch.empty_like(written)
    h[odd] = _join(decay[odd] * decay[even], torch.addcmul(written[odd], decay[odd], written[even]))
    h[0] = written[0]
    if n_steps > 2:
        h[2::2] = torch.addcmul(written[2::2], decay[2::2], h[1:-1:2])
    return h
