"""Is it coherent? Histories that mean the same are to be treated alike, and those that ask for different actions are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes import t_interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

EQUAL = 0.01
"""Total variation of beliefs up to which two histories mean the same."""

TIE = 1e-6
"""Share of the range of values within which actions are equally good."""

N_BLOCKS = 10
"""Blocks of episodes, each of which is an estimate of its own."""

LEAST_PAIRS = 30
"""Pairs of either kind that a block needs."""


@dataclass(frozen=True)
class Coherence:
    """How well distances between representations tell equal histories from different ones."""

    auc: float
    """Probability that an equal pair is closer than a different one (ties count half); .5 is chance, 1 perfect."""
    lower: float
    upper: float
    """95 % t-interval over blocks of episodes."""
    n_equal: int
    n_different: int
    blocks: tuple[float, ...] = ()
    """The area of every block that has pairs enough: representations of the same rows are compared block by block."""
    reason: str = ""
    """Why it cannot be estimated; empty where it can."""


def optimal_actions(values: Floats) -> Booleans:
    """Return which actions are optimal, bool (n, A), by values (n, A); equal are those within a millionth of the range of all values."""
    slack = TIE * float(np.ptp(values)) if values.size else 0.0
    best: Booleans = values >= values.max(axis=1, keepdims=True) - slack
    return best


def measure_coherence(
    representation: Floats, beliefs: Floats, optimal: Booleans, groups: Integers, *, max_rows: int = 400, random_state: int = 0
) -> Coherence:
    r"""Compare distances of pairs of histories that are equal with those of pairs that are different.

    *Equal* are histories of different episodes whose beliefs differ by a total variation of 0.01 at most (compression: they have the same
    futures); *different* are those whose beliefs have no optimal action in common (distinction). The statistic is the area under the
    ROC curve of the Euclidean distance of their representations: Q-values, or activations of a site.

    Parameters
    ----------
    representation : ndarray, shape (n_samples, width)
    beliefs : ndarray, shape (n_samples, S)
        Exact beliefs.
    optimal : ndarray of bool, shape (n_samples, A)
        Actions that are optimal for each belief, `optimal_actions` of a belief policy's values.
    groups : ndarray of int, shape (n_samples,)
        Episode of each row.
    max_rows : int
        Rows of each of ten blocks of episodes, all pairs of which are compared.
    random_state : int
        Seed of the blocks and rows.

    Returns
    -------
    Coherence

    Raises
    ------
    ValueError
        If the arrays do not agree in length.

    References
    ----------
    Vafa et al. 2024, "Evaluating the world model implicit in a generative model" (compression and distinction).

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.analysis import measure_coherence
    >>> goal = np.random.default_rng(0).integers(2, size=400)
    >>> beliefs, optimal, episodes = np.eye(2)[goal], np.eye(2, dtype=bool)[goal], np.arange(400)
    >>> measure_coherence(beliefs, beliefs, optimal, episodes).auc
    1.0
    >>> abs(measure_coherence(np.random.default_rng(1).normal(size=(400, 3)), beliefs, optimal, episodes).auc - 0.5) < 0.05
    True
    """
    lengths = {len(representation), len(beliefs), len(optimal), len(groups)}
    if len(lengths) > 1:
        raise ValueError(f"representation, beliefs, optimal and groups must have one row per step each; got lengths {sorted(lengths)}")
    rng = np.random.default_rng(random_state)
    episodes = rng.permutation(np.unique(groups))
    found = []
    for block in np.array_split(episodes, min(N_BLOCKS, len(episodes))):
        rows = np.flatnonzero(np.isin(groups, block))
        rows = rng.permutation(rows)[:max_rows]
        equal, different = _distances(representation[rows], beliefs[rows], optimal[rows], groups[rows])
        if min(len(equal), len(different)) >= LEAST_PAIRS:
            found.append((_area(equal, different), len(equal), len(different)))
    n_equal, n_different = (sum(int(one[place]) for one in found) for place in (1, 2))
    if len(found) < 3:
        reason = f"{len(found)} of {N_BLOCKS} blocks of episodes have {LEAST_PAIRS} pairs of equal and of different histories; 3 are needed"
        return Coherence(np.nan, np.nan, np.nan, n_equal, n_different, reason=reason)
    blocks = tuple(area for area, _, _ in found)
    interval = t_interval(blocks)
    return Coherence(interval.estimate, interval.lower, interval.upper, n_equal, n_different, blocks)


def _distances(representation: Floats, beliefs: Floats, optimal: Booleans, groups: Integers) -> tuple[Floats, Floats]:
    """Return the distances of equal pairs, and of different ones."""
    one, other = np.triu_indices(len(groups), k=1)
    apart = groups[one] != groups[other]
    one, other = one[apart], other[apart]
    variation = np.abs(beliefs[one] - beliefs[other]).sum(axis=1) / 2
    distance = np.linalg.norm(representation[one].astype(np.float64) - representation[other], axis=1)
    disjoint = ~np.any(optimal[one] & optimal[other], axis=1)
    return distance[variation <= EQUAL], distance[disjoint & (variation > EQUAL)]


def _area(equal: Floats, different: Floats) -> float:
    """Return the probability that an equal pair is closer than a different one, ties counting half."""
    ordered = np.sort(different)
    below, up_to = np.searchsorted(ordered, equal, side="left"), np.searchsorted(ordered, equal, side="right")
    return float(np.mean(1.0 - (below + up_to) / (2 * len(ordered))))
