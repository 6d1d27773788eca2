"""Neurons that correlate with dynamics: unit x factor x horizon information, the best of all units by chance, twins, and ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.agents import EditableAgent
from worldprobe.analysis._erasing import DoseResponse, ErasingConfig, Erasure, dose_returns, erase_factor
from worldprobe.probes import Eraser, binned_information, equal_count_bins, grid_test, pseudo_sessions
from worldprobe.worlds import World

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UnitInformation:
    """What single units tell about factors some steps ahead."""

    factors: tuple[str, ...]
    horizons: tuple[int, ...]
    bits: Floats
    """Information of each unit (n_units, n_factors, n_horizons), too high by what chance gives: read it beside `null_best`."""
    null_best: Floats
    """Of the best unit under labels of other episodes (n_sessions, n_factors, n_horizons)."""
    family_wise: Floats
    """p-values against the best of all units, shaped as `bits`."""
    twin_best: Floats
    """Of the best unit of each twin (n_twins, n_factors, n_horizons)."""

    @property
    def twin_p_values(self) -> Floats:
        """(1 + twins whose best unit tells no less) / (1 + twins), (n_factors, n_horizons): exact where all are exchangeable."""
        reached: Floats = (1 + np.sum(self.twin_best >= self.bits.max(axis=0), axis=0)) / (1.0 + len(self.twin_best))
        return reached

    def best(self, factor: str, horizon: int) -> int:
        """Return the unit that tells most about a factor so many steps ahead."""
        return int(np.argmax(self.bits[:, self.factors.index(factor), self.horizons.index(horizon)]))


def unit_information(
    activations: ArrayLike,
    factors: Mapping[str, ArrayLike],
    steps: ArrayLike,
    groups: ArrayLike,
    horizons: Sequence[int] = (0, 1, 2, 5),
    twins: Sequence[ArrayLike] = (),
    n_sessions: int = 99,
    random_state: int = 0,
) -> UnitInformation:
    """Count what each unit tells about each factor k steps later, beside the best unit by chance and the best of twins.

    The null gives every episode the labels of another one at the same steps, so that a unit which tells the time is not taken for one that
    tells the factor. Every cell of factor and horizon has its own null: the largest over units.

    Parameters
    ----------
    activations : array_like, shape (n_samples, n_units)
    factors : mapping of str to array_like of int, shape (n_samples,)
        Class labels.
    steps, groups : array_like, shape (n_samples,)
        Step within its episode, and episode, of each row; rows of an episode follow one another.
    horizons : sequence of int
        Steps ahead; rows whose episode ends before are left out.
    twins : sequence of array_like, each (n_samples, n_twin_units)
        Activations of networks that never learned, on the same rows.
    n_sessions : int
        Draws of the null.
    random_state : int
        Seed of the draws.

    Returns
    -------
    UnitInformation

    Raises
    ------
    ValueError
        If a factor is not of integers, a horizon is negative or longer than every episode, or there are fewer than two episodes.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.analysis import unit_information
    >>> rng = np.random.default_rng(0)
    >>> steps, groups = np.tile(np.arange(5), 100), np.repeat(np.arange(100), 5)
    >>> cue, X = rng.integers(2, size=100)[groups], rng.normal(size=(500, 20))
    >>> X[:, 7] += 3 * cue
    >>> found = unit_information(X, {"cue": cue}, steps, groups, horizons=(0, 2), n_sessions=19)
    >>> found.best("cue", 2), np.flatnonzero(found.family_wise[:, 0, 1] <= 0.05)
    (7, array([7]))
    """
    names, ahead, episodes = tuple(factors), tuple(horizons), np.asarray(groups)
    labels = np.stack([_classes(name, values) for name, values in factors.items()], axis=1)
    pairs = [_rows_ahead(episodes, horizon) for horizon in ahead]
    everything = np.ones(len(labels), np.bool_)
    units = equal_count_bins(np.asarray(activations))
    bits = _grid(units, labels, everything, pairs)
    null = np.stack([_grid(units, *drawn, pairs) for drawn in pseudo_sessions(labels, steps, episodes, n_sessions, random_state)])
    family_wise = np.empty_like(bits)
    for cell in np.ndindex(bits.shape[1:]):
        family_wise[:, *cell] = grid_test(bits[:, *cell], null[:, :, *cell]).family_wise
    best_of_twins = [_grid(equal_count_bins(np.asarray(twin)), labels, everything, pairs).max(axis=0) for twin in twins]
    twin_best = np.array(best_of_twins, np.float64).reshape(-1, *bits.shape[1:])
    return UnitInformation(names, ahead, bits, null.max(axis=1), family_wise, twin_best)


def _classes(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return class labels, or say why they are none."""
    given = np.asarray(values)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"factor {name!r} must be class labels, integers (n_samples,); got {given.dtype} {given.shape}: bin it first")
    return given.astype(np.int64)


def _rows_ahead(groups: NDArray[Any], horizon: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows whose episode goes on for so many steps, and the rows that they lead to."""
    if horizon < 0:
        raise ValueError(f"horizons must be 0 or more; got {horizon}")
    now = np.flatnonzero(groups[: max(len(groups) - horizon, 0)] == groups[horizon:])
    if not len(now):
        raise ValueError(f"no episode goes on for {horizon} steps; ask for shorter horizons")
    return now, now + horizon


def _grid(
    bins: NDArray[np.int64], labels: NDArray[Any], known: NDArray[np.bool_], pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Floats:
    """Return the information of every unit, factor and horizon (n_units, n_factors, n_horizons), where the label ahead is known."""
    bits = np.empty((bins.shape[1], labels.shape[1], len(pairs)))
    for place, (now, later) in enumerate(pairs):
        kept = known[later]
        if not kept.any():
            raise ValueError(f"no label {int(later[0] - now[0])} steps ahead is left under the null; ask for shorter horizons")
        for factor in range(labels.shape[1]):
            bits[:, factor, place] = binned_information(bins[now[kept]], labels[later[kept], factor])
    return bits


@dataclass(frozen=True, eq=False)
class Ablations:
    """What silencing units costs, beside erasing the directions that a probe finds."""

    erasure: Erasure
    directions: DoseResponse
    """All directions of the factor erased."""
    units: tuple[DoseResponse, ...]
    """Each unit set to its mean, alone, in the order asked for."""
    together: DoseResponse
    """All of these units at once."""


def silence_units(agent: EditableAgent, world: World, mean: Floats, units: Sequence[int], config: ErasingConfig, kind: str) -> DoseResponse:
    """Return what an agent earns with units of what it carries moved to their means (width,), in doses."""
    return DoseResponse(kind, (0.0, *config.doses), dose_returns(agent, world, unit_eraser(mean, units), config))


def unit_eraser(mean: Floats, units: Sequence[int]) -> Eraser:
    """Return the eraser that sets units to their means (width,)."""
    chosen = np.eye(len(mean))[list(units)]
    return Eraser(mean, chosen.T, chosen)


def ablate_units(
    agent: EditableAgent,
    world: World,
    factor: str,
    units: Sequence[int],
    config: ErasingConfig | None = None,
) -> Ablations:
    """Set units of a running agent to their means, one by one and together, and erase all directions of a factor.

    Parameters
    ----------
    agent : EditableAgent
    world : World
    factor : str
        Categorical.
    units : sequence of int
        Columns of what the agent carries (its sites in `carried`, one after the other).
    config : ErasingConfig, optional

    Returns
    -------
    Ablations

    Raises
    ------
    IndexError
        If the agent carries no such unit.
    ValueError
        As `erase_factor`, or if no unit is named.
    """
    config = config or ErasingConfig()
    if not units:
        raise ValueError("name at least one unit to ablate")
    erasure = erase_factor(agent, world, factor, config)
    mean = erasure.eraser.mean
    if not all(0 <= unit < len(mean) for unit in units):
        raise IndexError(f"units must lie between 0 and {len(mean) - 1}, the columns of what the agent carries; got {list(units)}")

    alone = tuple(silence_units(agent, world, mean, [unit], config, f"unit {unit}") for unit in units)
    directions = DoseResponse(factor, (0.0, *config.doses), dose_returns(agent, world, erasure.eraser, config))
    return Ablations(erasure, directions, alone, silence_units(agent, world, mean, units, config, "units together"))
