"""Recurrent cores: a flat state goes in and out, one step and a whole sequence are the same map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from worldprobe.agents._layers import GRULayer, LSTMLayer, RecurrentLayer


class Core(nn.Module, ABC):
    """What carries the past: `(x, state, reset) -> (y, state)` for a step, `(x, state) -> (y, state)` for a sequence.

    The state is one flat tensor (n, state_size), zeros at the start of an episode. No reset may fall inside a sequence.
    """

    output_size: int
    state_size: int
    sites: dict[str, int]
    """Name and width of all that `record` returns beside "core.state"."""

    @abstractmethod
    def sequence(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (T, n, input_size) to y (T, n, output_size) and the last state."""

    @abstractmethod
    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return y (T, n, output_size), and every site (T, n, width) with "core.state" (T, n, state_size)."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights."""

    @abstractmethod
    def recurrent_matrices(self) -> list[Tensor]:
        """Return the square matrices (views) through which the state acts on itself."""

    def step(self, x: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (n, input_size) to y (n, output_size) and the next state, from zeros where `reset` (n,) holds."""
        y, state = self.sequence(x.unsqueeze(0), state.masked_fill(reset.unsqueeze(-1), 0.0))
        return y.squeeze(0), state


class LayeredCore(Core):
    """Recurrent layers on top of each other.

    Parameters
    ----------
    layer : callable
        Builds a layer from its input size and hidden size.
    input_size, hidden_size, n_layers : int
        Widths and depth.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import CORES
    >>> core = CORES["lstm"](3, 8, 2)
    >>> core.initialise(torch.Generator().manual_seed(0))
    >>> y, state = core.sequence(torch.ones(5, 1, 3), torch.zeros(1, core.state_size))
    >>> y.shape, state.shape, core.sites["core.h"]
    (torch.Size([5, 1, 8]), torch.Size([1, 32]), 16)
    """

    def __init__(self, layer: Callable[[int, int], RecurrentLayer], input_size: int, hidden_size: int, n_layers: int) -> None:
        super().__init__()
        widths = [input_size] + [hidden_size] * n_layers
        self.layers = nn.ModuleList(layer(width, hidden_size) for width in widths[:-1])
        self.output_size = hidden_size
        self.state_size = sum(each.state_size for each in self._stack)
        self.sites = {f"core.{name}": width * n_layers for name, width in self._stack[0].leaves.items()}
        for depth, each in enumerate(self._stack):
            self.sites |= {f"core.{depth}.{name}": width for name, width in {**each.leaves, **each.gates}.items()}

    @property
    def _stack(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def _split(self, state: Tensor) -> tuple[Tensor, ...]:
        return torch.split(state, [layer.state_size for layer in self._stack], -1)

    def sequence(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run every layer over the whole sequence."""
        lasts = []
        for layer, first in zip(self._stack, self._split(state), strict=True):
            x, last = layer.sequence(x, first)
            lasts.append(last)
        return x, torch.cat(lasts, -1)

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run every layer, and recompute what its fused kernel keeps to itself."""
        records = []
        for layer, first in zip(self._stack, self._split(state), strict=True):
            records.append(layer.record(x, first))
            x = records[-1]["h"]
        leaves = self._stack[0].leaves
        sites = {f"core.{name}": torch.cat([record[name] for record in records], -1) for name in leaves}
        for depth, record in enumerate(records):
            sites |= {f"core.{depth}.{name}": values for name, values in record.items()}
        return x, sites | {"core.state": torch.cat([record[name] for record in records for name in leaves], -1)}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights of every layer."""
        for layer in self._stack:
            layer.initialise(generator)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return the recurrent matrix of every gate of every layer."""
        return [matrix for layer in self._stack for matrix in layer.recurrent_matrices()]


CORES: dict[str, Callable[[int, int, int], Core]] = {
    "lstm": lambda input_size, hidden_size, n_layers: LayeredCore(LSTMLayer, input_size, hidden_size, n_layers),
    "gru": lambda input_size, hidden_size, n_layers: LayeredCore(GRULayer, input_size, hidden_size, n_layers),
}
"""Every core, by name: `(input_size, hidden_size, n_layers) -> Core`."""
