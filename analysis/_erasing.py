"""Is it necessary? A factor is erased from a running agent, in doses, beside random erasures of equal rank and displacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from worldprobe.agents import Edit, EditableAgent, EditedAgent, EvaluationResult, evaluate_return
from worldprobe.analysis._acting import Acted, act_out
from worldprobe.analysis._contexts import contexts, observation_kinds
from worldprobe.probes import Eraser, EraserFitter, LogisticProbe, MLPProbe, cross_fit, group_folds, group_log_losses
from worldprobe.worlds import World

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ErasingConfig:
    """How a factor is erased, and what that costs."""

    n_episodes: int = 512
    """Episodes of the agent's own that erasers are fitted on, and bits are measured on."""
    n_return_episodes: int = 2048
    """Episodes of every return."""
    doses: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of the factor that are gone after an episode of mean length; at 1 all of it is, at every step."""
    max_rounds: int = 4
    """Erasers fitted, each on what the agent does under the one before."""
    tolerance: float = 0.01
    """Bits per step about the factor, beyond the observation, at which it counts as erased."""
    n_controls: int = 3
    """Random erasures of equal rank and displacement that leave the factor; the costliest stands beside the factor's."""
    epsilon: float = 0.05
    """Exploration while erasers are fitted."""
    seed: int = 0
    """Source of all chance."""


@dataclass(frozen=True)
class Round:
    """One eraser, and what was left under it."""

    rank: int
    linear_bits: float
    """Usable information of a linear probe about the factor, given what is observed, in bits per step, while the agent runs erased."""
    mlp_bits: float
    """The same of an MLP."""


@dataclass(frozen=True, eq=False)
class Erasure:
    """The eraser that was settled on."""

    eraser: Eraser
    rounds: tuple[Round, ...]
    fitter: EraserFitter
    """Moments of the states that it was fitted on: random erasures are matched on these."""

    @property
    def is_complete(self) -> bool:
        """Whether no linear probe found the factor any more."""
        return self.rounds[-1].linear_bits <= ErasingConfig.tolerance


@dataclass(frozen=True)
class DoseResponse:
    """Returns under one kind of erasure."""

    kind: str
    """Name of the factor, or "random 0", ..."""
    doses: tuple[float, ...]
    """0 first."""
    returns: tuple[EvaluationResult, ...]

    def drop(self, place: int = -1) -> tuple[float, float]:
        """Return what a dose (by default the last) costs in discounted return, and its standard error."""
        whole, erased = self.returns[0], self.returns[place]
        error = float(np.hypot(whole.discounted_standard_error, erased.discounted_standard_error))
        return whole.mean_discounted_return - erased.mean_discounted_return, error


@dataclass(frozen=True, eq=False)
class Necessity:
    """Whether an agent needs a factor."""

    factor: str
    erasure: Erasure
    width: int
    """Of the content that it was erased from."""
    erased: DoseResponse
    controls: tuple[DoseResponse, ...]
    """Random erasures of equal rank and displacement that leave the factor (as far as there are directions that displace as much)."""
    others: tuple[DoseResponse, ...]
    """Erasures of other factors."""

    def excess(self, level: float = 0.95, *, over: Literal["controls", "others"] = "controls") -> tuple[float, float]:
        """Return how much more the factor's erasure costs than the costliest of those, and the one-sided lower bound of that."""
        against = self.controls if over == "controls" else self.others
        if not against:
            raise ValueError(f"there are no {over} to compare with; ask `measure_necessity` for some")
        cost, error = self.erased.drop()
        other, other_error = max(one.drop() for one in against)
        difference = cost - other
        return difference, difference - float(norm.ppf(level)) * float(np.hypot(error, other_error))

    @property
    def is_monotone(self) -> bool:
        """Whether no larger dose costs less than a smaller one by more than twice the standard error."""
        drops = [self.erased.drop(place) for place in range(len(self.erased.returns))]
        return all(after - before >= -2 * np.hypot(e, f) for (before, e), (after, f) in pairwise(drops))


def erasing(eraser: Eraser, dose: float = 1.0) -> Edit:
    """Return the edit that takes contents a share of the way to what the eraser leaves.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from worldprobe.analysis import erasing
    >>> from worldprobe.probes import Eraser
    >>> first = Eraser(np.zeros(2), np.array([[1.0], [0.0]]), np.array([[1.0, 0.0]]))
    >>> erasing(first, dose=0.5)(torch.tensor([[4.0, 4.0]]), torch.zeros(1, 1))
    tensor([[2., 4.]])
    """
    mean, reading, writing = (torch.from_numpy(np.ascontiguousarray(part)) for part in (eraser.mean, eraser.reading, eraser.writing))

    def edit(content: Tensor, _: Tensor) -> Tensor:
        removed = (content.double() - mean) @ reading @ writing
        return (content.double() - dose * removed).float()

    return edit


def erase_factor(agent: EditableAgent, world: World, factor: str, config: ErasingConfig | None = None) -> Erasure:
    r"""Erase a factor from all that a running agent carries, until no linear probe finds it.

    The concept is the factor within its context: for every context x (the observation, and all else that is true) and class z,
    :math:`1[x]\,(1[z] - P(z \mid x))`, so that what depends on z together with x goes, too, and x stays. LEACE takes it out of the core
    state at every step; since the agent then does, and holds, something else, the next eraser is fitted on what it does under this one.
    Crossed with the observation alone, a code of z by hidden position survives: an MLP still reads it, and the agent still uses it.

    Parameters
    ----------
    agent : EditableAgent
    world : World
        With a categorical factor of this name.
    factor : str
    config : ErasingConfig, optional

    Returns
    -------
    Erasure

    Raises
    ------
    KeyError
        If there is no such factor.
    ValueError
        If it is not categorical, or does not vary given the observation.
    """
    config = config or ErasingConfig()
    if world.factor(factor).kind != "categorical":
        raise ValueError(f"only categorical factors are erased; {factor!r} is {world.factor(factor).kind}")
    generator = torch.Generator().manual_seed(config.seed)
    untouched = EditedAgent(agent, lambda content, _: content)
    acted = act_out(untouched, world, config.n_episodes, generator, config.epsilon)
    fitter, rounds = eraser_fitter(acted, world, factor), list[Round]()
    while True:
        eraser = fitter.leace()
        acted = act_out(EditedAgent(agent, erasing(eraser)), world, config.n_episodes, generator, config.epsilon)
        linear, mlp = bits_left(acted, world, factor)
        rounds.append(Round(eraser.rank, linear, mlp))
        if linear <= config.tolerance or len(rounds) == config.max_rounds:
            return Erasure(eraser, tuple(rounds), fitter)
        fitter = eraser_fitter(acted, world, factor)


def eraser_fitter(acted: Acted, world: World, factor: str) -> EraserFitter:
    """Return the moments of states, as the core left them, with a factor within its context."""
    places, labels = contexts(acted.inputs, acted.factors, world, factor), acted.factors[factor].numpy()
    place, label = (np.eye(int(codes.max()) + 1)[codes] for codes in (places, labels))
    shares = (place.T @ label) / np.maximum(place.sum(axis=0)[:, None], 1.0)
    concept = (place[:, :, None] * (label - shares[places])[:, None, :]).reshape(len(places), -1)
    return EraserFitter().update(acted.before.double().numpy(), concept)


def bits_left(acted: Acted, world: World, factor: str) -> tuple[float, float]:
    """Return what a linear probe, and an MLP, tell about a factor from edited states beyond the observation, in bits per step."""
    kinds, labels = observation_kinds(acted.inputs, world), acted.factors[factor].numpy()
    groups, seen = acted.episode.numpy(), np.eye(int(kinds.max()) + 1, dtype=np.float32)[kinds]
    folds, both = group_folds(groups, 3), np.concatenate([seen, acted.after.numpy()], axis=1)
    found = []
    for probe in (LogisticProbe(alphas=(1e-3,)), MLPProbe(hidden=(64,), loss="log", max_epochs=20)):
        without, with_state = (
            float(group_log_losses(labels, fit.predictions, groups, fit.classes).sum())
            for fit in (cross_fit(X, labels, groups, folds, probe) for X in (seen, both))
        )
        found.append((without - with_state) / len(labels))
    return found[0], found[1]


def measure_necessity(
    agent: EditableAgent, world: World, factor: str, config: ErasingConfig | None = None, others: Sequence[str] = ()
) -> Necessity:
    """Erase a factor in doses, and compare what that costs with random erasures of equal rank and displacement, and with other factors.

    Parameters
    ----------
    agent : EditableAgent
    world : World
    factor : str
        Categorical.
    config : ErasingConfig, optional
    others : sequence of str
        Categorical factors whose erasure stands beside it: those that the task does not need, say.

    Returns
    -------
    Necessity

    Raises
    ------
    ValueError
        As `erase_factor`.

    Examples
    --------
    An agent that knows the belief needs the cue of a memory chain:

    >>> from worldprobe.agents import BeliefAgent
    >>> from worldprobe.analysis import ErasingConfig, measure_necessity
    >>> from worldprobe.worlds import MemoryChain
    >>> world = MemoryChain(length=4)
    >>> agent = BeliefAgent(world, frozenset({"observation", "action"}))
    >>> config = ErasingConfig(n_episodes=128, n_return_episodes=512, n_controls=0)
    >>> necessity = measure_necessity(agent, world, "cue", config, others=("step",))
    >>> necessity.excess(over="others")[1] > 0.5, necessity.is_monotone
    (True, True)
    """
    config = config or ErasingConfig()
    erasure = erase_factor(agent, world, factor, config)
    controls = {f"random {n}": eraser for n, eraser in enumerate(_random_erasers(erasure, config))}
    erasers = {factor: erasure.eraser, **controls, **{other: erase_factor(agent, world, other, config).eraser for other in others}}
    found = {kind: DoseResponse(kind, (0.0, *config.doses), dose_returns(agent, world, eraser, config)) for kind, eraser in erasers.items()}
    return Necessity(
        factor,
        erasure,
        len(erasure.eraser.mean),
        found[factor],
        tuple(found[kind] for kind in controls),
        tuple(found[other] for other in others),
    )


def _random_erasers(erasure: Erasure, config: ErasingConfig) -> list[Eraser]:
    """Return random erasures of equal rank and displacement that leave the factor; none where it takes all directions."""
    if erasure.eraser.rank == len(erasure.eraser.mean):
        return []
    return [erasure.fitter.random(erasure.eraser, config.seed + n, spare=True) for n in range(config.n_controls)]


def dose_returns(agent: EditableAgent, world: World, eraser: Eraser, config: ErasingConfig) -> tuple[EvaluationResult, ...]:
    """Return what the agent earns at no dose, and at each.

    A dose is the share that is gone at the end of an episode of mean length L, were nothing of it renewed: at each step
    :math:`1 - (1 - d)^{1/L}` of the way is gone. As a share of every step, the smallest dose would take all within a few steps.
    """
    whole = _returns(agent, world, config)
    shares = [1.0 - (1.0 - dose) ** (1.0 / max(whole.mean_length, 1.0)) for dose in config.doses]
    return whole, *(_returns(EditedAgent(agent, erasing(eraser, share)), world, config) for share in shares)


def _returns(agent: EditableAgent, world: World, config: ErasingConfig) -> EvaluationResult:
    """Return what an agent earns; chance is the same for all."""
    return evaluate_return(agent, world, config.n_return_episodes, torch.Generator().manual_seed(config.seed + 1))
