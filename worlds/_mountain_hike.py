"""A hike along a ridge in fog, knowing only how high one is."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldprobe.worlds._smooth import SmoothWorld, wrong_factor
from worldprobe.worlds._world import Factor, Headline, State

HEADINGS = {"right": 0.0, "up": math.pi / 2, "left": math.pi, "down": -math.pi / 2}
"""Radians."""
START, GOAL = (-0.8, -0.8), (0.8, 0.8)
GOAL_RADIUS = 0.2
RIDGES = (((0.0, -0.8), (1.0, 0.1)), ((0.0, 0.0), (0.005**0.5, 1.0)), ((0.0, 0.8), (1.0, 0.1)))
"""Centre and standard deviations along x and y of each ridge: along the bottom, up the middle, along the top."""
SLOPE, DEPTH = 0.2, 0.02
"""The whole mountain rises by this per unit of x and of y, and lies this much lower."""


@dataclass(frozen=True)
class MountainHikeConfig:
    """Steps, noise and the hidden rotation; the defaults are those of Lambrechts, Bolland & Ernst (2022)."""

    rotated: bool = False
    """Whether the actions are turned by a multiple of 90 degrees that is drawn for every episode and never shown."""
    step: float = 0.1
    """Length of a step; the mountain is 2 wide."""
    transition_noise: float = 0.05
    """Standard deviation of a step, along x and y."""
    observation_noise: float = 0.1
    """Standard deviation of the altitude that is seen."""
    reward_noise: float = 0.0
    """Standard deviation of the reward. With 0 there is no filter for agents that receive rewards."""
    n_particles: int = 1000
    """Particles of a belief, a multiple of 4."""


class MountainHike(SmoothWorld):
    r"""Walk along a bent ridge from one corner to the other, blind but for a noisy altimeter.

    The altitude at (x, y), the observation and the reward of arriving there, is

    .. math:: -\exp(-\max_i N(x, y; \mu_i, \Sigma_i)) + 0.2 (x + y) - 0.02

    with three Gaussian densities that make the ridges. It is negative all along, so that dawdling costs; within 0.2 of the goal
    the episode ends. Walls at -1 and 1 hold one back. The belief is a cloud of particles that spreads along the ridge.

    Parameters
    ----------
    config : MountainHikeConfig
        Steps, noise and the hidden rotation.
    dtype : torch.dtype
        float32 or float64, of states and beliefs.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import MountainHike, MountainHikeConfig
    >>> world, generator = MountainHike(MountainHikeConfig(rotated=True)), torch.Generator().manual_seed(0)
    >>> state = world.reset(2, generator)
    >>> after, reward, terminated = world.step(state, torch.tensor([0, 1]), generator)
    >>> {name: tuple(value.shape) for name, value in world.factor_values(after).items()}
    {'position': (2, 2), 'rotation': (2,)}

    References
    ----------
    Igl, Zintgraf, Le, Wood & Whiteson 2018, "Deep variational reinforcement learning for POMDPs"; Lambrechts, Bolland & Ernst 2022,
    "Recurrent networks, hidden states and beliefs in partially observable environments" (the mountain, and the rotation).
    """

    action_names = tuple(HEADINGS)
    discount = 0.99
    headline = Headline("position", horizon=5)

    def __init__(self, config: MountainHikeConfig | None = None, *, dtype: torch.dtype = torch.float32) -> None:
        self.config = config = config or MountainHikeConfig()
        noise = (config.transition_noise, config.transition_noise)
        super().__init__(
            forces=tuple(HEADINGS.values()),
            process_noise=(*noise, 0.0) if config.rotated else noise,
            observation_noise=(config.observation_noise,),
            reward_noise=config.reward_noise,
            n_particles=config.n_particles,
            dtype=dtype,
        )
        self.name = "mountain-hike" + "-rotated" * config.rotated
        self.time_limit = 160 if config.rotated else 80
        turns = ("0 degrees", "90 degrees", "180 degrees", "270 degrees")
        rotation = (Factor("rotation", "categorical", 4, "policy", labels=turns),)
        self.factors = (Factor("position", "continuous", 2, "policy", labels=("x", "y")), *rotation[: config.rotated])

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Return `n` initial states: the start, and a rotation of the actions, rad, if they are rotated."""
        vector = torch.tensor(START, dtype=self.dtype, device=generator.device).repeat(n, 1)
        if self.config.rotated:
            quarters = torch.randint(4, (n, 1), generator=generator, device=generator.device)
            vector = torch.cat([vector, (math.pi / 2) * quarters.to(self.dtype)], 1)
        return {"vector": vector}

    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        """Return the state after a step towards the heading `force`, rad, turned by the rotation: (..., d), (...) -> (..., d)."""
        heading = force + vector[..., 2] if self.config.rotated else force
        moved = vector[..., :2] + self.config.step * torch.stack([heading.cos(), heading.sin()], -1)
        return torch.cat([moved, vector[..., 2:]], -1)

    def confine(self, vector: Tensor) -> Tensor:
        """Keep x and y in [-1, 1]."""
        return torch.cat([vector[..., :2].clamp(-1.0, 1.0), vector[..., 2:]], -1)

    def sense(self, vector: Tensor) -> Tensor:
        """Return the altitude: (..., d) -> (..., 1)."""
        return self.altitude(vector[..., 0], vector[..., 1]).unsqueeze(-1)

    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        """Return the altitude of the state that was reached."""
        return self.altitude(following[..., 0], following[..., 1])

    def has_ended(self, vector: Tensor) -> Tensor:
        """Return whether the goal is within 0.2."""
        return (vector[..., :2] - vector.new_tensor(GOAL)).square().sum(-1) < GOAL_RADIUS**2

    def altitude(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how high it is at (x, y), of equal shape."""
        centres, widths = x.new_tensor(RIDGES).unbind(1)
        exponent = ((torch.stack([x, y], -1).unsqueeze(-2) - centres) / widths).square().sum(-1)
        densities = (-0.5 * exponent).exp() / (2 * math.pi * widths.prod(-1))
        return -(-densities.amax(-1)).exp() + SLOPE * (x + y) - DEPTH

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the position, float (n, 2), and the rotation in quarter turns, int64 (n,), if there is one."""
        vector = state["vector"]
        rotation = {"rotation": (vector[:, 2] / (math.pi / 2)).round().long()} if self.config.rotated else {}
        return {"position": vector[:, :2], **rotation}

    def counterfeit(self, generator: torch.Generator) -> MountainHike:
        """Return a hike whose steps are two to four times longer or shorter, and turned by one to three quarters."""
        other = copy.copy(self)
        other.config = replace(self.config, step=self.config.step * wrong_factor(generator))
        other.forces = self.forces + (math.pi / 2) * int(torch.randint(1, 4, (), generator=generator, device=generator.device))
        return other
