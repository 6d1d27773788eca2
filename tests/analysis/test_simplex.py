from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from worldprobe.analysis._simplex import simplex_least_squares


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(2, 10), st.floats(0.0, 2.0), st.integers(0, 10_000))
def test_the_residual_is_the_least_there_is(n_equations: int, n_states: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    M, truth = rng.normal(size=(n_equations, n_states)) + 3, rng.dirichlet(np.full(n_states, 0.3), size=4)
    q = truth @ M.T + noise * rng.normal(size=(4, n_equations))
    p = simplex_least_squares(M, q)
    assert np.all(p >= 0)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    for mine, target in zip(p, q, strict=True):
        heavy = 1e5 * max(1.0, float(np.abs(target).max()))
        theirs = nnls(np.vstack([M, np.full(n_states, heavy)]), np.append(target, heavy))[0]
        least = np.square(M @ (theirs / theirs.sum()) - target).sum()
        assert np.square(M @ mine - target).sum() <= least + 1e-6 * (1 + least)


def test_designs_of_their_own_are_solved_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    M, q = rng.normal(size=(6, 5, 4)), rng.normal(size=(6, 5))
    together = simplex_least_squares(M, q)
    for design, target, p in zip(M, q, together, strict=True):
        np.testing.assert_allclose(p, simplex_least_squares(design, target[None])[0], atol=1e-6)


def test_what_does_not_matter_is_shared_evenly() -> None:
    M = np.array([[0.0, 0.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(simplex_least_squares(M, np.array([[0.4]])), [[0.3, 0.3, 0.4 / 3, 0.4 / 3, 0.4 / 3]], atol=1e-6)
    np.testing.assert_allclose(simplex_least_squares(np.zeros((2, 5)), np.zeros((1, 2))), np.full((1, 5), 0.2))


def test_scale_and_level_of_the_equations_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    M, p = rng.normal(size=(9, 6)), rng.dirichlet(np.ones(6), size=3)
    for scale, level in ((1e-6, 0.0), (1e6, 0.0), (1.0, 1e4)):
        design = scale * M + level
        np.testing.assert_allclose(simplex_least_squares(design, p @ design.T), p, atol=1e-5)


@pytest.mark.parametrize(("design", "targets"), [(np.zeros((3, 4)), np.zeros((2, 5))), (np.zeros((3, 2, 4)), np.zeros((2, 2)))])
def test_shapes_that_do_not_fit_are_refused(design: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected design \(K, S\) or \(B, K, S\)"):
        simplex_least_squares(design, targets)
    with pytest.raises(ValueError, match="must be finite"):
        simplex_least_squares(np.full((1, 2), np.nan), np.zeros((1, 1)))
