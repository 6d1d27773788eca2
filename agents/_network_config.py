"""What a network is made of, as one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worldprobe.agents._core_registry import CORES
from worldprobe.agents._cores import CoreShape
from worldprobe.agents._from_json import added
from worldprobe.worlds import check_channels

MOST_REWARDS = 4096
"""Largest number of heads: no file can ask for more."""

WIDEST = 2**20
"""Largest width of inputs, layers and actions: no file can ask for more."""

DEEPEST = 256
"""Largest number of layers and ticks: no file can ask for more."""


@dataclass(frozen=True)
class NetworkConfig:
    """What a recurrent network is made of: encoder -> core -> head."""

    core: str = "lstm"
    """Name of the recurrent core, of `CORES`."""
    hidden_size: int = 64
    """Width of every recurrent layer."""
    n_layers: int = 1
    """Number of recurrent layers."""
    encoder_sizes: tuple[int, ...] = (64,)
    """Widths of the layers before the core (channels, if convolutional); none: the core sees the inputs themselves."""
    layer_norm: bool = True
    """Whether each encoder layer is normalised before its ReLU (Gallici et al. 2024)."""
    channels: tuple[str, ...] = ("observation", "action")
    """What the network receives: "action" and some of "observation", "reward"."""
    residual: bool = added(False)
    """Whether every recurrent layer above the first adds what it received to what it gives."""
    core_layer_norm: bool = added(False)
    """Whether what a recurrent layer above the first receives is normalised."""
    head_sizes: tuple[int, ...] = added(())
    """Widths of the feed-forward layers after the core, each with a ReLU; none: the head is linear in the core's output."""
    dueling: bool = added(False)
    """Whether the head is Q = V + A - mean A (Wang et al. 2016)."""
    encoder: Literal["dense", "convolutional"] = added("dense")
    """What the layers before the core are; convolutional ones need a world that is seen as an image (channels, height, width)."""
    n_ticks: int = added(1)
    """Times that a drc core is run on every observation."""
    n_rewards: int = added(1)
    """Reward functions that have values of their own, one head each, on one trunk (worlds that give "rewards"; PQN)."""
    actor_critic: bool = added(False)
    """Whether the head gives preferences for actions, and one value of the state beside them (PPO), in the place of action values."""
    horizons: int = added(0)
    """Horizons of a head that predicts where an action leads, given a goal and a horizon (TDM), in the place of action values; 0: none."""
    acts_by: Literal["own", "task"] = added("own")
    """Where the weights of the heads come from, by which it acts: "own": those of the world's own reward; "task": the last n_rewards
    entries of the observation (`worldprobe.worlds.with_tasks`), so that one network acts for every task."""

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        check_channels(frozenset(self.channels))
        if self.core not in CORES:
            raise ValueError(f"unknown core {self.core!r}; the cores are {', '.join(CORES)}")
        if self.encoder not in ("dense", "convolutional"):
            raise ValueError(f"the encoder must be 'dense' or 'convolutional'; got {self.encoder!r}")
        if min(self.hidden_size, self.n_layers, self.n_ticks, self.n_rewards, *self.encoder_sizes, *self.head_sizes) < 1:
            raise ValueError(
                "widths, depth, ticks and rewards must be at least 1; got "
                f"{self.hidden_size}, {self.n_layers}, {self.n_ticks}, {self.n_rewards}, {self.encoder_sizes}, {self.head_sizes}"
            )
        if max((self.hidden_size, *self.encoder_sizes, *self.head_sizes)) > WIDEST:
            raise ValueError(f"widths must be at most {WIDEST:,}; got {self.hidden_size}, {self.encoder_sizes}, {self.head_sizes}")
        if self.acts_by not in ("own", "task") or (self.n_rewards == 1 and self.acts_by == "task"):
            raise ValueError(f"acts_by must be 'own', or 'task' with several rewards; got {self.acts_by!r} and {self.n_rewards}")
        if self.dueling and (self.n_rewards > 1 or self.actor_critic):
            raise ValueError("heads of several rewards, and of preferences, are not dueling")
        if (self.n_rewards > 1) + self.actor_critic + (self.horizons > 0) > 1:
            raise ValueError("a head is of several rewards (n_rewards), of preferences (actor_critic) or of horizons: choose one")
        if not 0 <= self.horizons <= DEEPEST or (self.horizons and (self.dueling or "observation" not in self.channels)):
            raise ValueError(f"horizons must be 0 to {DEEPEST}, of observations that are received, without dueling; got {self}")
        if max(self.n_layers, self.n_ticks) > DEEPEST or self.n_rewards > MOST_REWARDS:
            given = f"{self.n_layers}, {self.n_ticks} and {self.n_rewards}"
            raise ValueError(f"n_layers and n_ticks must be at most {DEEPEST}, n_rewards at most {MOST_REWARDS}; got {given}")

    def core_shape(self, input_size: int, map_size: tuple[int, int] = (0, 0)) -> CoreShape:
        """Return the sizes of the core behind an encoder of width `input_size`, perhaps of maps."""
        return CoreShape(input_size, self.hidden_size, self.n_layers, self.residual, self.core_layer_norm, self.n_ticks, map_size)
