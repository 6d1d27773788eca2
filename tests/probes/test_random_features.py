from __future__ import annotations

import numpy as np
import pytest

from worldprobe.probes import RandomFeatures, RidgeProbe, r2


def test_cosines_approach_the_gaussian_kernel() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 10.0, 0.1] + 5
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    squared = ((Z[:, None] - Z[None]) ** 2).sum(axis=2)
    features = RandomFeatures(n_features=40_000, kind="cos", gamma=0.7).fit_transform(X)
    np.testing.assert_allclose(features @ features.T / 40_000, np.exp(-(0.7**2) * squared / 6), atol=0.03)


def test_rectified_features_approach_the_arc_cosine_kernel() -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    Z = np.column_stack([(X - X.mean(axis=0)) / X.std(axis=0) / 2, np.ones(30)])  # the offset is one more unit input
    norms = np.linalg.norm(Z, axis=1)
    angle = np.arccos(np.clip(Z @ Z.T / np.outer(norms, norms), -1, 1))
    kernel = np.outer(norms, norms) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    features = RandomFeatures(n_features=40_000).fit_transform(X)
    np.testing.assert_allclose(features @ features.T / 40_000, kernel, atol=0.06)


def test_rows_are_standardised_by_the_fitted_ones_only() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(50, 2)), np.full(50, 3.0)])
    transformer = RandomFeatures(n_features=16).fit(X)
    other = X.copy()
    other[:, 2] = 1e9
    np.testing.assert_array_equal(transformer.transform(other), transformer.transform(X))
    np.testing.assert_allclose(transformer.transform(X[:3]), transformer.transform(X)[:3])


def test_a_linear_probe_on_them_finds_an_xor_code() -> None:
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 1.0], size=(2000, 2)) + 0.1 * rng.normal(size=(2000, 2))
    y = np.sign(X[:, 0] * X[:, 1])
    features = RandomFeatures(n_features=64).fit(X[:1000]).transform(X)
    assert r2(y[1000:], RidgeProbe().fit(features[:1000], y[:1000]).predict(features[1000:]))[0] > 0.95


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be 'relu' or 'cos'; got 'tanh'"):
        RandomFeatures(kind="tanh").fit(np.eye(3))  # type: ignore[arg-type]  # the point of the test
