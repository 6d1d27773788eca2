"""Variables that never matter: random walks seen through noise, added to any world."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._world import Belief, BeliefFilter, Factor, State, World, check_channels

PROCESS_VARIANCE = 0.1
OBSERVATION_VARIANCE = 1.0
INITIAL_VARIANCE = 1.0


def with_irrelevant(world: World, d: int) -> IrrelevantWorld:
    """Add `d` independent Gaussian random walks that are observed through noise and never touch the reward.

    w_0 ~ N(0, 1), w_{t+1} = w_t + N(0, 0.1), seen as w_t + N(0, 1) behind the flattened observation of `world`. They are one more
    factor, "walk"; their belief is the Kalman filter's mean and variance. The walks go on whatever the world does.

    Parameters
    ----------
    world : World
        Any world that gives "simulation".
    d : int
        Number of walks, at least 1.

    Returns
    -------
    IrrelevantWorld
        The world called `world.name + "+d"`.

    Raises
    ------
    ValueError
        If `d` is below 1 or `world` has a factor "walk" already.
    Unavailable
        If `world` cannot be simulated as a pure function.

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, with_irrelevant
    >>> world = with_irrelevant(TMaze(), 2)
    >>> world.name, world.observation_shape, [factor.name for factor in world.factors]
    ('tmaze+2', (6,), ['goal', 'position', 'state', 'walk'])

    References
    ----------
    Lambrechts, Bolland & Ernst 2022, section 5 (irrelevant variables).
    """
    return IrrelevantWorld(world, d)


class IrrelevantWorld(World):
    """What `with_irrelevant` returns."""

    def __init__(self, inner: World, d: int) -> None:
        if d < 1 or any(factor.name == "walk" for factor in inner.factors):
            raise ValueError(f"expected d >= 1 and a world without a factor 'walk'; got d={d} and world {inner.name!r}")
        if "simulation" not in inner.gives:
            raise inner.unavailable("pure simulation to add variables to")
        self.inner = inner
        self.d = d
        self.name = f"{inner.name}+{d}"
        self.observation_shape = (inner.observation_size + d,)
        self.action_names = inner.action_names
        self.discount = inner.discount
        self.time_limit = inner.time_limit
        self.exploration = inner.exploration
        self.headline = inner.headline
        labels = tuple(f"walk {i}" for i in range(d))
        self.factors = (*inner.factors, Factor("walk", "continuous", d, "irrelevant", labels=labels))
        self.gives = inner.gives & {"simulation", "belief", "optimum"}

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states."""
        return {
            **self.inner.reset(n, generator),
            "walk": INITIAL_VARIANCE**0.5 * torch.randn(n, self.d, generator=generator, device=generator.device),
        }

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Draw the observation of each state, float32 (n, inner size + d)."""
        seen = self.inner.observe(_without_walk(state), generator).flatten(1)
        noise = torch.randn(state["walk"].shape, generator=generator, device=state["walk"].device)
        return torch.cat([seen, torch.add(state["walk"], noise, alpha=OBSERVATION_VARIANCE**0.5)], 1)

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        moved, reward, terminated = self.inner.step(_without_walk(state), action, generator)
        noise = torch.randn(state["walk"].shape, generator=generator, device=state["walk"].device)
        return {**moved, "walk": torch.add(state["walk"], noise, alpha=PROCESS_VARIANCE**0.5)}, reward, terminated

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the inner factors and the walks, float32 (n, d)."""
        return {**self.inner.factor_values(_without_walk(state)), "walk": state["walk"]}

    # --- ground truth ---------------------------------------------------------------------------------------------

    def belief_filter(self, channels: frozenset[str]) -> IrrelevantFilter:
        """Return the inner world's filter together with a Kalman filter of the walks."""
        return IrrelevantFilter(self.inner.belief_filter(channels), self.inner.observation_shape, self.d)

    def point_belief(self, state: State) -> Belief:
        """Return the belief that is certain of each state."""
        walk = state["walk"].double()
        return {**self.inner.point_belief(_without_walk(state)), "walk_mean": walk, "walk_variance": torch.zeros_like(walk)}

    def predict_belief(self, belief: Belief, actions: Tensor) -> Belief:
        """Push each belief through its action sequence: the walks keep their means and gain variance."""
        variance = belief["walk_variance"] + PROCESS_VARIANCE * actions.shape[1]
        inner = self.inner.predict_belief(_without_walk(belief), actions)
        return {**inner, "walk_mean": belief["walk_mean"], "walk_variance": variance}

    def expect_factors(self, belief: Belief) -> dict[str, Tensor]:
        """Return E[factor | belief]; of the walks their means, float64 (n, d)."""
        return {**self.inner.expect_factors(_without_walk(belief)), "walk": belief["walk_mean"]}

    def counterfeit(self, generator: torch.Generator) -> IrrelevantWorld:
        """Return a counterfeit of the inner world with the same walks."""
        return IrrelevantWorld(self.inner.counterfeit(generator), self.d)


class IrrelevantFilter(BeliefFilter):
    """The inner filter beside one scalar Kalman filter per walk; `walk_mean` and `walk_variance` are float64 (n, d)."""

    def __init__(self, inner: BeliefFilter, inner_shape: tuple[int, ...], d: int) -> None:
        self.channels = check_channels(inner.channels)
        self._inner = inner
        self._inner_shape = inner_shape
        self._d = d

    def start(self, observation: Tensor, generator: torch.Generator) -> Belief:
        """Return b_0 from the first observation (n, inner size + d)."""
        mean = observation.new_zeros(len(observation), self._d, dtype=torch.float64)
        walk = self._see(mean, torch.full_like(mean, INITIAL_VARIANCE), observation)
        return {**self._inner.start(self._rest(observation), generator), **walk}

    def update(
        self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor, terminated: Tensor, generator: torch.Generator
    ) -> Belief:
        """Return b_{t+1} from b_t, a_t, r_t, o_{t+1} and whether the episode terminated there (each with leading n)."""
        walk = self._see(belief["walk_mean"], belief["walk_variance"] + PROCESS_VARIANCE, observation)
        return {**self._inner.update(_without_walk(belief), action, reward, self._rest(observation), terminated, generator), **walk}

    def _see(self, mean: Tensor, variance: Tensor, observation: Tensor) -> Belief:
        """Correct the walks by what was seen of them, if that may be looked at."""
        if "observation" in self.channels:
            gain = variance / (variance + OBSERVATION_VARIANCE)
            mean = mean + gain * (observation[:, -self._d :] - mean)
            variance = (1 - gain) * variance
        return {"walk_mean": mean, "walk_variance": variance}

    def _rest(self, observation: Tensor) -> Tensor:
        """Return what the inner world showed."""
        return observation[:, : -self._d].reshape(len(observation), *self._inner_shape)


def _without_walk(leaves: State) -> State:
    """Return what belongs to the inner world, of a state or of a belief."""
    return {name: leaf for name, leaf in leaves.items() if name not in {"walk", "walk_mean", "walk_variance"}}
