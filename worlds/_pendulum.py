"""The torque-limited pendulum with its velocity hidden."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldprobe.worlds._smooth import SmoothWorld, wrong_factor
from worldprobe.worlds._world import Factor, Headline, State

TORQUES = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""N m."""
MAX_VELOCITY = 8.0
"""rad/s: the velocity is cut there, as in the classic task."""
WORST_COST = math.pi**2 + 0.1 * MAX_VELOCITY**2 + 0.001 * TORQUES[-1] ** 2
"""The classic cost is at most this; dividing by it puts rewards into [-1, 0]."""


@dataclass(frozen=True)
class PendulumPhysics:
    """Constants of the pendulum; the defaults are those of the classic task."""

    gravity: float = 10.0
    """m/s^2."""
    mass: float = 1.0
    """kg."""
    length: float = 1.0
    """m."""
    time_step: float = 0.05
    """s."""


CLASSIC = PendulumPhysics()


class Pendulum(SmoothWorld):
    r"""Swing a pendulum up and hold it there with a torque too weak to lift it, seeing its angle but not its velocity.

    With angle theta (0 is up), torque u, mass m and length l,

    .. math:: \theta'_{t+1} = \mathrm{cut}(\theta'_t + (\tfrac{3 g}{2 l} \sin\theta_t + \tfrac{3}{m l^2} u)\, dt,\ \pm 8), \quad
              \theta_{t+1} = \theta_t + \theta'_{t+1} dt.

    The observation is (cos theta, sin theta), the reward -(theta^2 + .1 theta'^2 + .001 u^2) / 16.27 in [-1, 0], theta in
    [-pi, pi]. Episodes do not terminate. Noise acts on the velocity, on the observation and on the reward.

    Parameters
    ----------
    physics : PendulumPhysics
        Gravity, mass, length and time step.
    process_noise : float
        Standard deviation per step of the velocity, rad/s; the default is a third of what a torque of 1 does.
    observation_noise : float
        Standard deviation of the observed cosine and sine.
    reward_noise : float
        Standard deviation of the reward. The noiseless reward would give the speed away; with 0 there is no filter for agents
        that receive rewards.
    time_limit : int
        Steps until truncation.
    n_particles : int
        Particles of a belief, a multiple of 4.
    dtype : torch.dtype
        float32 or float64, of states and beliefs.

    Notes
    -----
    The world is mirror symmetric: the optimal torque of (theta, theta') is minus that of (-theta, -theta'). Hanging still is
    its own mirror image, so swinging up takes opposite torques at equal angles and opposite velocities: the optimal policy
    needs the velocity, and likewise the angle (a test solves the noiseless world on a grid).

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import Pendulum
    >>> world, generator = Pendulum(), torch.Generator().manual_seed(0)
    >>> state = world.reset(2, generator)
    >>> after, reward, terminated = world.step(state, torch.tensor([0, 4]), generator)
    >>> world.observe(after, generator).shape, terminated.tolist()
    (torch.Size([2, 2]), [False, False])
    >>> {name: tuple(value.shape) for name, value in world.factor_values(after).items()}
    {'angle': (2, 2), 'velocity': (2, 1)}
    """

    name = "pendulum"
    action_names = tuple(f"{torque:+g} N m" for torque in TORQUES)
    discount = 0.99
    headline = Headline("velocity", horizon=5)
    factors = (
        Factor("angle", "continuous", 2, "policy", labels=("cosine", "sine")),
        Factor("velocity", "continuous", 1, "policy", unit="rad/s", scale=MAX_VELOCITY),
    )

    def __init__(
        self,
        physics: PendulumPhysics = CLASSIC,
        *,
        process_noise: float = 0.05,
        observation_noise: float = 0.05,
        reward_noise: float = 0.02,
        time_limit: int = 200,
        n_particles: int = 1000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            forces=TORQUES,
            process_noise=(0.0, process_noise),
            observation_noise=(observation_noise, observation_noise),
            reward_noise=reward_noise,
            n_particles=n_particles,
            dtype=dtype,
        )
        self.physics = physics
        self.time_limit = time_limit

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states, the angle uniform on the circle, the velocity in [-1, 1] rad/s."""
        uniform = 2 * torch.rand(n, 2, generator=generator, dtype=self.dtype, device=generator.device) - 1
        return {"vector": uniform * uniform.new_tensor([math.pi, 1.0])}

    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        """Return the noiseless next state: (..., 2), N m (...) -> (..., 2)."""
        physics = self.physics
        angle, velocity = vector.unbind(-1)
        gravity = 1.5 * physics.gravity / physics.length * angle.sin()
        acceleration = gravity + 3 / (physics.mass * physics.length**2) * force
        velocity = (velocity + physics.time_step * acceleration).clamp(-MAX_VELOCITY, MAX_VELOCITY)
        return torch.stack([angle + physics.time_step * velocity, velocity], -1)

    def sense(self, vector: Tensor) -> Tensor:
        """Return the cosine and sine of the angle: (..., 2) -> (..., 2)."""
        return torch.stack([vector[..., 0].cos(), vector[..., 0].sin()], -1)

    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        """Return the scaled reward of the state that was left and the torque."""
        angle = torch.remainder(vector[..., 0] + math.pi, 2 * math.pi) - math.pi
        return -(angle.square() + 0.1 * vector[..., 1].square() + 0.001 * force.square()) / WORST_COST

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the angle as (cosine, sine), float (n, 2), and the velocity, float (n, 1)."""
        return {"angle": self.sense(state["vector"]), "velocity": state["vector"][..., 1:]}

    def counterfeit(self, generator: torch.Generator) -> Pendulum:
        """Return a pendulum whose gravity, length and torques are each two to four times larger or smaller, the torques of either sign."""
        gravity, length, torque = (wrong_factor(generator) for _ in range(3))
        direction = -1 if torch.rand((), generator=generator, device=generator.device) < 0.5 else 1
        other = copy.copy(self)
        other.physics = replace(self.physics, gravity=self.physics.gravity * gravity, length=self.physics.length * length)
        other.forces = self.forces * (torque * direction)
        return other
