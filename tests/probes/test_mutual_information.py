from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_selection import mutual_info_regression

from worldprobe.probes import MINE, gaussian_information, nearest_neighbour_information

Floats = NDArray[np.float64]


def channel(n: int, gain: float = 2.0, seed: int = 0) -> tuple[Floats, Floats, float]:
    """Draw the input and output of a Gaussian channel, and return its information log(1 + gain^2) / 2 in nats."""
    signal, noise = np.random.default_rng(seed).normal(size=(2, n, 1))
    return signal, gain * signal + noise, 0.5 * float(np.log(1 + gain**2))


def test_a_gaussian_channel_has_its_closed_form() -> None:
    x, y, information = channel(60_000)
    assert gaussian_information(x, y) == pytest.approx(information, rel=0.02)
    assert nearest_neighbour_information(x, y) == pytest.approx(information, rel=0.02)


def test_a_trained_bound_reaches_the_closed_form() -> None:
    x, y, information = channel(60_000, gain=3.0)
    mine = MINE(hidden=(32, 32), n_epochs=15, batch_size=512, learning_rate=3e-3).fit(x[:30_000], y[:30_000])
    assert mine.estimate(x[30_000:], y[30_000:]) == pytest.approx(information, rel=0.02)


def test_canonical_correlations_of_several_dimensions() -> None:
    rng = np.random.default_rng(0)
    covariance = np.cov(rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)), rowvar=False)
    rows = rng.multivariate_normal(np.zeros(5), covariance, size=50_000)
    parts = [np.linalg.slogdet(np.cov(rows[:, which], rowvar=False))[1] for which in ([0, 1], [2, 3, 4], [0, 1, 2, 3, 4])]
    expected = 0.5 * (parts[0] + parts[1] - parts[2])
    assert gaussian_information(rows[:, :2], rows[:, 2:]) == pytest.approx(expected, rel=1e-6)
    mixed = rows[:, :2] @ rng.normal(size=(2, 2)) + 5
    assert gaussian_information(np.column_stack([mixed, mixed @ [1, 1], np.ones(50_000)]), rows[:, 2:]) == pytest.approx(expected, rel=1e-6)
    assert gaussian_information(rows, rows[:, :1]) == np.inf


def test_neighbours_agree_with_scikit_learns_and_see_what_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    y = x**2 + 0.3 * rng.normal(size=3000)
    theirs = mutual_info_regression(x[:, None], y, n_neighbors=3, random_state=0)[0]
    assert nearest_neighbour_information(x / x.std(), y / y.std()) == pytest.approx(theirs, rel=0.02)
    assert theirs > 0.5 > 0.1 > gaussian_information(x, y)
    assert nearest_neighbour_information(x, rng.permutation(y)) == pytest.approx(0.0, abs=0.04)


def test_several_pairs_are_trained_side_by_side() -> None:
    rng = np.random.default_rng(0)
    x, y, information = channel(4000, gain=3.0)
    bits = rng.integers(2, size=(4000, 1)).astype(np.float64)
    X = np.stack([x, x, np.concatenate([bits], axis=1)])
    Y = np.stack([y, rng.permutation(y), bits])
    mine = MINE(hidden=(32, 32), n_epochs=40, batch_size=256).fit(X[:, :2000], Y[:, :2000])
    estimates = mine.estimate(X[:, 2000:], Y[:, 2000:])
    np.testing.assert_allclose(estimates, [information, 0.0, np.log(2)], atol=0.12)
    assert mine.validation_.shape == (40, 3)
    again = MINE(hidden=(32, 32), n_epochs=40, batch_size=256).fit(X[:, :2000], Y[:, :2000])
    np.testing.assert_array_equal(again.estimate(X[:, 2000:], Y[:, 2000:]), estimates)


def test_the_bound_is_told_rows_that_it_did_not_learn() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 400, 10))
    mine = MINE(hidden=(64, 64), n_epochs=60, batch_size=64).fit(X[:200], Y[:200])
    assert float(mine.estimate(X[200:], Y[200:])) < 0.1


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="100 rows coincide with 3 others"):
        nearest_neighbour_information(np.repeat([0, 1], 50), np.repeat([0, 1], 50))
    with pytest.raises(ValueError, match="between 1 and the number of rows less one"):
        nearest_neighbour_information(np.arange(3), np.arange(3))
    with pytest.raises(ValueError, match="got 4 and 3 rows"):
        gaussian_information(np.arange(4), np.arange(3))
    with pytest.raises(ValueError, match="leading axis of pairs"):
        MINE().fit(np.zeros((4, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="2 rows or more each; got 5 and 1"):
        MINE().fit(np.zeros((6, 2)), np.zeros((6, 2)))
