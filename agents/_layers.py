"""One recurrent layer: the fused kernel for speed, the written-out equations for what it hides."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from worldprobe.agents._gates import GateWeights, check_fused, gru_gates, gru_update, lstm_cells, lstm_gates


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
        gates = lstm_gates(GateWeights(*self.fused.all_weights[0]), x, torch.cat([h.unsqueeze(0), y[:-1]]))
        cells = lstm_cells(gates, c)
        check_fused(gates["output"] * cells.tanh(), y, "an LSTM layer")
        return {"h": y, "c": cells, **{f"gates.{name}": values for name, values in gates.items()}}

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
        gates = gru_gates(GateWeights(*self.fused.all_weights[0]), x, h)
        check_fused(gru_update(gates, h), y, "a GRU layer")
        return {"h": y, **{f"gates.{name}": values for name, values in gates.items()}}

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
