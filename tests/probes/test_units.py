from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score
from sklearn.utils.estimator_checks import estimator_checks_generator

from worldprobe.probes import UNIT_SCORES, RidgeProbe, SparseProbe, cross_fit, group_folds, r2, rank_units

Plant = Callable[..., SimpleNamespace]
CHECKS = [pair for pair in estimator_checks_generator(SparseProbe()) if pair[1].func.__name__ != "check_array_api_input"]
STEPS, GROUPS = np.tile(np.arange(20), 60), np.repeat(np.arange(60), 20)


@pytest.mark.filterwarnings("ignore::worldprobe.probes.UngroupedRowsWarning")  # the iris are sorted by species
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS])
def test_scikit_learns_contract(estimator: SparseProbe, check: Callable[[SparseProbe], None]) -> None:
    check(estimator)


def units(seed: int, n_units: int = 40) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw slowly drifting units, of unequal scales, and a goal of each episode that none of them knows."""
    rng = np.random.default_rng(seed)
    walks = rng.normal(size=(60, 20, n_units)).cumsum(axis=1) + 3 * rng.normal(size=(60, 1, n_units))
    return walks.reshape(-1, n_units) * np.logspace(-1, 1, n_units), rng.integers(3, size=60)[GROUPS]


@pytest.mark.parametrize("score", UNIT_SCORES)
def test_the_planted_units_come_first_and_pass_the_bar_of_the_best(score: str) -> None:
    X, goal = units(1)
    planted = np.array([5, 31])
    X[:, planted] += 6 * X[:, planted].std(axis=0) * np.column_stack([goal == 0, goal == 1])
    ranking = rank_units(X, goal, STEPS, GROUPS, score)
    assert set(ranking.order[:2]) == set(planted)
    assert set(np.flatnonzero(ranking.test.family_wise <= 0.05)) == set(planted)
    scaled = rank_units(X * np.logspace(2, -2, 40), goal, STEPS, GROUPS, score, n_sessions=1)
    np.testing.assert_allclose(scaled.scores, ranking.scores, rtol=1e-6)


@pytest.mark.parametrize("score", UNIT_SCORES)
def test_the_best_of_many_units_that_know_nothing_passes_one_time_in_twenty(score: str) -> None:
    passed, naive = 0, 0
    for seed in range(60):
        X, goal = units(seed, n_units=30)
        test = rank_units(X, goal, STEPS, GROUPS, score, n_sessions=19, random_state=seed).test
        passed += bool((test.family_wise <= 0.05).any())
        naive += bool((test.p_values <= 0.05).any())
    assert passed <= 8  # 3 are expected; more than 8 of 60 happen once in 300 tries
    assert naive > 30


def test_information_is_that_of_the_binned_unit() -> None:
    X, goal = units(0, n_units=3)
    for unit, score in zip(X.T, UNIT_SCORES["information"](X, goal), strict=True):
        bins = np.searchsorted(np.quantile(unit, np.arange(1, 8) / 8, method="inverted_cdf"), unit)
        assert score == pytest.approx(mutual_info_score(bins, goal) / np.log(2), abs=0.01)
    copy = goal[:, None].astype(np.float64)
    frequencies = np.bincount(goal) / len(goal)
    assert UNIT_SCORES["information"](copy, goal)[0] == pytest.approx(-np.sum(frequencies * np.log2(frequencies)))


def test_forward_selection_by_brute_force(plant: Plant) -> None:
    data = plant(n_features=7, noise=1.0)
    Z, Y = data.X - data.X.mean(axis=0), (data.Y - data.Y.mean(axis=0)) / data.Y.std(axis=0)
    chosen: list[int] = []
    for _ in range(4):
        left = [unit for unit in range(7) if unit not in chosen]
        losses = [np.linalg.lstsq(Z[:, [*chosen, unit]], Y, rcond=None)[1].sum() for unit in left]
        chosen.append(left[int(np.argmin(losses))])
    for k in (1, 4):
        assert list(SparseProbe(k).fit(data.X, data.Y, groups=data.groups).units_) == chosen[:k]


def test_few_units_are_enough_for_a_sparse_code_and_not_for_a_spread_one() -> None:
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(2000, 40)), np.repeat(np.arange(100), 20)
    folds = group_folds(groups, 4)
    codes = {"sparse": X[:, 3] - X[:, 8], "spread": X @ rng.choice([-1.0, 1.0], size=40)}
    scores = {name: float(r2(Y, cross_fit(X, Y, groups, folds, SparseProbe(2)).predictions)[0]) for name, Y in codes.items()}
    assert scores["sparse"] > 0.99
    assert scores["spread"] < 0.2
    noise = rng.normal(size=2000)
    assert r2(noise, cross_fit(X, noise, groups, folds, SparseProbe(2)).predictions)[0] < 0.01  # chosen without the held-out rows


def test_all_units_are_the_ridge_probe_and_copies_are_passed_over(plant: Plant) -> None:
    data = plant()
    full = SparseProbe(6).fit(data.X, data.Y, groups=data.groups)
    ridge = RidgeProbe().fit(data.X, data.Y, groups=data.groups)
    np.testing.assert_allclose(full.predict(data.X), ridge.predict(data.X), rtol=1e-6, atol=1e-8)
    doubled = np.column_stack([data.X, data.X, np.ones(len(data.X))])
    assert len(set(SparseProbe(6).fit(doubled, data.Y, groups=data.groups).units_ % 6)) == 6
    assert len(set(SparseProbe(13).fit(doubled, data.Y, groups=data.groups).units_)) == 13


def test_what_cannot_be_ranked_is_refused() -> None:
    X, goal = units(0)
    with pytest.raises(ValueError, match="score must be one of weights, mean difference, information; got 'luck'"):
        rank_units(X, goal, STEPS, GROUPS, "luck")
    with pytest.raises(ValueError, match="n_units must be 1 or more; got 0"):
        SparseProbe(0).fit(X, X[:, 0])
