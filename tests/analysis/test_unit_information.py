"""Units that tell what comes: planted ones are found at their horizon, clocks are not, and silencing them costs what they carry."""

from __future__ import annotations

import numpy as np
import pytest

from worldprobe.agents import BeliefAgent
from worldprobe.analysis import ErasingConfig, ablate_units, unit_information
from worldprobe.worlds import MemoryChain

N_EPISODES, LENGTH = 80, 6
STEPS, GROUPS = np.tile(np.arange(LENGTH), N_EPISODES), np.repeat(np.arange(N_EPISODES), LENGTH)


def test_a_planted_unit_is_found_at_its_horizon_only_and_a_clock_never() -> None:
    rng = np.random.default_rng(0)
    coin = rng.integers(2, size=N_EPISODES * LENGTH)
    units = rng.normal(size=(len(coin), 12))
    units[:-2, 3] = coin[2:]  # what the coin will be two steps later
    units[:, 5] = STEPS
    phase = np.where(rng.random(len(coin)) < 0.9, STEPS % 2, 1 - STEPS % 2)
    twins = [rng.normal(size=(len(coin), 12)) for _ in range(3)]
    found = unit_information(units, {"coin": coin, "phase": phase}, STEPS, GROUPS, (0, 2), twins, n_sessions=39)
    assert found.best("coin", 2) == 3
    assert found.bits[3, 0, 1] == pytest.approx(1.0, abs=0.02)
    assert found.family_wise[3, 0, 1] == 1 / 40
    assert found.family_wise[3, 0, 0] > 0.05
    assert found.best("phase", 0) == 5  # it tells the factor, but no more than the time does
    assert (found.family_wise[5] > 0.05).all()
    assert found.twin_p_values[0, 1] == 1 / 4
    assert found.null_best.shape == (39, 2, 2)


def test_labels_that_are_no_classes_and_horizons_that_nobody_reaches_are_refused() -> None:
    units = np.zeros((len(STEPS), 2))
    with pytest.raises(ValueError, match="must be class labels"):
        unit_information(units, {"speed": STEPS / 2}, STEPS, GROUPS)
    with pytest.raises(ValueError, match="no episode goes on for 6 steps"):
        unit_information(units, {"step": STEPS}, STEPS, GROUPS, horizons=(6,))
    with pytest.raises(ValueError, match="0 or more"):
        unit_information(units, {"step": STEPS}, STEPS, GROUPS, horizons=(-1,))


def test_silencing_all_units_costs_as_much_as_erasing_the_directions() -> None:
    world = MemoryChain(length=4)
    agent = BeliefAgent(world, frozenset({"observation", "action"}))
    config = ErasingConfig(n_episodes=96, n_return_episodes=256, doses=(1.0,))
    width = ablate_units(agent, world, "cue", [0], config).erasure.eraser.mean.size
    found = ablate_units(agent, world, "cue", range(width), config)
    assert found.directions.drop()[0] > 0.5
    assert found.together.drop()[0] > 0.5
    assert max(unit.drop()[0] for unit in found.units) <= found.together.drop()[0] + 0.2
    with pytest.raises(IndexError, match="must lie between"):
        ablate_units(agent, world, "cue", [width], config)
