from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression

from worldprobe.probes import Eraser, EraserFitter, MLPProbe, fit_inlp

Floats = NDArray[np.float64]


def activations(seed: int = 0, n: int = 3000, n_features: int = 12, n_classes: int = 4) -> tuple[Floats, NDArray[np.int64]]:
    """Draw correlated activations of unequal scales whose means, and whose products, depend on a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    latent = rng.normal(size=(n, n_features)) + rng.normal(size=(n_classes, n_features))[labels]
    latent[:, -1] = latent[:, -2] * np.where(labels == 0, 1.0, -1.0)
    return latent @ rng.normal(size=(n_features, n_features)) * np.logspace(-2, 2, n_features) + 5.0, labels


def fitted(X: Floats, labels: NDArray[np.int64]) -> EraserFitter:
    return EraserFitter().update(X, np.eye(int(labels.max()) + 1)[labels])


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("method", ["leace", "mean_difference"])
def test_after_erasure_no_linear_map_beats_a_constant(method: str, n_classes: int) -> None:
    X, labels = activations(n_classes=n_classes)
    eraser: Eraser = getattr(fitted(X, labels), method)()
    erased, one_hot = eraser.transform(X), np.eye(n_classes)[labels]
    assert eraser.rank == n_classes - 1
    whitened = np.linalg.svd(erased - erased.mean(axis=0), full_matrices=False)[0][:, : 12 - eraser.rank]
    assert LinearRegression().fit(whitened, one_hot).score(whitened, one_hot) <= 1e-6
    classifier = LogisticRegression(C=1e3).fit(whitened * np.sqrt(len(X)), labels)
    majority = np.bincount(labels).max() / len(labels)
    assert classifier.score(whitened * np.sqrt(len(X)), labels) == pytest.approx(majority, abs=1e-9)
    before = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[0]
    assert LinearRegression().fit(before, one_hot).score(before, one_hot) > 0.2


def test_no_other_eraser_moves_the_activations_less() -> None:
    X, labels = activations()
    fitter = fitted(X, labels)
    leace = fitter.leace()
    assert leace.displacement(X) < 0.9 * fitter.mean_difference().displacement(X)
    cross = (X - X.mean(axis=0)).T @ np.eye(4)[labels] / len(X)
    directions = np.linalg.svd(cross, full_matrices=False)[0][:, : leace.rank]
    rng = np.random.default_rng(0)
    for _ in range(20):  # every projection that annuls the covariance with the concept subtracts what spans it, however it is read
        reading = leace.reading * (1 + 0.1 * rng.normal(size=leace.reading.shape))
        other = Eraser(leace.mean, reading, np.linalg.solve(directions.T @ reading, directions.T))
        np.testing.assert_allclose(other.writing.T @ (other.reading.T @ cross), cross, atol=1e-8 * np.abs(cross).max())
        assert other.displacement(X) > leace.displacement(X)


def test_what_is_linear_is_erased_and_a_product_is_not() -> None:
    rng = np.random.default_rng(0)
    goal, groups = rng.integers(2, size=2000), np.repeat(np.arange(100), 20)
    sign = rng.choice([-1.0, 1.0], size=2000)
    X = np.column_stack([sign * (2 * goal - 1), sign, 2.0 * goal]) + 0.1 * rng.normal(size=(2000, 3))
    erased = fitted(X, goal).leace().transform(X)
    late = groups >= 50
    network = MLPProbe((32,), loss="log", max_epochs=20).fit(erased[~late], goal[~late], groups=groups[~late])
    assert network.score(erased[late], goal[late]) > 0.95


@pytest.mark.parametrize("method", ["leace", "mean_difference"])
def test_erasing_twice_is_erasing_once(method: str) -> None:
    X, labels = activations()
    eraser: Eraser = getattr(fitted(X, labels), method)()
    np.testing.assert_allclose(eraser.writing @ eraser.reading, np.eye(eraser.rank), atol=1e-9)
    once = eraser.transform(X)
    np.testing.assert_allclose(eraser.transform(once), once, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(once.mean(axis=0), X.mean(axis=0), rtol=1e-6)


def test_leace_commutes_with_every_invertible_map() -> None:
    X, labels = activations()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    mixing = np.random.default_rng(1).normal(size=(12, 12))
    mixed = fitted(X @ mixing, labels).leace().transform(X @ mixing)
    np.testing.assert_allclose(mixed, fitted(X, labels).leace().transform(X) @ mixing, atol=1e-6)


def test_batches_give_what_all_rows_give() -> None:
    X, labels = activations()
    whole, streamed, one_hot = fitted(X, labels).leace(), EraserFitter(), np.eye(4)[labels]
    for rows in np.array_split(np.arange(len(X)), 7):
        streamed.update(X[rows], one_hot[rows])
    np.testing.assert_allclose(streamed.leace().transform(X), whole.transform(X), rtol=1e-7, atol=1e-6)


def test_collinear_and_constant_features_are_left_whole() -> None:
    X, labels = activations(n_features=6)
    wide = np.column_stack([X, X @ np.ones(6), np.full(len(X), 3.0)])
    eraser = fitted(wide, labels).leace()
    erased = eraser.transform(wide)
    assert eraser.rank == 3
    np.testing.assert_allclose(erased[:, :6], fitted(X, labels).leace().transform(X), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(erased[:, 6], erased[:, :6].sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(erased[:, 7], 3.0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), n_classes=st.integers(2, 5), like=st.sampled_from(["leace", "mean_difference"]))
def test_random_directions_match_rank_and_displacement(seed: int, n_classes: int, like: str) -> None:
    X, labels = activations(seed, n=400, n_classes=n_classes)
    fitter = fitted(X, labels)
    eraser: Eraser = getattr(fitter, like)()
    control = fitter.random(eraser, random_state=seed)
    assert control.rank == eraser.rank
    assert control.displacement(X) == pytest.approx(eraser.displacement(X), rel=1e-6)
    np.testing.assert_allclose(control.reading.T @ control.reading, np.eye(control.rank), atol=1e-9)


def test_random_directions_are_drawn_by_their_seed_and_leave_the_concept() -> None:
    X, labels = activations()
    fitter = fitted(X, labels)
    leace = fitter.leace()
    one, same, other = (fitter.random(leace, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.reading, same.reading)
    assert np.abs(one.reading - other.reading).max() > 1e-3
    left = one.transform(X)
    assert LinearRegression().fit(left, np.eye(4)[labels]).score(left, np.eye(4)[labels]) > 0.1


def test_inlp_removes_what_the_probe_reads() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=3000)
    X = rng.normal(size=(3000, 8)) + 2.0 * np.eye(3, 8)[labels]
    majority = np.bincount(labels).max() / len(labels)
    eraser = fit_inlp(X, labels, n_rounds=2)
    assert eraser.rank == 4
    np.testing.assert_allclose(eraser.reading.T @ eraser.reading, np.eye(4), atol=1e-9)
    assert LogisticRegression().fit(X, labels).score(X, labels) > majority + 0.3
    erased = eraser.transform(X)
    assert LogisticRegression().fit(erased, labels).score(erased, labels) < majority + 0.03
    assert fit_inlp(X, labels, n_rounds=1).rank == 2


def test_inlp_ends_where_nothing_is_left() -> None:
    X, labels = activations(n_features=3, n_classes=2)
    assert fit_inlp(X, labels, n_rounds=20).rank <= 3


def test_float32_stays_float32() -> None:
    X, labels = activations()
    assert fitted(X, labels).leace().transform(X.astype(np.float32)).dtype == np.float32


def test_an_eraser_is_read_as_it_was_written(tmp_path: Path) -> None:
    X, labels = activations()
    eraser = fitted(X, labels).leace()
    eraser.save(tmp_path / "goal.safetensors")
    np.testing.assert_array_equal(Eraser.load(tmp_path / "goal.safetensors").transform(X), eraser.transform(X))


def test_what_cannot_be_erased_is_refused(tmp_path: Path) -> None:
    X, labels = activations()
    with pytest.raises(ValueError, match="call `update` first"):
        EraserFitter().leace()
    with pytest.raises(ValueError, match="nothing to erase"):
        EraserFitter().update(X, np.ones(len(X))).leace()
    with pytest.raises(ValueError, match=r"must be \(n_samples, 12\)"):
        fitted(X, labels).leace().transform(X[:, :3])
    bad: Any = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="the first at row 3, column 2"):
        fitted(bad, labels)
    big = fitted(100 * X, labels).leace()
    with pytest.raises(ValueError, match="fit the other eraser on the same rows"):
        fitted(X, labels).random(Eraser(big.mean, big.reading, 1e3 * big.writing), 0)
    (tmp_path / "x.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ValueError, match="holds no eraser"):
        Eraser.load(tmp_path / "x.safetensors")


@given(st.integers(0, 1000), st.integers(2, 4))
def test_a_random_eraser_that_spares_the_concept_leaves_its_covariances(seed: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=600)
    one_hot = np.eye(n_classes)[labels]
    X = rng.normal(size=(600, 12)) @ np.diag(np.linspace(0.5, 3, 12)) + 2 * one_hot @ rng.normal(size=(n_classes, 12))
    fitter = EraserFitter().update(X, one_hot)
    leace = fitter.leace()
    control = fitter.random(leace, seed, spare=True)
    edited = control.transform(X)
    assert control.rank == leace.rank
    assert control.displacement(X) <= leace.displacement(X) * (1 + 1e-6)
    centred = one_hot - one_hot.mean(axis=0)
    np.testing.assert_allclose((edited - edited.mean(axis=0)).T @ centred, (X - X.mean(axis=0)).T @ centred, atol=1e-6 * len(X))


def test_a_concept_that_takes_most_directions_leaves_the_rest_as_control_and_none_if_it_takes_all() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=400)
    X = rng.normal(size=(400, 6)) + 3 * np.eye(5, 6)[labels]
    fitter = EraserFitter().update(X, np.eye(5)[labels])
    assert fitter.random(fitter.leace(), 0, spare=True).rank == 2
    narrow = EraserFitter().update(X[:, :4], np.eye(5)[labels])
    with pytest.raises(ValueError, match="the concept takes all 4 directions"):
        narrow.random(narrow.leace(), 0, spare=True)
