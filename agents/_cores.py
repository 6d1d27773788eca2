"""Recurrent cores: a flat state goes in and out, one step and a whole sequence are the same map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldprobe.agents._layers import RecurrentLayer
from worldprobe.agents._undrawn import undrawn


@dataclass(frozen=True)
class CoreShape:
    """Sizes of a core, and how its layers follow each other."""

    input_size: int
    """Width of what comes in."""
    hidden_size: int
    """Width of every layer."""
    n_layers: int = 1
    """Number of layers."""
    residual: bool = False
    """Whether every layer above the first adds what it received to what it gives."""
    layer_norm: bool = False
    """Whether what a layer above the first receives is normalised (after the residual branches off)."""
    n_ticks: int = 1
    """Times that a drc core is run on every step."""
    map_size: tuple[int, int] = (0, 0)
    """Height and width of what comes in, where that is maps."""


class Core(nn.Module, ABC):
    """What carries the past: `(x, state) -> (y, state)`, for a step and for a sequence.

    The state is one flat tensor (n, state_size), zeros at the start of an episode.
    """

    output_size: int
    state_size: int
    sites: dict[str, int]
    """Name and width of all that `record` returns beside "core.state"."""

    @abstractmethod
    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x (T, n, input_size) to y (T, n, output_size) and the last state.

        Where `gap` (T, n) holds there is no step: the state is zeros after it whatever came before, and y means nothing. So unbroken
        pieces can lie one behind another in a row, with gaps between them.
        """

    @abstractmethod
    def given(self, x: Tensor, state: Tensor) -> Tensor:
        """Return y (n, output_size) of a step that took in x (n, input_size) and came to `state` (n, state_size)."""

    @property
    @abstractmethod
    def carried(self) -> dict[str, Tensor]:
        """For each site that is part of the state, its columns there, int64 (width,)."""

    @abstractmethod
    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return y (T, n, output_size), and every site (T, n, width) with "core.state" (T, n, state_size), of an unbroken stretch."""

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights."""

    @abstractmethod
    def recurrent_matrices(self) -> list[Tensor]:
        """Return the square matrices (views) through which the state acts on itself; none where there are none."""

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
    shape : CoreShape
        Widths and depth.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import CORES, CoreShape
    >>> core = CORES["lstm"](CoreShape(input_size=3, hidden_size=8, n_layers=2))
    >>> core.initialise(torch.Generator().manual_seed(0))
    >>> y, state = core.sequence(torch.ones(5, 1, 3), torch.zeros(1, core.state_size))
    >>> y.shape, state.shape, core.sites["core.h"]
    (torch.Size([5, 1, 8]), torch.Size([1, 32]), 16)
    """

    def __init__(self, layer: Callable[[int, int], RecurrentLayer], shape: CoreShape) -> None:
        super().__init__()
        widths = [shape.input_size] + [shape.hidden_size] * (shape.n_layers - 1)
        self.layers = nn.ModuleList(layer(width, shape.hidden_size) for width in widths)
        norms = (undrawn(nn.LayerNorm, shape.hidden_size) for _ in widths[1:])
        self.norms = nn.ModuleList(norms if shape.layer_norm else (nn.Identity() for _ in widths[1:]))
        self.residual = shape.residual
        self.output_size = shape.hidden_size
        self.state_size = sum(each.state_size for each in self._stack)
        self.sites = {f"core.{name}": width * shape.n_layers for name, width in self._stack[0].leaves.items()}
        for depth, each in enumerate(self._stack):
            self.sites |= {f"core.{depth}.{name}": width for name, width in {**each.leaves, **each.others}.items()}

    @property
    def _stack(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def _split(self, state: Tensor) -> tuple[Tensor, ...]:
        return torch.split(state, [layer.state_size for layer in self._stack], -1)

    def _received(self, depth: int, x: Tensor) -> Tensor:
        """Return what a layer receives of what the one below gave."""
        received: Tensor = self.norms[depth - 1](x) if depth else x
        return received

    def _given(self, depth: int, x: Tensor, y: Tensor) -> Tensor:
        """Return what a layer hands on."""
        return x + y if self.residual and depth else y

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run every layer over the whole sequence."""
        lasts = []
        for depth, (layer, first) in enumerate(zip(self._stack, self._split(state), strict=True)):
            y, last = layer.sequence(self._received(depth, x), first, gap)
            x = self._given(depth, x, y)
            lasts.append(last)
        return x, torch.cat(lasts, -1)

    def given(self, x: Tensor, state: Tensor) -> Tensor:
        """Follow what every layer hands on."""
        for depth, (layer, own) in enumerate(zip(self._stack, self._split(state), strict=True)):
            h = own[..., : layer.leaves["h"]]
            x = self._given(depth, x, layer.given(self._received(depth, x), h))
        return x

    @property
    def carried(self) -> dict[str, Tensor]:
        """Return the columns of every leaf, over all layers."""
        columns: dict[str, list[Tensor]] = {name: [] for name in self._stack[0].leaves}
        begin = 0
        for layer in self._stack:
            for name, width in layer.leaves.items():
                columns[name].append(torch.arange(begin, begin + width))
                begin += width
        return {f"core.{name}": torch.cat(parts) for name, parts in columns.items()}

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run every layer, and recompute what its fused kernel keeps to itself."""
        records = []
        for depth, (layer, first) in enumerate(zip(self._stack, self._split(state), strict=True)):
            y, recorded = layer.record(self._received(depth, x), first)
            x = self._given(depth, x, y)
            records.append(recorded)
        leaves = self._stack[0].leaves
        sites = {f"core.{name}": torch.cat([record[name] for record in records], -1) for name in leaves}
        for depth, record in enumerate(records):
            sites |= {f"core.{depth}.{name}": values for name, values in record.items()}
        return x, sites | {"core.state": torch.cat([record[name] for record in records for name in leaves], -1)}

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights of every layer; norms begin as none."""
        for layer in self._stack:
            layer.initialise(generator)
        for norm in self.norms:
            if isinstance(norm, nn.LayerNorm):
                norm.reset_parameters()

    def recurrent_matrices(self) -> list[Tensor]:
        """Return the recurrent matrix of every gate of every layer."""
        return [matrix for layer in self._stack for matrix in layer.recurrent_matrices()]
