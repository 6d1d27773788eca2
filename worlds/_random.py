"""Worlds drawn at random, with knobs for how large, how branching, how hidden and how rewarding they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._relevance import factor_relevance
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline


@dataclass(frozen=True)
class RandomConfig:
    """How a random world is drawn; the defaults are a fully observed one."""

    n_states: int = 20
    """S."""
    n_actions: int = 5
    """A."""
    n_successors: int = 5
    """Branching: the number of states that can follow a state and an action, at most S."""
    concentration: float = 1.0
    """Of the Dirichlet law of the successors' probabilities: small is nearly deterministic, large nearly uniform."""
    n_observations: int | None = None
    """Number of looks; fewer than S alias states, as evenly as can be. None: every state has its own."""
    observation_noise: float = 0.0
    """Probability that a look is replaced by a uniform one of all."""
    n_rewards: int = 1
    """K: reward functions R_k(s, a) ~ N(0, 1) that every move is paid by at once; the first is the world's own."""
    discount: float = 0.9
    """gamma."""
    time_limit: int = 50
    """Steps after which an episode is cut; it does not end otherwise."""
    seed: int = 0
    """Of the law, the looks and the rewards. Worlds of one seed that differ in `n_rewards` alone have the same law and first rewards."""

    def __post_init__(self) -> None:
        if min(self.n_states, self.n_actions, self.n_rewards) < 1 or self.concentration <= 0 or not 0 <= self.observation_noise <= 1:
            raise ValueError(f"expected counts of at least 1, a concentration above 0 and a noise in [0, 1]; got {self}")
        if not 1 <= self.n_successors <= self.n_states or not 1 <= self.n_looks <= self.n_states:
            raise ValueError(f"n_successors and n_observations must lie in 1 .. n_states = {self.n_states}; got {self}")

    @property
    def n_looks(self) -> int:
        """Number of looks, a number always."""
        return self.n_states if self.n_observations is None else self.n_observations


class RandomWorld(FiniteWorld):
    """A random Markov decision process, partially observed if states look alike or looks are noisy.

    From (s, a) the world moves to one of `n_successors` random states, with probabilities from a symmetric Dirichlet law.
    It starts anywhere with equal probability. Rewards are fixed standard normal numbers, one for every state and action.

    Parameters
    ----------
    config : RandomConfig
        The knobs.

    Examples
    --------
    >>> from worldprobe.worlds import RandomConfig, RandomWorld
    >>> world = RandomWorld(RandomConfig(n_states=8, n_actions=2, n_successors=3, n_observations=4, n_rewards=6))
    >>> world.tables.transition.count_nonzero(-1).unique().tolist(), world.observation_shape, world.reward_functions.shape
    ([3], (4,), torch.Size([6, 2, 8, 8]))

    References
    ----------
    Archibald, McKinnon & Thomas 1995, "On the generation of Markov decision processes" (randomly generated test problems).
    """

    def __init__(self, config: RandomConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        S = config.n_states
        transition, observation = _law(config, generator), _looks(config, generator)
        paid = [torch.randn(config.n_actions, S, generator=generator, dtype=torch.float64) for _ in range(config.n_rewards)]
        reward_functions = torch.stack(paid).unsqueeze(-1).expand(-1, -1, -1, S)
        state = Factor("state", "categorical", S)
        super().__init__(
            FiniteTables(
                initial=torch.full((S,), 1 / S, dtype=torch.float64),
                transition=transition,
                observation=observation,
                reward=reward_functions[0].clone(),
                terminal=torch.zeros(S, dtype=torch.bool),
            ),
            name="random-mdp" if config.n_looks == S and not config.observation_noise else "random-pomdp",
            factors={state: torch.arange(S)},
            action_names=tuple(f"action {a}" for a in range(config.n_actions)),
            discount=config.discount,
            time_limit=config.time_limit,
            exploration=(1 / config.n_actions,) * config.n_actions,
            headline=Headline("state", horizon=3),
            reward_functions=reward_functions,
        )
        self.config = config
        self.factors = (replace(state, relevance=factor_relevance(self, "state")),)


def _law(config: RandomConfig, generator: torch.Generator) -> Tensor:
    """Draw P, float64 (A, S, S)."""
    S, shape = config.n_states, (config.n_actions, config.n_states, config.n_successors)
    successors = torch.rand(*shape[:2], S, generator=generator).argsort(-1)[..., : config.n_successors]
    # A gamma variable of shape c is one of shape c + 1 times U^(1/c); its logarithm does not underflow where c is small.
    boosted = _gamma(config.concentration + 1, shape, generator).log()
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64).log()
    weights = (boosted + uniform / config.concentration).softmax(-1)
    return torch.zeros(*shape[:2], S, dtype=torch.float64).scatter(-1, successors, weights)


def _gamma(shape_parameter: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw gamma variables of a shape parameter of at least 1, float64 (Marsaglia & Tsang 2000)."""
    d = shape_parameter - 1 / 3
    drawn = torch.zeros(size, dtype=torch.float64)
    pending = torch.ones(size, dtype=torch.bool)
    while pending.any():
        normal = torch.randn(size, generator=generator, dtype=torch.float64)
        cubed = (1 + normal / (9 * d) ** 0.5) ** 3
        uniform = torch.rand(size, generator=generator, dtype=torch.float64)
        accepted = (cubed > 0) & (uniform.log() < 0.5 * normal**2 + d - d * cubed + d * cubed.clamp_min(1e-300).log())
        drawn = torch.where(pending & accepted, d * cubed, drawn)
        pending &= ~accepted
    return drawn


def _looks(config: RandomConfig, generator: torch.Generator) -> Tensor:
    """Draw O, float64 (S, n_observations): every look belongs to floor or ceil(S / n_observations) states."""
    order = torch.randperm(config.n_states, generator=generator)
    exact = torch.nn.functional.one_hot(order % config.n_looks, config.n_looks).double()
    return (1 - config.observation_noise) * exact + config.observation_noise / config.n_looks
