from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ortho_group

from worldprobe.probes import linear_cka, representational_similarity, similarity_matrix

Floats = NDArray[np.float64]


def pair(seed: int, n: int = 30, p: int = 5, q: int = 7) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.arange(1, p + 1)
    return X, np.column_stack([X[:, :2] + 0.5 * rng.normal(size=(n, 2)), rng.normal(size=(n, q - 2))])


@pytest.mark.parametrize("measure", [linear_cka, lambda x, y: linear_cka(x, y, debiased=True), representational_similarity])
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_rotation_translation_and_scale_change_nothing(measure: object, seed: int, scale: float) -> None:
    assert callable(measure)
    X, Y = pair(seed)
    moved = scale * (X @ ortho_group.rvs(5, random_state=seed) + np.arange(5))
    assert measure(moved, Y) == pytest.approx(measure(X, Y), abs=2e-3)
    assert measure(moved, X) == pytest.approx(1.0, abs=1e-3)
    assert measure(X, Y) == pytest.approx(measure(Y, X))


def test_a_map_that_is_no_rotation_changes_cka() -> None:
    X, Y = pair(0)
    assert linear_cka(X * [1, 100, 1, 1, 1], Y) > linear_cka(X, Y) + 0.05


def test_correlation_distances_ignore_scale_and_shift_of_rows() -> None:
    X, Y = pair(0)
    rng = np.random.default_rng(0)
    moved = X * rng.uniform(0.5, 2, size=(30, 1)) + rng.normal(size=(30, 1))
    assert representational_similarity(moved, Y, "correlation") == pytest.approx(representational_similarity(X, Y, "correlation"))
    assert representational_similarity(moved, Y) != pytest.approx(representational_similarity(X, Y), abs=0.01)


@given(st.integers(0, 2**31))
def test_cka_is_the_alignment_of_centred_kernels(seed: int) -> None:
    X, Y = pair(seed)
    centring = np.eye(30) - 1 / 30
    K, L = (centring @ rows @ rows.T @ centring for rows in (X, Y))
    assert linear_cka(X, Y) == pytest.approx((K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L))


@given(st.integers(0, 2**31))
def test_debiased_products_are_those_of_the_kernels_without_diagonals(seed: int) -> None:
    X, Y = pair(seed, n=12)

    def product(one: Floats, other: Floats) -> float:
        K, L = (rows @ rows.T * (1 - np.eye(12)) for rows in (one, other))
        ones = np.ones(12)
        corner = (ones @ K @ ones) * (ones @ L @ ones) / (11 * 10) - 2 / 10 * ones @ K @ L @ ones
        return float((np.trace(K @ L) + corner) / (12 * 9))

    expected = product(X, Y) / np.sqrt(product(X, X) * product(Y, Y))
    assert linear_cka(X, Y, debiased=True) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_unrelated_wide_representations_are_alike_only_with_the_bias() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(2, 40, 200)) for _ in range(50)]
    assert np.mean([linear_cka(X, Y) for X, Y in draws]) > 0.8
    debiased = [linear_cka(X, Y, debiased=True) for X, Y in draws]
    assert abs(np.mean(debiased)) < 4 * np.std(debiased) / np.sqrt(50)


def test_a_matrix_of_sites() -> None:
    X, Y = pair(0)
    matrix = similarity_matrix({"encoder": X, "core": Y, "late": X @ ortho_group.rvs(5, random_state=0)}, representational_similarity)
    np.testing.assert_allclose(matrix.diagonal(), 1.0)
    assert matrix[0, 1] == matrix[1, 0] == representational_similarity(X, Y)
    assert matrix[0, 2] == pytest.approx(1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    X, Y = pair(0)
    with pytest.raises(ValueError, match="of the same rows"):
        linear_cka(X, Y[:-1])
    with pytest.raises(ValueError, match="4 rows or more; got 3"):
        linear_cka(X[:3], Y[:3], debiased=True)
    with pytest.raises(ValueError, match="at least 3 rows"):
        representational_similarity(X[:2], Y[:2])
    assert np.isnan(linear_cka(np.ones((10, 2)), Y[:10]))
