"""Does one machine simulate the other? The agent's states are mapped to the filter's, both are run, and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.analysis._examine import Examination
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.probes import Estimate, MLPProbe, ratio_interval
from worldprobe.worlds import FiniteWorld

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Simulation:
    """How well mapping and updating commute, after k steps of random actions."""

    horizon: int
    distance: float
    """Mean total variation between the filter run from the mapped state, and the map of the agent's own new state."""
    share: Estimate
    """One minus that distance over what it is where the mapped state is left as it is: 1 they commute, 0 no better than standing still."""
    map_error: float
    """Mean total variation between mapped states and exact beliefs on held-out rows: what the map itself leaves."""


def simulation_similarity(
    examination: Examination, *, hidden: tuple[int, ...] = (128,), max_epochs: int = 30, random_state: int = 0
) -> list[Simulation]:
    r"""Map the agent's states to beliefs, run filter and agent on the same forks, and compare where they arrive.

    :math:`\phi` is an MLP from the hidden state to the exact belief, fitted on recorded rows. From a forked row on, the filter goes from
    :math:`\phi(h_t)` through the actions and observations of the fork, the core from :math:`h_t`; were the agent's update the filter's in
    other words, :math:`\mathrm{filter}^k(\phi(h_t)) = \phi(h'_{t+k})`.

    Parameters
    ----------
    examination : Examination
        Of an agent that can be stepped, in a finite world.
    hidden : tuple of int
        Widths of the map's layers.
    max_epochs : int
        Epochs of the map.
    random_state : int
        Seed of the map.

    Returns
    -------
    list of Simulation
        One per step.

    Raises
    ------
    Unavailable
        If the world is not finite, or of the agent there are only recordings.

    References
    ----------
    Mikulik et al. 2020, "Meta-trained agents implement Bayes-optimal agents".
    """
    world, stream = examination.world, examination.stream
    if not isinstance(world, FiniteWorld) or isinstance(examination.agent, RecordedAgent):
        raise world.unavailable("filter of finitely many states to run beside an agent that can be stepped")
    forks, beliefs = examination.future.forks, np.asarray(stream.recording["belief/state"][:], np.float64)
    rows, held_out = stream.fit_rows(0), np.flatnonzero(stream.folds == 0)
    chosen = np.flatnonzero(stream.folds[forks.rows] == 0)
    forks = forks.take(chosen)
    states = examination.hidden.rows(0)
    mapping = MLPProbe(hidden, "squared", max_epochs=max_epochs, random_state=random_state)
    mapping.fit(states[rows], beliefs[rows], groups=stream.groups[rows])
    running = ~world.tables.terminal.numpy()

    def mapped(values: NDArray[np.float32]) -> Floats:
        raw = np.maximum(mapping.predict(values), 1e-9) * running
        normalised: Floats = raw / raw.sum(axis=1, keepdims=True)
        return normalised

    later = examination.hidden.forks(forks, 0)
    begun = mapped(states[forks.rows])
    filtered, alone, generator = {"state": torch.from_numpy(begun)}, world.belief_filter(forks.channels), torch.Generator()
    error = float(_distance(mapped(states[held_out]), beliefs[held_out]).mean())
    found = []
    for k in range(forks.horizon):
        ended = torch.zeros(len(forks), dtype=torch.bool)
        step = (torch.from_numpy(each[:, k]) for each in (forks.action, forks.reward, forks.observation))
        kept = filtered["state"].clamp_min(1e-9) * torch.from_numpy(running)
        filtered = {"state": kept / kept.sum(1, keepdim=True)}
        going = np.flatnonzero(forks.alive[:, k])
        action, reward, observation = (each[torch.from_numpy(going)] for each in step)
        after = alone.update({"state": filtered["state"][going]}, action, reward, observation, ended[going], generator)
        filtered = {"state": filtered["state"].index_copy(0, torch.from_numpy(going), after["state"])}
        own = mapped(later[going, k])
        apart, still = _distance(after["state"].numpy(), own), _distance(begun[going], own)
        sums = [stream.episode_sums(values, forks.rows[going]) for values in (apart, still)]
        ratio = ratio_interval(sums[1] - sums[0], sums[1])
        share = Estimate(ratio.estimate, ratio.lower, ratio.upper, np.nan, ratio.estimable, ratio.reason)
        found.append(Simulation(k + 1, float(apart.mean()), share, error))
    return found


def _distance(one: Floats, other: Floats) -> Floats:
    """Total variation of beliefs, row by row."""
    distance: Floats = np.abs(one - other).sum(axis=1) / 2
    return distance
