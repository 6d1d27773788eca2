"""The equations of gated recurrent layers, written out: what fused kernels compute and keep to themselves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

FUSED_TOLERANCE = 1e-4
"""Largest difference allowed between a fused kernel and the written-out equations (float32; 1e-6 is usual)."""

Gates = dict[str, Tensor]
"""Gate to its values (..., hidden_size)."""


class GateWeights(NamedTuple):
    """The weights of one recurrent layer, the gates below each other as torch keeps them."""

    from_input: Tensor
    """W, (n_gates * hidden_size, input_size)."""
    from_state: Tensor
    """U, (n_gates * hidden_size, width of h)."""
    input_bias: Tensor | None = None
    state_bias: Tensor | None = None
    projection: Tensor | None = None
    """P of an LSTM whose h is narrower than its cell, (width of h, hidden_size)."""


def lstm_gates(weights: GateWeights, x: Tensor, h: Tensor) -> Gates:
    """Return i, f, o = sigmoid(W x + U h) and g = tanh(W x + U h), as "input", "forget", "output" and "cell".

    Parameters
    ----------
    weights : GateWeights
        One layer.
    x, h : Tensor
        (..., input_size) and (..., width of h): what came in, and h *before* it.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import GateWeights, lstm_gates, lstm_update
    >>> cell = torch.nn.LSTMCell(2, 3)
    >>> x, h, c = torch.ones(1, 2), torch.zeros(1, 3), torch.zeros(1, 3)
    >>> gates = lstm_gates(GateWeights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh), x, h)
    >>> torch.allclose(lstm_update(gates, c)[1], cell(x, (h, c))[1])
    True
    """
    from_input, from_state = _products(weights, x, h)
    i, f, g, o = (from_input + from_state).chunk(4, -1)
    return {"input": i.sigmoid(), "forget": f.sigmoid(), "cell": g.tanh(), "output": o.sigmoid()}


def lstm_update(gates: Gates, c: Tensor, projection: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return h' = o tanh(c') (times P, if there is one) and c' = f c + i g."""
    c = gates["forget"] * c + gates["input"] * gates["cell"]
    h = gates["output"] * c.tanh()
    return h if projection is None else linear(h, projection), c


def lstm_cells(gates: Gates, c: Tensor) -> Tensor:
    """Scan c' = f c + i g over time: gates (T, n, hidden_size) and the first c (n, hidden_size) give c' (T, n, hidden_size)."""
    cells = []
    for forget, written in zip(gates["forget"], gates["input"] * gates["cell"], strict=True):
        c = forget * c + written
        cells.append(c)
    return torch.stack(cells)


def gru_gates(weights: GateWeights, x: Tensor, h: Tensor) -> Gates:
    """Return r, z = sigmoid(W x + U h) and n = tanh(W x + r (U h + b)), as "reset", "update" and "candidate".

    Parameters
    ----------
    weights : GateWeights
        One layer.
    x, h : Tensor
        (..., input_size) and (..., hidden_size): what came in, and h *before* it.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import GateWeights, gru_gates, gru_update
    >>> cell = torch.nn.GRUCell(2, 3)
    >>> x, h = torch.ones(1, 2), torch.ones(1, 3)
    >>> gates = gru_gates(GateWeights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh), x, h)
    >>> torch.allclose(gru_update(gates, h), cell(x, h))
    True
    """
    from_input, from_state = _products(weights, x, h)
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    return {"reset": r, "update": z, "candidate": (n_x + r * n_h).tanh()}


def gru_update(gates: Gates, h: Tensor) -> Tensor:
    """Return h' = (1 - z) n + z h: the update gate z keeps the past."""
    return (1 - gates["update"]) * gates["candidate"] + gates["update"] * h


def check_fused(written_out: Tensor, fused: Tensor, name: str) -> None:
    """Refuse gates that do not reproduce the state they are said to have made.

    Raises
    ------
    RuntimeError
        If the largest difference exceeds 1e-4 (or what the precision of `fused` allows), relative to the largest entry where that
        exceeds 1.
    """
    gap = (written_out - fused).abs().max().item()
    allowed = max(FUSED_TOLERANCE, 4 * torch.finfo(fused.dtype).eps) * max(1.0, fused.abs().max().item())
    if not gap <= allowed:
        raise RuntimeError(
            f"recomputed gates of {name} give states {gap:.1e} away from the fused kernel's, expected at most {allowed:.0e}; "
            "check the inputs and the weights for NaN, and that the kernel ran in the precision of its weights"
        )


def _products(weights: GateWeights, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return W x + b and U h + b'."""
    return linear(x, weights.from_input, weights.input_bias), linear(h, weights.from_state, weights.state_bias)
