from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import numpy as np
import pytest

from worldprobe.analysis import measure_coherence, optimal_actions
from worldprobe.analysis._coherence import _area


def histories(n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places 0 .. 3 of two goals: the first place asks for an action by the goal, the others for one and the same."""
    rng = np.random.default_rng(0)
    goal, place = rng.integers(2, size=n), rng.integers(4, size=n)
    beliefs = np.eye(8)[4 * goal + place]
    values = np.where((place == 0)[:, None], np.eye(3)[goal], np.eye(3)[2])
    return beliefs, values, np.arange(n) // 3, place


def test_the_area_is_the_probability_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    equal, different = rng.integers(5, size=30).astype(float), rng.integers(8, size=40).astype(float)
    brute = np.mean([1.0 if a < b else 0.5 if a == b else 0.0 for a in equal for b in different])
    assert _area(equal, different) == pytest.approx(brute)


def test_values_of_the_optimum_are_coherent_and_noise_is_not() -> None:
    beliefs, values, groups, _ = histories()
    optimal = optimal_actions(values)
    assert measure_coherence(values, beliefs, optimal, groups).auc == 1.0
    assert measure_coherence(beliefs, beliefs, optimal, groups).auc == 1.0
    noise = measure_coherence(np.random.default_rng(2).normal(size=(600, 4)), beliefs, optimal, groups)
    assert noise.lower < 0.5 < noise.upper


def test_one_that_knows_the_place_but_not_the_goal_lacks_distinction() -> None:
    beliefs, values, groups, place = histories()
    there = place == 0
    forgetful = np.eye(4)[place]
    blind = measure_coherence(forgetful[there], beliefs[there], optimal_actions(values)[there], groups[there])
    assert blind.auc == pytest.approx(0.5)
    assert measure_coherence(values[there], beliefs[there], optimal_actions(values)[there], groups[there]).auc == 1.0


def test_pairs_within_an_episode_do_not_count() -> None:
    beliefs, values, _, _ = histories(200)
    alone = measure_coherence(values, beliefs, optimal_actions(values), np.zeros(200, np.int64))
    assert np.isnan(alone.auc)
    assert "blocks of episodes have 30 pairs" in alone.reason


def test_equally_good_actions_are_all_optimal() -> None:
    assert optimal_actions(np.array([[1.0, 1.0 - 1e-9, 0.0], [0.0, 0.5, 2.0]])).tolist() == [[True, True, False], [False, False, True]]
    with pytest.raises(ValueError, match=r"got lengths \[2, 3\]"):
        measure_coherence(np.zeros((2, 1)), np.zeros((3, 2)), np.zeros((3, 2), np.bool_), np.zeros(3, np.int64))


def test_r12_the_belief_agent_is_coherent(load_study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    mpl.use("Agg")
    study = load_study("r12_coherence")
    table = study.main(study.Study(tmp_path, length=4, n_seeds=1, total_steps=4096, n_episodes=300))
    areas = table.set_index(["agent", "place"]).auc
    assert areas["belief", "crossroad"] > 0.99
    assert areas["untrained 0", "crossroad"] < 0.9
    assert (tmp_path / "r12.png").read_bytes().startswith(b"\x89PNG")
