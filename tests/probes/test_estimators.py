"""What scikit-learn asks of every estimator, asked of every estimator here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from worldprobe.probes import LogisticProbe, MLPProbe, RandomFeatures, RankLimitedProbe, RidgeProbe, SparseProbe, UngroupedRowsWarning

ESTIMATORS = [
    RidgeProbe(),
    LogisticProbe(),
    RandomFeatures(n_features=64),
    RandomFeatures(n_features=64, kind="cos"),
    MLPProbe(hidden=(32,), max_epochs=30),
    MLPProbe(hidden=(32,), loss="log", max_epochs=30),
]
PROBES = [RidgeProbe(), LogisticProbe(), MLPProbe(max_epochs=5), MLPProbe(loss="log", max_epochs=5)]


# The array API is not claimed, and scikit-learn skips its check where that is not switched on.
CHECKS = [pair for one in ESTIMATORS for pair in estimator_checks_generator(one) if pair[1].func.__name__ != "check_array_api_input"]


@pytest.mark.filterwarnings("ignore::worldprobe.probes.UngroupedRowsWarning")  # the iris are sorted by species
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[f"{one}-{check.func.__name__}" for one, check in CHECKS])
def test_scikit_learns_contract(estimator: BaseEstimator, check: Callable[[BaseEstimator], None]) -> None:
    check(clone(estimator))


@pytest.fixture(params=PROBES, ids=str)
def probe(request: pytest.FixtureRequest) -> Any:
    return clone(request.param)


def data(probe: Any, n: int = 120) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    Y = np.column_stack([X[:, 0], X[:, 1]]) + 0.1 * rng.normal(size=(n, 2))
    labels = hasattr(probe, "predict_proba")
    return X, (Y > 0).astype(int) if labels else Y, np.repeat(np.arange(n // 10), 10)


def test_one_column_is_answered_as_it_was_asked(probe: Any) -> None:
    X, Y, groups = data(probe)
    assert probe.fit(X, Y[:, 0], groups=groups).predict(X).shape == (120,)
    assert probe.fit(X, Y[:, :1], groups=groups).predict(X).shape == (120, 1)
    assert probe.fit(X, Y, groups=groups).predict(X).shape == (120, 2)


def test_fitting_again_forgets(probe: Any) -> None:
    X, Y, groups = data(probe)
    fresh = clone(probe).fit(X, Y, groups=groups).predict(X)
    assert np.array_equal(probe.fit(X[:60], Y[:60, 0], groups=groups[:60]).fit(X, Y, groups=groups).predict(X), fresh)


def test_float32_is_read_as_it_is(probe: Any) -> None:
    X, Y, groups = data(probe)
    double, single = (clone(probe).fit(X.astype(dtype), Y, groups=groups).score(X, Y) for dtype in (np.float64, np.float32))
    assert single == pytest.approx(double, abs=0.01)


def test_works_in_scikit_learns_searches(probe: Any) -> None:
    X, Y, groups = data(probe)
    pipeline = make_pipeline(RandomFeatures(n_features=32), probe)
    scores = cross_val_score(pipeline, X, Y[:, 0], groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.3
    search = GridSearchCV(probe, {"random_state": [0, 1]}, cv=GroupKFold(3)).fit(X, Y[:, 0], groups=groups)
    assert search.best_score_ > 0.3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_counted_and_placed(probe: Any, bad: float) -> None:
    X, Y, groups = data(probe)
    broken = X.copy()
    broken[[5, 8], 3] = bad
    with pytest.raises(ValueError, match=r"2 of its 480 entries are NaN or inf, the first at row 5, column 3"):
        probe.fit(broken, Y, groups=groups)
    with pytest.raises(ValueError, match="the first at row 5, column 3"):
        probe.fit(X, Y, groups=groups).predict(broken)


def test_a_group_label_for_every_row(probe: Any) -> None:
    X, Y, groups = data(probe)
    with pytest.raises(ValueError, match="expected 120, got 119"):
        probe.fit(X, Y, groups=groups[1:])


@pytest.mark.parametrize("probe", [RidgeProbe(), LogisticProbe(), RankLimitedProbe(), SparseProbe()], ids=str)
def test_rows_of_episodes_without_groups_are_warned_of_by_name(probe: Any) -> None:
    rng = np.random.default_rng(0)
    drift = np.cumsum(rng.normal(size=(200, 5)), axis=0)
    states = rng.integers(3, size=(200, 2)).astype(float)
    y = rng.integers(2, size=200)
    with pytest.warns(UngroupedRowsWarning, match=rf"{type(probe).__name__}\.fit was given no groups, but rows resemble the row before"):
        probe.fit(drift, y)
    with pytest.warns(UngroupedRowsWarning, match=r"rows equal an earlier row \(9\d% of them\)"):
        probe.fit(states, y)
    probe.fit(drift, y, groups=np.arange(200))
    probe.fit(rng.normal(size=(200, 5)), y)
