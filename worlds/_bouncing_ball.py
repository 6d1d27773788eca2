"""A ball that bounces through a box, part of it behind a screen: where is it now?"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._particles import ParticleFilter
from worldprobe.worlds._smooth import SmoothWorld, wrong_factor
from worldprobe.worlds._world import Factor, Headline, State


@dataclass(frozen=True)
class BouncingBallConfig:
    """Screen, speeds and noise; lengths are in box sides, times in steps."""

    screen: tuple[float, float] = (0.3, 0.7)
    """Between which x the ball is out of sight."""
    speed: tuple[float, float] = (0.06, 0.12)
    """Range of the initial speed."""
    paddle_step: float = 0.1
    """How far an action moves the paddle."""
    process_noise: float = 0.01
    """Standard deviation per step of the velocity, along x and y."""
    observation_noise: float = 0.02
    """Standard deviation of everything that is seen."""
    reward_noise: float = 0.1
    """Standard deviation of the reward. With 0 there is no filter for agents that receive rewards."""
    n_particles: int = 1000
    """Particles of a belief, a multiple of 4."""
    time_limit: int = 100
    """Steps until truncation."""

    def __post_init__(self) -> None:
        if not 0 <= self.screen[0] <= self.screen[1] <= 1 or not 0 < self.speed[0] <= self.speed[1] < 1 or self.paddle_step <= 0:
            raise ValueError(f"expected 0 <= screen <= 1 and 0 < speed < 1, ascending, and paddle_step > 0; got {self}")


class BouncingBall(SmoothWorld):
    """Keep a paddle level with a ball that flies straight, bounces off the walls, and is out of sight in the middle of the box.

    State = ball (x, y), its velocity (vx, vy) and the paddle's height p, all in the unit box. Walls reflect position and velocity;
    the velocity drifts a little. The observation is (x, y, whether the ball is in sight, p), with x = y = 0 while it is
    not, all of it noisy; velocities never show. The reward is -(p - y)^2, noisy: the paddle has to follow the ball's height
    behind the screen, too. How far the ball is across the box, and how fast it crosses it, decides what is seen but never what
    is earned: these two factors are irrelevant to Q*.

    Parameters
    ----------
    config : BouncingBallConfig
        Screen, speeds and noise.
    dtype : torch.dtype
        float32 or float64, of states and beliefs.

    Attributes
    ----------
    flight_time : float
        For how long the ball flies in a step; 1, but for counterfeits.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import BouncingBall
    >>> world, generator = BouncingBall(), torch.Generator().manual_seed(0)
    >>> state = world.reset(3, generator)
    >>> state, reward, terminated = world.step(state, torch.tensor([0, 1, 2]), generator)
    >>> world.observe(state, generator).shape, [factor.name for factor in world.factors if factor.relevance == "irrelevant"]
    (torch.Size([3, 4]), ['across', 'crossing_velocity'])
    """

    name = "bouncing-ball"
    action_names = ("down", "stay", "up")
    discount = 0.95
    headline = Headline("height", horizon=5)
    factors = (
        Factor("height", "continuous", 1, "policy", unit="box"),
        Factor("climbing_velocity", "continuous", 1, "policy", unit="box/step", scale=0.1),
        Factor("across", "continuous", 1, "irrelevant", unit="box"),
        Factor("crossing_velocity", "continuous", 1, "irrelevant", unit="box/step", scale=0.1),
        Factor("paddle", "continuous", 1, "policy", unit="box"),
    )

    def __init__(self, config: BouncingBallConfig | None = None, *, dtype: torch.dtype = torch.float32) -> None:
        self.config = config = config or BouncingBallConfig()
        super().__init__(
            forces=(-config.paddle_step, 0.0, config.paddle_step),
            process_noise=(0.0, 0.0, config.process_noise, config.process_noise, 0.0),
            observation_noise=(config.observation_noise,) * 4,
            reward_noise=config.reward_noise,
            n_particles=config.n_particles,
            dtype=dtype,
        )
        self.time_limit = config.time_limit
        self.flight_time = 1.0

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states: ball and paddle anywhere, flying in any direction."""
        x, y, paddle, turn, share = torch.rand(5, n, generator=generator, dtype=self.dtype, device=generator.device)
        slowest, fastest = self.config.speed
        speed, angle = slowest + (fastest - slowest) * share, 2 * math.pi * turn
        return {"vector": torch.stack([x, y, speed * angle.cos(), speed * angle.sin(), paddle], 1)}

    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        """Return the state after a free flight of one step and a push of the paddle: (..., 5), (...) -> (..., 5)."""
        paddle = (vector[..., 4] + force).clamp(0.0, 1.0)
        return torch.cat([vector[..., :2] + self.flight_time * vector[..., 2:4], vector[..., 2:4], paddle.unsqueeze(-1)], -1)

    def confine(self, vector: Tensor) -> Tensor:
        """Reflect position and velocity at the walls, as often as they were crossed."""
        unfolded = torch.remainder(vector[..., :2], 2.0)
        bounced = unfolded > 1.0
        position = torch.where(bounced, 2.0 - unfolded, unfolded)
        velocity = torch.where(bounced, -vector[..., 2:4], vector[..., 2:4])
        return torch.cat([position, velocity, vector[..., 4:]], -1)

    def sense(self, vector: Tensor) -> Tensor:
        """Return (x, y, 1) in sight of the ball and (0, 0, 0) else, then the paddle: (..., 5) -> (..., 4)."""
        first, last = self.config.screen
        in_sight = ((vector[..., :1] < first) | (vector[..., :1] > last)).to(vector.dtype)
        return torch.cat([in_sight * vector[..., :2], in_sight, vector[..., 4:]], -1)

    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        """Return minus the squared distance between the heights of paddle and ball."""
        return -(following[..., 4] - following[..., 1]).square()

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return each coordinate, float (n, 1)."""
        across, height, crossing, climbing, paddle = state["vector"].unsqueeze(-1).unbind(-2)
        return {"height": height, "climbing_velocity": climbing, "across": across, "crossing_velocity": crossing, "paddle": paddle}

    def candidates(self, observation: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw first states from their exact posterior: normal about what is seen, cut at walls and screen; uniform behind the screen."""
        seen = observation.to(self.dtype).unsqueeze(1).expand(-1, count, -1)
        n, (first, last), noise = len(seen), self.config.screen, self.config.observation_noise
        in_sight = seen[..., 2] > 0.5
        on_the_left = seen[..., 0] < (first + last) / 2
        drawn = self.reset(n * count, generator)["vector"].view(n, count, -1)
        x = torch.where(
            in_sight,
            _cut_normal(seen[..., 0], noise, torch.where(on_the_left, 0.0, last), torch.where(on_the_left, first, 1.0), generator),
            first + (last - first) * drawn[..., 0],
        )
        y = torch.where(in_sight, _cut_normal(seen[..., 1], noise, 0.0, 1.0, generator), drawn[..., 1])
        paddle = _cut_normal(seen[..., 3], noise, 0.0, 1.0, generator)
        return torch.stack([x, y, drawn[..., 2], drawn[..., 3], paddle], -1), drawn.new_zeros(n, count)

    def belief_filter(self, channels: frozenset[str]) -> ParticleFilter:
        """Return the particle filter that conditions on exactly `channels` (and on the episode going on).

        Raises
        ------
        Unavailable
            If rewards are received and observations are not: particles that follow the height by rewards alone die out too fast
            to stand for what is not known of the flight across the box.
        """
        if "reward" in channels and "observation" not in channels:
            raise self.unavailable("filter on rewards without observations: let 'observation' be a channel, too")
        return super().belief_filter(channels)

    def counterfeit(self, generator: torch.Generator) -> BouncingBall:
        """Return a box in which the ball flies two to four times further or less far in a step; pushes likewise, of either sign."""
        flight, push = wrong_factor(generator), wrong_factor(generator)
        direction = -1 if torch.rand((), generator=generator, device=generator.device) < 0.5 else 1
        other = copy.copy(self)
        other.forces = self.forces * (push * direction)
        other.flight_time = flight
        return other


def _cut_normal(mean: Tensor, deviation: float, low: Tensor | float, high: Tensor | float, generator: torch.Generator) -> Tensor:
    """Draw normal numbers between `low` and `high`, by inverting their cumulative law."""
    wide = mean.double()
    below, above = (torch.special.ndtr((bound - wide) / deviation) for bound in (low, high))
    uniform = torch.rand(mean.shape, generator=generator, dtype=torch.float64, device=mean.device)
    drawn = wide + deviation * torch.special.ndtri((below + (above - below) * uniform).clamp(1e-15, 1 - 1e-15))
    return torch.clamp(drawn, torch.as_tensor(low, device=mean.device), torch.as_tensor(high, device=mean.device)).to(mean.dtype)
