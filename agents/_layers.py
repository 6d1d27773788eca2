"""Recurrent layers on fused kernels, with the written-out equations for what these hide, and their memoryless control."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from worldprobe.agents._gates import GateWeights, check_fused, gru_gates, gru_update, lstm_cells, lstm_gates
from worldprobe.agents._gru import gru_recurrence
from worldprobe.agents._undrawn import undrawn

SHUT = -1e4
"""What shuts a gate to exactly 0, whatever else it is given."""
INPUTS_MORE = 8
AS_ONE_LAYER = (True, 1, 0.0, False, False, False)
"""has_biases, num_layers, dropout, train, bidirectional, batch_first."""


def without(values: Tensor, gap: Tensor | None) -> Tensor:
    """Return values (..., width) with zeros where `gap` (...) holds."""
    return values if gap is None else values.masked_fill(gap.unsqueeze(-1), 0.0)


class RecurrentLayer(nn.Module, ABC):
    """A layer whose flat state is the concatenation of its `leaves` (h first).

    Parameters
    ----------
    hidden_size : int
        Width of every leaf and of what `others` names.
    leaves, others : tuple of str
        What the state is made of, and what else `record` returns.
    """

    def __init__(self, hidden_size: int, leaves: tuple[str, ...], others: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.leaves = dict.fromkeys(leaves, hidden_size)
        self.others = dict.fromkeys(others, hidden_size)

    @property
    def state_size(self) -> int:
        """Width of the flat state."""
        return sum(self.leaves.values())

    @abstractmethod
    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (T, n, input_size) to y (T, n, hidden_size) and the last state, which is zeros after rows where `gap` (T, n) holds."""

    @abstractmethod
    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return y, and leaves and others over one unbroken stretch, each (T, n, width)."""

    def given(self, x: Tensor, h: Tensor) -> Tensor:
        """Return y (n, hidden_size) of a step that took in x (n, input_size) and came to h (n, hidden_size)."""
        return h

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights."""

    @abstractmethod
    def recurrent_matrices(self) -> list[Tensor]:
        """Return the square matrices (views) through which the state acts on itself; none where it does so in no other way."""


class FusedLayer(RecurrentLayer, ABC):
    """A layer on a kernel of torch, which runs a whole sequence and knows of no gaps."""

    fused: nn.RNNBase

    def initialise(self, generator: torch.Generator) -> None:
        """Draw Xavier input weights and orthogonal recurrent ones, gate by gate; zero biases."""
        from_input, from_state, *biases = self.fused.all_weights[0]
        for matrix in torch.split(from_input, self.fused.hidden_size):
            nn.init.xavier_uniform_(matrix, generator=generator)
        for matrix in torch.split(from_state, self.fused.hidden_size):
            nn.init.orthogonal_(matrix, generator=generator)
        for bias in biases:
            nn.init.zeros_(bias)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return each gate's recurrent matrix (hidden_size, hidden_size), a view."""
        return list(torch.split(self.fused.all_weights[0][1], self.fused.hidden_size))

    def weights(self) -> GateWeights:
        """Return the kernel's weights."""
        return GateWeights(*self.fused.all_weights[0])


class GatedLayer(FusedLayer):
    """One whose gates are shut in gaps by one input more, so that what it carries becomes zeros, without a gradient.

    Exactly; only a GRU whose products are rounded to TF32 (on a GPU) keeps what rounding changes of its bias.
    """

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the kernel once."""
        if gap is None:
            return self.unbroken(x, state)
        more = (0, INPUTS_MORE - 1)  # columns of zeros: widths that are multiples of 8 stay so, which kernels like
        from_input, *others = self.fused.all_weights[0]
        marked = torch.cat([x, pad(gap.to(x.dtype).unsqueeze(-1), more)], -1)
        widened = torch.cat([from_input, pad(self.shut().unsqueeze(-1), more)], 1)
        with warnings.catch_warnings() if x.is_cuda else nullcontext():
            if x.is_cuda:  # it says that the weights lie apart, which they do: they are new at every call
                warnings.filterwarnings("ignore", "RNN module weights are not part of")
            return self.with_weights([widened, *others], marked, state)

    @abstractmethod
    def unbroken(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the kernel over x (T, n, input_size) without gaps: y and the last state."""

    @abstractmethod
    def with_weights(self, weights: list[Tensor], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The same with other weights than its own."""

    @abstractmethod
    def shut(self) -> Tensor:
        """Return what the gates (n_gates hidden_size,) are given in gaps, for the state to become zeros."""


class RNNLayer(FusedLayer):
    """h' = tanh(W x + U h); state h.

    References
    ----------
    Elman 1990.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",))
        self.fused = undrawn(nn.RNN, input_size, hidden_size)

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the kernel from one gap of any row to the next: there is no gate that could be shut."""
        ends = [] if gap is None else (gap.any(1).nonzero().flatten() + 1).tolist()
        parts = []
        for begin, end in pairwise(sorted({0, *ends, len(x)})):
            y, h = self.fused(x[begin:end], state.unsqueeze(0))
            parts.append(y)
            state = h.squeeze(0) if gap is None else without(h.squeeze(0), gap[end - 1])
        return torch.cat(parts), state

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return h, which is all there is."""
        y, _ = self.sequence(x, state)
        return y, {"h": y}


class LSTMLayer(GatedLayer):
    """i, f, o = sigmoid(W x + U h), g = tanh(W x + U h), c' = f c + i g, h' = o tanh(c'); state [h | c].

    References
    ----------
    Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 (forget gate).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        gates = ("gates.input", "gates.forget", "gates.cell", "gates.output")
        super().__init__(hidden_size, leaves=("h", "c"), others=gates)
        self.fused = undrawn(nn.LSTM, input_size, hidden_size)

    def unbroken(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the fused kernel; a single step is the cell alone, which does not pack the weights anew."""
        h, c = state.chunk(2, -1)
        if len(x) == 1:
            h, c = torch.lstm_cell(x[0], (h, c), *self.fused.all_weights[0])
            return h.unsqueeze(0), torch.cat([h, c], -1)
        y, (h, c) = self.fused(x, (h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()))
        return y, torch.cat([h, c], -1).squeeze(0)

    def with_weights(self, weights: list[Tensor], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Call what the layer calls."""
        h, c = (leaf.unsqueeze(0).contiguous() for leaf in state.chunk(2, -1))
        y, h, c = torch.lstm(x, (h, c), weights, *AS_ONE_LAYER)
        return y, torch.cat([h, c], -1).squeeze(0)

    def shut(self) -> Tensor:
        """Shut every gate."""
        return torch.full_like(self.fused.all_weights[0][2], SHUT)

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Recompute the gates from the fused h, all steps at once, and scan the cell."""
        y, _ = self.sequence(x, state)
        h, c = state.chunk(2, -1)
        gates = lstm_gates(self.weights(), x, torch.cat([h.unsqueeze(0), y[:-1]]))
        cells = lstm_cells(gates, c)
        check_fused(gates["output"] * cells.tanh(), y, "an LSTM layer")
        return y, {"h": y, "c": cells, **{f"gates.{name}": values for name, values in gates.items()}}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights; the forget gate begins open (bias 1)."""
        super().initialise(generator)
        with torch.no_grad():
            self.fused.all_weights[0][2].chunk(4)[1].fill_(1.0)


class GRULayer(GatedLayer):
    """r, z = sigmoid(W x + U h), n = tanh(W x + r (U h + b)), h' = (1 - z) n + z h; state h.

    The update gate z keeps the past; the reset gate acts after the product.

    References
    ----------
    Cho et al. 2014.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",), others=("gates.reset", "gates.update", "gates.candidate"))
        self.fused = undrawn(nn.GRU, input_size, hidden_size)

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the kernel once, on zeros in gaps; where a CPU learns, the recurrence with a written-out gradient instead."""
        if torch.is_grad_enabled() and x.device.type == "cpu" and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()):
            from_input, from_state, input_bias, state_bias = self.fused.all_weights[0]
            h = gru_recurrence(linear(x, from_input, input_bias), state, from_state, state_bias, gap)
            return h, h[-1]
        return super().sequence(without(x, gap), state, gap)

    def unbroken(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the library's kernel."""
        y, h = self.fused(x, state.unsqueeze(0))
        return y, h.squeeze(0)

    def with_weights(self, weights: list[Tensor], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Call what the layer calls."""
        y, h = torch.gru(x, state.unsqueeze(0), weights, *AS_ONE_LAYER)
        return y, h.squeeze(0)

    def shut(self) -> Tensor:
        """Shut r and z, and take back the bias of n: where x is zeros and r is shut, it is all that n is given."""
        r, z, n = self.fused.all_weights[0][2].chunk(3)
        return torch.cat([torch.full_like(r, SHUT), torch.full_like(z, SHUT), -n])

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Recompute the gates from the kernel's h, all steps at once."""
        y, _ = self.sequence(x, state)
        h = torch.cat([state.unsqueeze(0), y[:-1]])
        gates = gru_gates(self.weights(), x, h)
        check_fused(gru_update(gates, h), y, "a GRU layer")
        return y, {"h": y, **{f"gates.{name}": values for name, values in gates.items()}}


class FeedForwardLayer(RecurrentLayer):
    """h = relu(W x): the memoryless control. The state is h, so that it can be recorded like any other; nothing reads it."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",))
        self.dense = undrawn(nn.Linear, input_size, hidden_size)

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Look at every step by itself."""
        y = without(self.dense(x).relu(), gap)
        return y, y[-1]

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return h, which is all there is."""
        y, _ = self.sequence(x, state)
        return y, {"h": y}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw orthogonal weights (gain sqrt 2)."""
        nn.init.orthogonal_(self.dense.weight, 2**0.5, generator=generator)
        nn.init.zeros_(self.dense.bias)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return none: nothing is carried."""
        return []
