"""One recurrent layer: the fused kernel for speed, the written-out equations for what it hides."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

FUSED_TOLERANCE = 1e-4
"""Largest difference allowed between a fused kernel and the written-out equations (float32; 1e-6 is usual)."""


class RecurrentLayer(nn.Module, ABC):
    """A layer whose flat state is the concatenation of its `leaves` (h first).

    Parameters
    ----------
    hidden_size : int
        Width of every leaf and gate.
    leaves, gates : tuple of str
        What the state is made of, and what else `record` returns.
    """

    def __init__(self, hidden_size: int, leaves: tuple[str, ...], gates: tuple[str, ...]) -> None:
        super().__init__()
        self.leaves = dict.fromkeys(leaves, hidden_size)
        self.gates = dict.fromkeys((f"gates.{name}" for name in gates), hidden_size)

    @property
    def state_size(self) -> int:
        """Width of the flat state."""
        return sum(self.leaves.values())

    @abstractmethod
    def sequence(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (T, n, input_size) to h (T, n, hidden_size) and the last state."""

    @abstractmethod
    def record(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return leaves and gates over time, each (T, n, width)."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights."""

    @abstractmethod
    def recurrent_matrices(self) -> list[Tensor]:
        """Return the square matrices (views) through which the state acts on itself."""


class LSTMLayer(RecurrentLayer):
    """i, f, o = sigmoid(W x + U h), g = tanh(W x + U h), c' = f c + i g, h' = o tanh(c'); state [h | c].

    References
    ----------
    Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 (forget gate).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h", "c"), gates=("input", "forget", "cell", "output"))
        self.fused = nn.LSTM(input_size, hidden_size, device="meta").to_empty(device="cpu")

    def sequence(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the fused kernel."""
        h, c = state.chunk(2, -1)
        y, (h, c) = self.fused(x, (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()))
        return y, torch.cat([h, c], -1).squeeze(0)

    def record(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Recompute the gates from the fused h, all steps at once, and scan the cell."""
        y, _ = self.sequence(x, state)
        h, c = state.chunk(2, -1)
        from_input, from_state = _products(self.fused, x, torch.cat([h.unsqueeze(0), y[:-1]]))
        i, f, g, o = (from_input + from_state).chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cells = []
        for t in range(x.shape[0]):
            c = f[t] * c + i[t] * g[t]
            cells.append(c)
        cell = torch.stack(cells)
        _check_fused(o * cell.tanh(), y)
        return {"h": y, "c": cell, "gates.input": i, "gates.forget": f, "gates.cell": g, "gates.output": o}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights; the forget gate begins open (bias 1)."""
        _initialise(self.fused, generator)
        with torch.no_grad():
            self.fused.all_weights[0][2].chunk(4)[1].fill_(1.0)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return each gate's recurrent matrix (hidden_size, hidden_size), a view."""
        return _gate_matrices(self.fused)


class GRULayer(RecurrentLayer):
    """r, z = sigmoid(W x + U h), n = tanh(W x + r (U h + b)), h' = (1 - z) n + z h; state h.

    The update gate z keeps the past; the reset gate acts after the product.

    References
    ----------
    Cho et al. 2014.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",), gates=("reset", "update", "candidate"))
        self.fused = nn.GRU(input_size, hidden_size, device="meta").to_empty(device="cpu")

    def sequence(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the library's kernel."""
        y, h = self.fused(x, state.unsqueeze(0))
        return y, h.squeeze(0)

    def record(self, x: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Recompute the gates from the kernel's h, all steps at once."""
        y, _ = self.sequence(x, state)
        h = torch.cat([state.unsqueeze(0), y[:-1]])
        from_input, from_state = _products(self.fused, x, h)
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3, -1), from_state.chunk(3, -1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = (n_x + r * n_h).tanh()
        _check_fused((1 - z) * n + z * h, y)
        return {"h": y, "gates.reset": r, "gates.update": z, "gates.candidate": n}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights."""
        _initialise(self.fused, generator)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return each gate's recurrent matrix (hidden_size, hidden_size), a view."""
        return _gate_matrices(self.fused)


def _initialise(fused: nn.RNNBase, generator: torch.Generator) -> None:
    """Draw Xavier input weights and orthogonal recurrent ones, gate by gate; zero biases."""
    from_input, from_state, *biases = fused.all_weights[0]
    for matrix in torch.split(from_input, fused.hidden_size):
        nn.init.xavier_uniform_(matrix, generator=generator)
    for matrix in torch.split(from_state, fused.hidden_size):
        nn.init.orthogonal_(matrix, generator=generator)
    for bias in biases:
        nn.init.zeros_(bias)


def _gate_matrices(fused: nn.RNNBase) -> list[Tensor]:
    return list(torch.split(fused.all_weights[0][1], fused.hidden_size))


def _products(fused: nn.RNNBase, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return W x + b and U h + b' of every step."""
    from_input, from_state, input_bias, state_bias = fused.all_weights[0]
    return linear(x, from_input, input_bias), linear(h, from_state, state_bias)


def _check_fused(written_out: Tensor, fused: Tensor) -> None:
    """Refuse gates that do not reproduce the output they are said to have made."""
    gap = (written_out - fused).abs().max().item()
    if not gap <= FUSED_TOLERANCE:
        raise RuntimeError(
            f"recomputed gates give outputs {gap:.1e} away from the fused kernel's, expected at most {FUSED_TOLERANCE:.0e}; "
            "check the inputs and the weights for NaN"
        )
