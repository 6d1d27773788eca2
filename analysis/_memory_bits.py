"""Bits needed, bits had, and surplus: the same variables on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.analysis._bits import FAMILIES, BitsConfig
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import Cell, Measurement, compared, exact, not_compared
from worldprobe.analysis._neurons import whole_episodes
from worldprobe.probes import Estimate, UsableInformation, estimate_usable_information, group_folds
from worldprobe.worlds import Factor, FiniteWorld, Unavailable, find_smallest_controller, finite_core, optimal_sets, solve_pomdp

MAX_ROWS = 20_000
"""Rows, in whole episodes, that bits are counted on."""


@dataclass(frozen=True)
class MemoryConfig:
    """How bits needed are counted."""

    share: float = 0.97
    """Of J*, what a controller is to earn."""
    max_states: int = 4
    """Largest controller that is looked for."""
    n_restarts: int = 10
    """Random controllers that the ascent starts from."""
    epsilon: float = 0.01
    """Of the range of all values: actions so close to the best are as good, where beliefs are merged."""


def memory_bits(examination: Examination, bits: BitsConfig, config: MemoryConfig) -> list[Measurement]:
    r"""Count what must be remembered, what is, and what is beyond that.

    - *needed*: log2 of the states of the smallest controller that earns a share of J*, or its bounds; and
      :math:`H(\phi_\epsilon(b) \mid o)`, where :math:`\phi_\epsilon` merges beliefs with the same good actions;
    - *had*: usable information of the hidden state about :math:`\phi_\epsilon(b)`, given o;
    - *surplus*: usable information about the state, given :math:`\phi_\epsilon(b)` and o.

    Parameters
    ----------
    examination : Examination
        On the agent's own stream: needed, had and surplus are of what it meets.
    bits : BitsConfig
        Families of probes.
    config : MemoryConfig

    Returns
    -------
    list of Measurement
        Quantities "bits-needed", "bits-had" and "bits-surplus", or one that says why there are none.
    """
    world, cell = examination.world, examination.cell("bits-needed", "none")
    factor = world.factor(world.headline.factor)
    try:
        core = finite_core(world)
        channels = examination.stream.recording.channels
        policy = solve_pomdp(core, channels).policy
    except Unavailable as error:
        return [not_compared(cell, factor, "bits", str(error))]
    stream = examination.stream
    rows = whole_episodes(stream.groups, MAX_ROWS, examination.config.seed)
    beliefs = torch.from_numpy(np.asarray(stream.recording["belief/state"][:][rows], np.float64))
    values = policy.q_values({"state": beliefs})
    phi = optimal_sets(values, config.epsilon * float(values.max() - values.min())).numpy()
    observation = _codes(stream.received[rows][:, : world.observation_size])
    state, groups, hidden = np.asarray(stream.recording["state/state"][:][rows]), stream.groups[rows], examination.hidden.rows(0)[rows]
    needed = [_controller(core, cell, factor, config), _entropy(phi, observation, groups, cell, factor)]
    folds, seen, merged = group_folds(groups, 3, examination.config.seed), _one_hot(observation), _one_hot(phi)
    measured = list[Measurement]()
    for family in bits.families:
        probe = FAMILIES[family](bits, examination.config.seed)
        had = estimate_usable_information(hidden, phi, groups, folds, given=seen, estimator=probe)
        both = np.concatenate([seen, merged], axis=1)
        surplus = estimate_usable_information(hidden, state, groups, folds, given=both, estimator=probe)
        for quantity, found in (("bits-had", had), ("bits-surplus", surplus)):
            measured.append(_told(found, replace(cell, quantity=quantity, floor=family), factor, len(rows)))
    return needed + measured


def _controller(core: FiniteWorld, cell: Cell, factor: Factor, config: MemoryConfig) -> Measurement:
    """Return the memory of the smallest controller: its upper bound, with the interval from the lower to the upper one."""
    found = find_smallest_controller(core, config.share, max_states=config.max_states, n_restarts=config.n_restarts)
    here = replace(cell, floor=f"controller for {100 * config.share:.0f} % of J*")
    lower, upper = found.bits
    if found.upper is None:
        words = f"at least {lower:.2f} bits; no controller of up to {config.max_states} states was found that earns it ({found.method})"
        return not_compared(here, factor, "bits", words)
    value = Estimate(upper, lower, upper, np.nan, True, found.method)
    return compared(here, factor, "bits", value, exact(upper), 0, 0)


def _entropy(phi: NDArray[np.int64], observation: NDArray[np.int64], groups: NDArray[np.int64], cell: Cell, factor: Factor) -> Measurement:
    """Return H(phi | o) of the rows, by counting."""
    joint = np.unique(np.stack([observation, phi], axis=1), axis=0, return_counts=True)[1] / len(phi)
    alone = np.unique(observation, return_counts=True)[1] / len(phi)
    entropy = float((alone * np.log2(alone)).sum() - (joint * np.log2(joint)).sum())
    value, here = exact(entropy), replace(cell, floor="H(good actions | o)")
    return compared(here, factor, "bits", value, value, len(np.unique(groups)), len(phi))


def _told(found: UsableInformation, cell: Cell, factor: Factor, n_rows: int) -> Measurement:
    """Return usable information, in bits per step."""
    bits = found.bits
    value = Estimate(bits.estimate, bits.lower, bits.upper, np.nan, bits.estimable, bits.reason)
    return compared(cell, factor, "bits", value, value, len(found.n_labels), n_rows)


def _codes(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number distinct rows."""
    numbers: NDArray[np.int64] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers


def _one_hot(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    hot: NDArray[np.float32] = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
    return hot
