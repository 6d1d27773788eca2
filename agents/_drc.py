"""DRC(D, N): a stack of convolutional LSTMs that is run several times on every observation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from worldprobe.agents._cores import Core, CoreShape
from worldprobe.agents._undrawn import undrawn

KERNEL = 3
"""Width of every convolution: a tick moves information by one cell."""

States = tuple[list[Tensor], list[Tensor]]
"""h and c of every module, each (n, channels, height, width)."""


class ConvLSTM(nn.Module):
    """One module: i, f, o = sigmoid(...), g = tanh(...), c' = f c + i g, h' = o tanh(c'), of maps.

    Each gate is a convolution of the encoded observation with a boundary plane (`given`, the same at every tick), of the
    hidden map below and its own, and a linear function, the same in all cells, of its own map's mean and largest value
    per channel (pool and inject).

    Parameters
    ----------
    channels : int
        Of every map.
    """

    gate_names = ("input", "forget", "cell", "output")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_input = undrawn(nn.Conv2d, channels + 1, 4 * channels, KERNEL, padding="same")
        self.from_hidden = undrawn(nn.Conv2d, 2 * channels, 4 * channels, KERNEL, padding="same", bias=False)
        self.inject = undrawn(nn.Linear, 2 * channels, 4 * channels, bias=False)

    def given(self, encoded: Tensor) -> Tensor:
        """Return what every tick adds to the gates, from maps (n, channels, height, width)."""
        boundary = torch.zeros_like(encoded[:, :1])
        boundary[..., [0, -1], :] = 1.0
        boundary[..., [0, -1]] = 1.0
        maps: Tensor = self.from_input(torch.cat([encoded, boundary], 1))
        return maps

    def gates(self, given: Tensor, below: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return i, f, g, o."""
        pooled = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        maps = given + self.from_hidden(torch.cat([below, h], 1)) + self.inject(pooled)[..., None, None]
        i, f, g, o = maps.chunk(4, 1)
        return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()

    def initialise(self, generator: torch.Generator) -> None:
        """Draw Xavier weights gate by gate; the forget gate begins open (bias 1)."""
        for layer in (self.from_input, self.from_hidden, self.inject):
            for weight in layer.weight.chunk(4):
                nn.init.xavier_uniform_(weight, generator=generator)
        assert self.from_input.bias is not None
        nn.init.zeros_(self.from_input.bias)
        with torch.no_grad():
            self.from_input.bias.chunk(4)[1].fill_(1.0)


class DRCCore(Core):
    """D modules on top of each other, N ticks per step with the same weights; y is the top map plus the encoded observation.

    At every tick a module sees the new map of the module below, the first one the top map of the tick before. The state is
    [h | c] of every module. Sites: "core.0.h", "core.0.tick2.h", "core.0.tick2.c" and the gates of every tick; "core.h" joins
    the modules after the last tick.

    Parameters
    ----------
    shape : CoreShape
        `hidden_size` channels, `n_layers` modules, `n_ticks`, and the map's height and width.

    Raises
    ------
    ValueError
        If the input is not `hidden_size` maps.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import CORES, CoreShape
    >>> core = CORES["drc"](CoreShape(input_size=4 * 25, hidden_size=4, n_layers=2, n_ticks=3, map_size=(5, 5)))
    >>> core.sites["core.h"], core.sites["core.1.tick2.gates.forget"], core.state_size
    (200, 100, 400)

    References
    ----------
    Guez et al. 2019, "An investigation of model-free planning", section 3.
    """

    def __init__(self, shape: CoreShape) -> None:
        super().__init__()
        width = shape.hidden_size * math.prod(shape.map_size)
        if min(shape.map_size) < 1 or shape.input_size != width:
            raise ValueError(
                f"a drc core of {shape.hidden_size} channels needs as many maps as input; got {shape.input_size} numbers for maps of "
                f"{shape.map_size}: choose a convolutional encoder whose last size is hidden_size, in a world that is seen as an image"
            )
        self._map = (shape.hidden_size, *shape.map_size)
        self._n_ticks = shape.n_ticks
        self.layers = nn.ModuleList(ConvLSTM(shape.hidden_size) for _ in range(shape.n_layers))
        self.output_size = width
        self.state_size = 2 * width * shape.n_layers
        self.sites = {"core.h": width * shape.n_layers, "core.c": width * shape.n_layers}
        leaves = ("h", "c", *(f"gates.{name}" for name in ConvLSTM.gate_names))
        for depth in range(shape.n_layers):
            self.sites |= {f"core.{depth}.h": width, f"core.{depth}.c": width}
            self.sites |= {f"core.{depth}.tick{tick}.{leaf}": width for tick in range(shape.n_ticks) for leaf in leaves}

    @property
    def _stack(self) -> list[ConvLSTM]:
        return [layer for layer in self.layers if isinstance(layer, ConvLSTM)]

    def sequence(self, x: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run every step's ticks in turn; what the observation gives to the gates is computed for all steps at once."""
        given, y = self._given(x), []
        for t, maps in enumerate(zip(*given, strict=True)):
            h, c = self._unpacked(state)
            for _ in range(self._n_ticks):
                h, c, _ = self._tick(maps, h, c)
            state = _packed(h, c)
            if gap is not None:
                state = state.masked_fill(gap[t].unsqueeze(-1), 0.0)
            y.append(h[-1].flatten(1))
        return torch.stack(y) + x, state

    def given(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the top map plus the encoded observation."""
        h, _ = self._unpacked(state)
        return h[-1].flatten(1) + x

    @property
    def carried(self) -> dict[str, Tensor]:
        """Return the columns of h and of c, over all modules."""
        columns = torch.arange(self.state_size).view(len(self.layers), 2, -1)
        return {"core.h": columns[:, 0].flatten(), "core.c": columns[:, 1].flatten()}

    def record(self, x: Tensor, state: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run every step's ticks and keep each."""
        steps: list[dict[str, Tensor]] = []
        for maps in zip(*self._given(x), strict=True):
            h, c = self._unpacked(state)
            sites: dict[str, Tensor] = {}
            for tick in range(self._n_ticks):
                h, c, gates = self._tick(maps, h, c)
                for depth, of_module in enumerate(gates):
                    named = {"h": h[depth], "c": c[depth], **{f"gates.{name}": gate for name, gate in of_module.items()}}
                    sites |= {f"core.{depth}.tick{tick}.{name}": values.flatten(1) for name, values in named.items()}
            state = _packed(h, c)
            for name, leaves in (("h", h), ("c", c)):
                flat = [leaf.flatten(1) for leaf in leaves]
                sites |= {f"core.{name}": torch.cat(flat, 1), **{f"core.{depth}.{name}": leaf for depth, leaf in enumerate(flat)}}
            steps.append({**sites, "core.state": state})
        stacked = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        return stacked[f"core.{len(self.layers) - 1}.h"] + x, stacked

    def _given(self, x: Tensor) -> list[Tensor]:
        """Return what every module's gates receive of x (T, n, input_size), each (T, n, 4 channels, height, width)."""
        encoded = x.reshape(-1, *self._map)
        return [layer.given(encoded).view(*x.shape[:2], -1, *self._map[1:]) for layer in self._stack]

    def _tick(
        self, given: tuple[Tensor, ...], h: list[Tensor], c: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[dict[str, Tensor]]]:
        """Return the new h and c of every module, and their gates."""
        below, new_h, new_c, gates = h[-1], [], [], []
        for layer, maps, own, cell in zip(self._stack, given, h, c, strict=True):
            i, f, g, o = layer.gates(maps, below, own)
            new_c.append(f * cell + i * g)
            below = o * new_c[-1].tanh()
            new_h.append(below)
            gates.append(dict(zip(ConvLSTM.gate_names, (i, f, g, o), strict=True)))
        return new_h, new_c, gates

    def _unpacked(self, state: Tensor) -> States:
        maps = state.view(len(state), 2 * len(self.layers), *self._map).unbind(1)
        return list(maps[::2]), list(maps[1::2])

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights of every module."""
        for layer in self._stack:
            layer.initialise(generator)

    def recurrent_matrices(self) -> list[Tensor]:
        """Return none: maps act on each other by convolutions."""
        return []


def _packed(h: list[Tensor], c: list[Tensor]) -> Tensor:
    """Undo `_unpacked`."""
    return torch.cat([leaf.flatten(1) for pair in zip(h, c, strict=True) for leaf in pair], 1)
