"""The cart-pole of Barto, Sutton & Anderson (1983) with its velocities hidden."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldprobe.worlds._smooth import SmoothWorld, wrong_factor
from worldprobe.worlds._world import Factor, Headline, State

TRACK = 2.4
"""m: the episode ends where the cart leaves the track."""
TILT = math.radians(12)
"""rad: the episode ends where the pole leans further."""
START = 0.05
"""Every coordinate starts uniformly within this of zero."""
PUSH = 10.0
"""N, either way."""


@dataclass(frozen=True)
class CartPolePhysics:
    """Constants of the cart and its pole; the defaults are those of the classic task."""

    gravity: float = 9.8
    """m/s^2."""
    cart_mass: float = 1.0
    """kg."""
    pole_mass: float = 0.1
    """kg."""
    half_length: float = 0.5
    """m, from the hinge to the pole's centre of mass."""
    time_step: float = 0.02
    """s, of the Euler integration."""


CLASSIC = CartPolePhysics()


class CartPole(SmoothWorld):
    r"""Balance a pole on a cart that is pushed left or right, seeing where both are but not how they move.

    With vector (x, x', theta, theta'), force F, masses M and m and half-length l,

    .. math:: \theta'' = \frac{g \sin\theta - \cos\theta\, u}{l (4/3 - m \cos^2\theta / (M + m))}, \quad
              x'' = u - \frac{m l\, \theta'' \cos\theta}{M + m}, \quad u = \frac{F + m l\, \theta'^2 \sin\theta}{M + m},

    one Euler step of 0.02 s each. The observation is (x, theta). Every step pays 1; the episode ends where |x| > 2.4 m or
    |theta| > 12 degrees. Noise acts on the two velocities (forces nobody modelled) and on the observation.

    Parameters
    ----------
    physics : CartPolePhysics
        Gravity, masses, length and time step.
    process_noise : float
        Standard deviation per step of both velocities, m/s and rad/s; the default is about a tenth of what a push does.
    observation_noise : (float, float)
        Standard deviation of the observed position, m, and angle, rad; the defaults make a velocity read off two
        observations (1.4 m/s, 0.7 rad/s uncertain) worth less than one filtered over many.
    time_limit : int
        Steps until truncation.
    n_particles : int
        Particles of a belief, a multiple of 4.
    dtype : torch.dtype
        float32 or float64, of states and beliefs.

    Notes
    -----
    The world is mirror symmetric and has no neutral action: in (x, 0, 0, 0) and (-x, 0, 0, 0) the optimal actions are each
    other's opposites, unless they tie, and likewise for the other three coordinates. So the optimal policy needs each of them.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import CartPole
    >>> world, generator = CartPole(), torch.Generator().manual_seed(0)
    >>> state = world.reset(2, generator)
    >>> after, reward, terminated = world.step(state, torch.tensor([0, 1]), generator)
    >>> world.observe(after, generator).shape, reward.tolist(), terminated.tolist()
    (torch.Size([2, 2]), [1.0, 1.0], [False, False])
    >>> by_state, by_force = world.jacobian(state, torch.tensor([0, 1]))
    >>> by_state.shape, by_force.shape
    (torch.Size([2, 4, 4]), torch.Size([2, 4]))
    """

    name = "cartpole"
    action_names = ("left", "right")
    discount = 0.99
    reward_informs = False
    headline = Headline("pole_velocity", horizon=5)
    factors = (
        Factor("cart_position", "continuous", 1, "policy", unit="m", scale=TRACK),
        Factor("cart_velocity", "continuous", 1, "policy", unit="m/s"),
        Factor("pole_angle", "continuous", 1, "policy", unit="rad", scale=TILT),
        Factor("pole_velocity", "continuous", 1, "policy", unit="rad/s"),
    )

    def __init__(
        self,
        physics: CartPolePhysics = CLASSIC,
        *,
        process_noise: float = 0.02,
        observation_noise: tuple[float, float] = (0.02, 0.01),
        time_limit: int = 200,
        n_particles: int = 1000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            forces=(-PUSH, PUSH),
            process_noise=(0.0, process_noise, 0.0, process_noise),
            observation_noise=observation_noise,
            n_particles=n_particles,
            dtype=dtype,
        )
        self.physics = physics
        self.time_limit = time_limit

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states, every coordinate uniform in [-0.05, 0.05]."""
        uniform = torch.rand(n, 4, generator=generator, dtype=self.dtype, device=generator.device)
        return {"vector": (2 * uniform - 1) * START}

    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        """Return the noiseless next state: (..., 4), N (...) -> (..., 4)."""
        physics = self.physics
        _, cart_velocity, angle, angle_velocity = vector.unbind(-1)
        mass, lever = physics.cart_mass + physics.pole_mass, physics.pole_mass * physics.half_length
        sine, cosine = angle.sin(), angle.cos()
        pushed = (force + lever * angle_velocity.square() * sine) / mass
        inertia = physics.half_length * (4 / 3 - physics.pole_mass * cosine.square() / mass)
        angle_acceleration = (physics.gravity * sine - cosine * pushed) / inertia
        cart_acceleration = pushed - lever * angle_acceleration * cosine / mass
        rates = torch.stack([cart_velocity, cart_acceleration, angle_velocity, angle_acceleration], -1)
        return vector + physics.time_step * rates

    def sense(self, vector: Tensor) -> Tensor:
        """Return position and angle: (..., 4) -> (..., 2)."""
        return vector[..., 0::2]

    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        """Return 1 for every step."""
        return torch.ones_like(vector[..., 0])

    def has_ended(self, vector: Tensor) -> Tensor:
        """Return whether the cart has left the track or the pole has fallen: (..., 4) -> bool (...)."""
        return (vector[..., 0].abs() > TRACK) | (vector[..., 2].abs() > TILT)

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return positions and velocities, float (n, 1) each."""
        return {factor.name: state["vector"][:, i : i + 1] for i, factor in enumerate(self.factors)}

    def counterfeit(self, generator: torch.Generator) -> CartPole:
        """Return a cart-pole whose gravity, length and push are each two to four times larger or smaller, the push of either sign."""
        gravity, half_length, push = (wrong_factor(generator) for _ in range(3))
        direction = -1 if torch.rand((), generator=generator, device=generator.device) < 0.5 else 1
        other = copy.copy(self)
        other.physics = replace(self.physics, gravity=self.physics.gravity * gravity, half_length=self.physics.half_length * half_length)
        other.forces = self.forces * (push * direction)
        return other
