"""The recurrent Q-network: encoder -> core -> linear head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldprobe.agents._agent import count_inputs
from worldprobe.agents._cores import CORES
from worldprobe.agents._seeds import seeded_generator
from worldprobe.worlds import World, check_channels


@dataclass(frozen=True)
class NetworkConfig:
    """What a recurrent Q-network is made of."""

    core: str = "lstm"
    """Name of the recurrent core, of `CORES`."""
    hidden_size: int = 64
    """Width of every recurrent layer."""
    n_layers: int = 1
    """Number of recurrent layers."""
    encoder_sizes: tuple[int, ...] = (64,)
    """Widths of the feed-forward layers before the core; none: the core sees the inputs themselves."""
    layer_norm: bool = True
    """Whether each encoder layer is normalised before its ReLU (Gallici et al. 2024)."""
    channels: tuple[str, ...] = ("observation", "action")
    """What the network receives: "action" and some of "observation", "reward"."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        check_channels(frozenset(self.channels))
        if self.core not in CORES:
            raise ValueError(f"unknown core {self.core!r}; the cores are {', '.join(CORES)}")
        if min(self.hidden_size, self.n_layers, *self.encoder_sizes) < 1:
            raise ValueError(f"widths and depth must be at least 1; got {self.hidden_size}, {self.n_layers}, {self.encoder_sizes}")


class RecurrentQNetwork(nn.Module):
    """Action values from a history: Q_t = head(core(encoder(o_t, a_{t-1}[, r_{t-1}]), state)). An `Agent`.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    input_size, n_actions : int
        Widths of what comes in and goes out.
    generator : torch.Generator
        Source of the initial weights; the global generator is neither read nor moved.
    name : str
        What the agent is called in tables.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import NetworkConfig, RecurrentQNetwork
    >>> network = RecurrentQNetwork(NetworkConfig(hidden_size=8), input_size=6, n_actions=4, generator=torch.Generator())
    >>> q, state = network.step(torch.zeros(2, 6), network.initial_state(2), torch.ones(2, dtype=torch.bool))
    >>> q.shape, state.shape, sorted(network.sites)[:3]
    (torch.Size([2, 4]), torch.Size([2, 16]), ['core.0.c', 'core.0.gates.cell', 'core.0.gates.forget'])
    """

    def __init__(self, config: NetworkConfig, input_size: int, n_actions: int, generator: torch.Generator, name: str = "network") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.channels = frozenset(config.channels)
        self.n_actions = n_actions
        self.input_size = input_size
        self.encoder = _encoder(config, input_size)
        encoded_size = (input_size, *config.encoder_sizes)[-1]
        self.core = CORES[config.core](encoded_size, config.hidden_size, config.n_layers)
        self.head = nn.Linear(self.core.output_size, n_actions, device="meta").to_empty(device="cpu")
        self.state_size = self.core.state_size
        self.sites = {"encoder": encoded_size, **self.core.sites, "q": n_actions}
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw orthogonal feed-forward weights (gain sqrt 2 before a ReLU), the core's own, and a small head."""
        for module in self.encoder:
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, 2**0.5, generator=generator)
                nn.init.zeros_(module.bias)
        self.core.initialise(generator)
        nn.init.orthogonal_(self.head.weight, 0.1, generator=generator)
        nn.init.zeros_(self.head.bias)

    def initial_state(self, n: int) -> Tensor:
        """Return zeros, the core state in which every episode begins."""
        return torch.zeros(n, self.state_size)

    def sequence(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (T, n, n_actions) over one unbroken stretch and the last core state; differentiable."""
        y, state = self.core.sequence(self.encoder(inputs), state)
        return self.head(y), state

    @torch.no_grad()
    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state, from zeros where `reset` (n,) holds; no gradient."""
        y, state = self.core.step(self.encoder(inputs), state, reset)
        return self.head(y), state

    @torch.no_grad()
    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return every site (T, n, width), and "core.state", over one unbroken stretch; no gradient."""
        encoded = self.encoder(inputs)
        y, core = self.core.record(encoded, state)
        return {"encoder": encoded, **core, "q": self.head(y)}


def make_network(world: World, config: NetworkConfig, seed: int, name: str = "network") -> RecurrentQNetwork:
    """Return the untrained network that training with `seed` begins from in `world`.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> make_network(make_world("tmaze"), NetworkConfig(hidden_size=32), seed=0).input_size
    8
    """
    generator = seeded_generator(seed, "initial weights")
    return RecurrentQNetwork(config, count_inputs(world, frozenset(config.channels)), world.n_actions, generator, name)


def _encoder(config: NetworkConfig, input_size: int) -> nn.Sequential:
    """Stack Linear (-> LayerNorm) -> ReLU."""
    layers: list[nn.Module] = []
    for size in config.encoder_sizes:
        layers.append(nn.Linear(input_size, size, device="meta").to_empty(device="cpu"))
        layers += [nn.LayerNorm(size)] if config.layer_norm else []
        layers.append(nn.ReLU())
        input_size = size
    return nn.Sequential(*layers)
