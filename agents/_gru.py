"""The recurrence of a gated recurrent unit with its gradient written out; in torch's own, every operation of every step is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def gru_recurrence(given: Tensor, state: Tensor, from_state: Tensor, bias: Tensor, gap: Tensor | None = None) -> Tensor:
    """Return h_1 .. h_T (T, n, hidden_size) of a GRU from what its input gives to the gates; differentiable once.

        r, z = sigmoid(g_r + U_r h + b_r), sigmoid(g_z + U_z h + b_z);  n = tanh(g_n + r (U_n h + b_n));  h' = n + z (h - n)

    Parameters
    ----------
    given : Tensor
        g = W x + b_x, (T, n, 3 hidden_size): r, z, n.
    state : Tensor
        h_0, (n, hidden_size).
    from_state, bias : Tensor
        U (3 hidden_size, hidden_size) and b (3 hidden_size,).
    gap : Tensor, optional
        bool (T, n): where h' is zeros.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents._gru import gru_recurrence
    >>> layer = torch.nn.GRU(2, 4)
    >>> from_input, from_state, input_bias, bias = layer.all_weights[0]
    >>> x = torch.randn(5, 3, 2)
    >>> h = gru_recurrence(torch.nn.functional.linear(x, from_input, input_bias), torch.zeros(3, 4), from_state, bias)
    >>> torch.allclose(h, layer(x)[0], atol=1e-6)
    True

    References
    ----------
    Cho et al. 2014; the reset gate acts after the product, as in torch.
    """
    h: Tensor = _Recurrence.apply(given, state, from_state, bias, gap)  # type: ignore[no-untyped-call]
    return h


class _Recurrence(torch.autograd.Function):
    """What does not depend on the step before is computed for all steps at once, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, state: Tensor, from_state: Tensor, bias: Tensor, gap: Tensor | None) -> Tensor:
        """Step forwards; r, z and q = U_n h + b_n are kept side by side."""
        n_steps, width = len(given), state.shape[1]
        h = torch.cat([state.unsqueeze(0), given.new_empty(n_steps, *state.shape)])
        gates, candidate, transposed = torch.empty_like(given), torch.empty_like(h[1:]), from_state.t().contiguous()
        opened, open_given = gates[..., : 2 * width], given[..., : 2 * width]
        sequences = (gates, opened, open_given, given[..., 2 * width :], *gates.chunk(3, -1), candidate, h[:-1], h[1:])
        for step, gone in zip(_steps(*sequences), _forgotten(gap, n_steps), strict=True):
            all_gates, both, g_both, g_n, r, z, q, n, before, after = step
            torch.addmm(bias, before, transposed, out=all_gates)
            both.add_(g_both).sigmoid_()
            torch.addcmul(g_n, r, q, out=n).tanh_()
            torch.lerp(n, before, z, out=after)
            if gone is not None:
                after.masked_fill_(gone, 0.0)
        ctx.save_for_backward(gates, candidate, h, from_state, gap)
        return h[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Step backwards; only what is multiplied by the gradient of h' is left for each step."""
        gates, n, h, from_state, gap = ctx.saved_tensors
        r, z, q = gates.chunk(3, -1)
        to_gates = torch.empty_like(gates)
        to_r, to_z, to_q = to_gates.chunk(3, -1)
        torch.addcmul(r, r, r, value=-1, out=to_r).mul_(q)
        torch.addcmul(z, z, z, value=-1, out=to_z).mul_(h[:-1] - n)
        to_q.copy_(r)
        to_n = (1 - z) * (1 - n.square())
        through_n = to_gates.view(*n.shape[:2], 3, -1)[..., ::2, :]
        carried = torch.zeros_like(h[0])
        backwards = reversed(list(_steps(to_gates, to_z, to_n, through_n, z, to_h)))
        for step, gone in zip(backwards, reversed(_forgotten(gap, len(n))), strict=True):
            all_gates, here_z, here_n, others, kept, given = step
            carried.add_(given)
            if gone is not None:
                carried.masked_fill_(gone, 0.0)
            here_z.mul_(carried)
            here_n.mul_(carried)
            others.mul_(here_n.unsqueeze(1))
            carried.mul_(kept).addmm_(all_gates, from_state)
        flat = to_gates.flatten(0, 1)
        to_given = torch.cat([to_gates[..., : -n.shape[-1]], to_n], -1)
        return to_given, carried, flat.t() @ h[:-1].flatten(0, 1), flat.sum(0), None


def _steps(*sequences: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield views of all sequences (T, ...), step by step."""
    return zip(*(sequence.unbind() for sequence in sequences), strict=True)


def _forgotten(gap: Tensor | None, n_steps: int) -> list[Tensor | None]:
    """Return for every step the rows (n, 1) that are in a gap, or None where none is."""
    if gap is None:
        return [None] * n_steps
    return [rows if any_row else None for rows, any_row in zip(gap.unsqueeze(-1).unbind(), gap.any(1).tolist(), strict=True)]
