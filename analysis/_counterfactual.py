"""Steps at which another class of a factor would ask for another action: where steering can show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.analysis._coherence import optimal_actions
from worldprobe.analysis._contexts import determines
from worldprobe.analysis._stream import VALIDATION, Stream
from worldprobe.worlds import FiniteWorld, Unavailable, finite_core, solve_pomdp

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

CERTAIN = 0.99
"""Mass of a changed belief that must agree with what is observed, and with an episode that goes on."""

MAX_ROWS = 6000
"""Rows of validation, and of all others, among which decisions are looked for."""

MAX_CLASSES = 12
"""Other classes that are tried at a row."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """n rows of a recording where the belief, and the same belief with two classes of a factor exchanged, ask for different actions."""

    rows: Integers
    present: Integers
    """Likeliest class of the factor, (n,)."""
    other: Integers
    """The class that it is exchanged with."""
    beliefs: Floats
    """(n, S), of the finite core of the world."""
    changed: Floats
    """(n, S)"""
    asked: Booleans
    """Actions that are optimal by the belief, (n, A)."""
    wanted: Booleans
    """By the changed belief; it has none in common with `asked`."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.generic]) -> Decisions:
        """Return the decisions at some places (numbers or a mask)."""
        return Decisions(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def exchange_classes(classes: Mapping[str, Integers], factor: str, one: int, other: int) -> tuple[Integers, Booleans]:
    """Return, for every state, the state that differs from it in two exchanged classes of a factor alone, and whether there is one.

    Parameters
    ----------
    classes : mapping of str to ndarray of int, shape (S,)
        Class of every state, for each factor of a world.
    factor : str
    one, other : int
        Classes.

    Returns
    -------
    partner : ndarray of int, shape (S,)
        Itself where the state is of neither class.
    exists : ndarray of bool, shape (S,)

    Raises
    ------
    Unavailable
        If states differ that the factors do not tell apart.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.analysis import exchange_classes
    >>> goal, place = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> exchange_classes({"goal": goal, "place": place}, "goal", 0, 1)
    (array([2, 3, 0, 1]), array([ True,  True,  True,  True]))
    """
    own = classes[factor]
    kept = [each for name, each in classes.items() if name != factor and not determines(each, own) and not determines(own, each)]
    rest = np.unique(np.stack([np.zeros_like(own), *kept], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    states = {(int(r), int(z)): number for number, (r, z) in enumerate(zip(rest, own, strict=True))}
    if len(states) < len(own):
        raise Unavailable(f"states that differ have the same factors, so that {factor!r} cannot be changed alone")
    exchanged = np.where(own == one, other, np.where(own == other, one, own))
    partner = np.array([states.get((int(r), int(z)), -1) for r, z in zip(rest, exchanged, strict=True)])
    return np.where(partner < 0, np.arange(len(own)), partner), partner >= 0


def find_decisions(stream: Stream, factor: str, *, seed: int = 0) -> Decisions:
    """Find the steps of a stream at which exchanging two classes of a factor in the exact belief would ask for another action.

    A step counts where the changed belief agrees with what is observed there, and no action is optimal for both beliefs. At each one
    class is drawn among those that count.

    Parameters
    ----------
    stream : Stream
        Of a finite world, or one with irrelevant variables added, with its beliefs.
    factor : str
        Categorical.
    seed : int
        Chance of rows and classes.

    Returns
    -------
    Decisions
        Perhaps of no row.

    Raises
    ------
    Unavailable
        If the world is not finite, or its factors do not tell its states apart.
    """
    core, rng = finite_core(stream.world), np.random.default_rng(seed)
    if factor not in core.class_maps:
        raise Unavailable(f"{factor!r} is no factor of the finite world {core.name!r}: its classes cannot be exchanged in a belief")
    classes = {name: each.cpu().numpy() for name, each in core.class_maps.items()}
    rows = np.sort(np.concatenate([_some(stream.scored, rng), _some(np.flatnonzero(stream.folds == VALIDATION), rng)]))
    beliefs = np.asarray(stream.recording["belief/state"][:][rows], np.float64)
    possible, best = _possible(stream, core, rows), _best_actions(stream, core)
    marginal = beliefs @ np.eye(core.factor(factor).size)[classes[factor]]
    present, asked, size = marginal.argmax(axis=1), best(beliefs), marginal.shape[1]
    other, n_met = np.full(len(rows), -1), np.zeros(len(rows))
    changed, wanted = np.zeros_like(beliefs), np.zeros_like(asked)
    for one in np.unique(present):
        here = np.flatnonzero(present == one)
        for another in rng.permutation(np.delete(np.arange(size), one))[:MAX_CLASSES]:
            partner, exists = exchange_classes(classes, factor, int(one), int(another))
            swapped = beliefs[here][:, partner]
            actions = best(swapped)
            counts = ((swapped * possible[here]).sum(axis=1) >= CERTAIN) & (beliefs[here][:, exists].sum(axis=1) >= CERTAIN)
            counts &= ~np.any(actions & asked[here], axis=1)
            n_met[here] += counts
            drawn = counts & (rng.random(len(here)) * n_met[here] < 1)
            other[here[drawn]], changed[here[drawn]], wanted[here[drawn]] = another, swapped[drawn], actions[drawn]
    return Decisions(rows, present, other, beliefs, changed, asked, wanted).take(other >= 0)


def _some(rows: Integers, rng: np.random.Generator) -> Integers:
    """Draw rows if there are too many."""
    return rows if len(rows) <= MAX_ROWS else rng.choice(rows, MAX_ROWS, replace=False)


def _possible(stream: Stream, core: FiniteWorld, rows: Integers) -> Booleans:
    """Return which states agree with what was observed, and with an episode that goes on, (n, S)."""
    observed = stream.recording["observation"][:][rows].reshape(len(rows), -1)[:, : core.tables.n_observations]
    likelihood = observed.astype(np.float64) @ core.tables.observation.cpu().numpy().T
    agrees: Booleans = (likelihood > 0) & ~core.tables.terminal.cpu().numpy()
    return agrees


def _best_actions(stream: Stream, core: FiniteWorld) -> Callable[[Floats], Booleans]:
    """Return what maps beliefs (n, S) to the actions that are optimal by the best known policy of what the recording's channels tell."""
    policy = solve_pomdp(core, stream.recording.channels).policy
    return lambda beliefs: optimal_actions(policy.q_values({"state": torch.from_numpy(beliefs)}).numpy())
