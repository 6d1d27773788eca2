"""Recurrent layers whose recurrence is linear in the state, so that a sequence is one scan, gaps inside it included."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from worldprobe.agents._layers import RecurrentLayer, without
from worldprobe.agents._scan import linear_scan
from worldprobe.agents._undrawn import undrawn

SLOWEST, FASTEST = 0.999, 0.5
"""Range in which the decays of a linear recurrence begin: time constants of 1.4 to 1,000 steps."""


class LRULayer(RecurrentLayer):
    """h' = a h + sqrt(1 - a^2) W x with a = exp(-exp(rate)) per unit, y = gelu(V h + D x); state h.

    The real part of the linear recurrent unit: every unit forgets at its own rate, whatever it receives.

    References
    ----------
    Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences" (there with complex decays).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",), others=("y",))
        self.rate = nn.Parameter(torch.empty(hidden_size))
        self.from_input = undrawn(nn.Linear, input_size, hidden_size, bias=False)
        self.from_state = undrawn(nn.Linear, hidden_size, hidden_size)
        self.skip = undrawn(nn.Linear, input_size, hidden_size, bias=False)

    def decay(self) -> Tensor:
        """Return a (hidden_size,), each in (0, 1)."""
        return torch.exp(-torch.exp(self.rate))

    def _scan(self, x: Tensor, state: Tensor, gap: Tensor | None) -> tuple[Tensor, Tensor]:
        decay = self.decay()
        written = self.from_input(x) * (1 - decay.square()).sqrt()
        h = linear_scan(decay.expand_as(written), without(written, gap), state, gap)
        return self.given(x, h), h

    def given(self, x: Tensor, h: Tensor) -> Tensor:
        """Return gelu(V h + D x)."""
        return gelu(self.from_state(h) + self.skip(x))

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one scan."""
        y, h = self._scan(x, state, gap)
        return y, h[-1]

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return h, and y, which the next layer sees."""
        y, h = self._scan(x, state, None)
        return y, {"h": h, "y": y}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw Xavier weights, and decays whose squares are uniform."""
        for layer in (self.from_input, self.from_state, self.skip):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(self.from_state.bias)
        with torch.no_grad():
            squares = torch.rand(self.rate.shape, generator=generator) * (SLOWEST**2 - FASTEST**2) + FASTEST**2
            self.rate.copy_(torch.log(-0.5 * squares.log()))

    def recurrent_matrices(self) -> list[Tensor]:
        """Return none: the state acts on itself unit by unit."""
        return []


class MinGRULayer(RecurrentLayer):
    """z = sigmoid(W x), n = V x, h' = (1 - z) h + z n; state h. Gates do not see the state, so a sequence is one scan.

    Here z writes the new (in a GRU of torch, z keeps the past). The scan is plain, not in logarithms.

    References
    ----------
    Feng et al. 2024, "Were RNNs all we needed?".
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(hidden_size, leaves=("h",), others=("gates.update", "gates.candidate"))
        self.from_input = undrawn(nn.Linear, input_size, 2 * hidden_size)

    def _scan(self, x: Tensor, state: Tensor, gap: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        update, candidate = self.from_input(x).chunk(2, -1)
        update = update.sigmoid()
        return linear_scan(1 - update, without(update * candidate, gap), state, gap), update, candidate

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one scan."""
        h, _, _ = self._scan(x, state, gap)
        return h, h[-1]

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return h and the gates."""
        h, update, candidate = self._scan(x, state, None)
        return h, {"h": h, "gates.update": update, "gates.candidate": candidate}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw Xavier weights; the past is kept for a few steps (update bias -1)."""
        update, candidate = self.from_input.weight.chunk(2)
        for matrix in (update, candidate):
            nn.init.xavier_uniform_(matrix, generator=generator)
        nn.init.zeros_(self.from_input.bias)
        with torch.no_grad():
            self.from_input.bias.chunk(2)[0].fill_(-1.0)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return none: the state acts on itself unit by unit."""
        return []
