from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from worldprobe.probes import RidgeProbe, group_folds, r2
from worldprobe.probes._splits import StreamedFolds

Plant = Callable[..., SimpleNamespace]
ALPHAS = (1e-4, 1e-2, 1e-1, 1.0, 10.0)


def closed_form(X: NDArray[np.float64], Y: NDArray[np.float64], alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the raw features and intercept, from a singular value decomposition of the standardised rows."""
    scale = X.std(axis=0)
    U, s, V = np.linalg.svd((X - X.mean(axis=0)) / scale, full_matrices=False)
    weights = (V.T * (s / (s**2 + len(X) * alpha))) @ U.T @ (Y - Y.mean(axis=0)) / scale[:, None]
    return weights, Y.mean(axis=0) - X.mean(axis=0) @ weights


@pytest.mark.parametrize("alpha", ALPHAS)
def test_solution_is_the_closed_form(plant: Plant, alpha: float) -> None:
    data = plant()
    probe = RidgeProbe(alphas=(alpha,)).fit(data.X, data.Y)
    weights, intercept = closed_form(data.X, data.Y, alpha)
    np.testing.assert_allclose(probe.coef_, weights.T, rtol=1e-8)
    np.testing.assert_allclose(probe.intercept_, intercept, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(probe.predict(data.X), data.X @ weights + intercept, rtol=1e-8, atol=1e-10)


def test_solution_is_scikit_learns_at_equal_penalty(plant: Plant) -> None:
    data = plant()
    Z = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    theirs = Ridge(alpha=0.3 * len(Z)).fit(Z, data.Y).predict(Z)
    np.testing.assert_allclose(RidgeProbe(alphas=(0.3,)).fit(data.X, data.Y).predict(data.X), theirs, rtol=1e-9, atol=1e-12)


def test_vanishing_penalty_is_least_squares(plant: Plant) -> None:
    data = plant()
    design = np.column_stack([data.X, np.ones(len(data.X))])
    fitted = design @ np.linalg.lstsq(design, data.Y)[0]
    np.testing.assert_allclose(RidgeProbe(alphas=(1e-13,)).fit(data.X, data.Y).predict(data.X), fitted, atol=1e-8)


def test_badly_conditioned_activations_keep_six_digits() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    X = rng.normal(size=(2000, 30)) * np.logspace(0, -4, 30) @ basis + 5.0
    Y = rng.normal(size=(2000, 2)) + X[:, :2]
    np.testing.assert_allclose(RidgeProbe(alphas=(1e-8,)).fit(X, Y).coef_, closed_form(X, Y, 1e-8)[0].T, rtol=1e-6)


def test_float32_products_keep_the_score() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    X = (rng.normal(size=(6000, 30)) * np.logspace(0, -3, 30) @ basis + 5.0).astype(np.float32)
    Y = 20 * rng.normal(size=(30, 4)).T @ X[:, :, None] + rng.normal(size=(6000, 4, 1))
    Y, groups = Y[:, :, 0] - Y[:, :, 0].mean(axis=0), np.repeat(np.arange(100), 60)
    train = groups < 80
    double, single = (
        r2(Y[~train], RidgeProbe(precision=precision).fit(X[train], Y[train], groups=groups[train]).predict(X[~train]))
        for precision in ("float64", "float32")
    )
    assert np.all(double > 0.5)
    np.testing.assert_allclose(single, double, atol=5e-4)
    with pytest.raises(ValueError, match="precision must be 'float64' or 'float32'; got 'float16'"):
        RidgeProbe(precision="float16").fit(X, Y)  # type: ignore[arg-type]  # the point of the test


def held_out_losses(
    X: NDArray[np.float64], Y: NDArray[np.float64], folds: NDArray[np.int64], multipliers: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Squared error (n_alphas, n_targets) over the folds by plain refitting."""
    losses = np.zeros((len(ALPHAS), Y.shape[1]))
    for fold in np.unique(folds):
        train, held = folds != fold, folds == fold
        mean, scale = X[train].mean(axis=0), X[train].std(axis=0) * np.sqrt(1.0 if multipliers is None else multipliers)
        for row, alpha in enumerate(ALPHAS):
            ridge = Ridge(alpha=alpha * train.sum()).fit((X[train] - mean) / scale, Y[train])
            losses[row] += ((Y[held] - ridge.predict((X[held] - mean) / scale)) ** 2).sum(axis=0)
    return losses


def test_penalty_of_each_target_is_the_best_on_held_out_groups(plant: Plant) -> None:
    data = plant(n_groups=12, length=6, noise=3.0)
    Y = np.column_stack([data.Y, np.random.default_rng(1).normal(size=len(data.Y))])
    folds = group_folds(data.groups, 4)
    probe = RidgeProbe(ALPHAS).fit(data.X, Y, groups=data.groups, folds=folds)
    losses = held_out_losses(data.X, Y, folds)
    assert np.array_equal(probe.alpha_, np.array(ALPHAS)[losses.argmin(axis=0)])
    assert len(set(probe.alpha_)) > 1
    null = sum(((Y[folds == f] - Y[folds != f].mean(axis=0)) ** 2).sum(axis=0) for f in range(4))
    np.testing.assert_allclose(probe.cv_scores_, 1 - losses / null, rtol=1e-9)


def test_block_multipliers_are_the_best_on_held_out_groups(plant: Plant) -> None:
    data = plant(n_groups=12, length=6, noise=2.0)
    folds = group_folds(data.groups, 3)
    probe = RidgeProbe(ALPHAS, blocks=(2, 4)).fit(data.X, data.Y, groups=data.groups, folds=folds)
    candidates = {ratio: held_out_losses(data.X, data.Y, folds, np.repeat([1.0, ratio], [2, 4])) for ratio in (1.0, 100.0, 1e4)}
    candidates |= {1 / ratio: held_out_losses(data.X, data.Y, folds, np.repeat([ratio, 1.0], [2, 4])) for ratio in (100.0, 1e4)}
    for target in range(3):
        best = min(candidates, key=lambda ratio: candidates[ratio][:, target].min())
        assert probe.block_multipliers_[target, 1] / probe.block_multipliers_[target, 0] == pytest.approx(best)


def test_blocks_keep_a_wide_block_of_noise_from_drowning_a_narrow_one() -> None:
    rng = np.random.default_rng(0)
    groups, code, noise = np.repeat(np.arange(20), 15), rng.normal(size=(300, 3)), rng.normal(size=(300, 150))
    X, y = np.column_stack([code, noise]), code.sum(axis=1) + rng.normal(size=300)
    fresh = np.column_stack([rng.normal(size=(2000, 3)), rng.normal(size=(2000, 150))])
    truth = fresh[:, :3].sum(axis=1)
    shared = r2(truth, RidgeProbe().fit(X, y, groups=groups).predict(fresh))[0]
    apart = r2(truth, RidgeProbe(blocks=(3, 150)).fit(X, y, groups=groups).predict(fresh))[0]
    assert apart > shared + 0.1


def test_every_outer_fold_equals_a_fit_on_the_others(plant: Plant) -> None:
    data = plant(n_groups=15, length=8, noise=2.0)
    folds = group_folds(data.groups, 4)
    mask = np.random.default_rng(0).integers(4, size=len(data.X))[:, None] >= np.arange(3)
    probe = RidgeProbe(blocks=(3, 3))
    for fold, fitted in enumerate(probe.fit_folds(data.X, data.Y, folds, data.groups, mask)):
        rows = folds != fold
        alone = RidgeProbe(blocks=(3, 3)).fit(data.X[rows], data.Y[rows], data.groups[rows], mask[rows], folds[rows])
        assert np.array_equal(fitted.alpha_, alone.alpha_)
        assert np.array_equal(fitted.block_multipliers_, alone.block_multipliers_)
        np.testing.assert_allclose(fitted.cv_scores_, alone.cv_scores_, rtol=1e-8)
        np.testing.assert_allclose(fitted.predict(data.X), alone.predict(data.X), rtol=1e-8)


def test_a_mask_leaves_out_rows(plant: Plant) -> None:
    data = plant(n_groups=10, length=10)
    mask = np.random.default_rng(0).random(data.Y.shape) < 0.5
    folds = group_folds(data.groups, 3)
    Y = np.where(mask, data.Y, 1e6)
    probe = RidgeProbe().fit(data.X, Y, folds=folds, mask=mask)
    for target, rows in enumerate(mask.T):
        alone = RidgeProbe().fit(data.X[rows], data.Y[rows, target], folds=folds[rows])
        assert alone.alpha_ == probe.alpha_[target]
        np.testing.assert_allclose(probe.predict(data.X)[:, target], alone.predict(data.X), rtol=1e-7)


@pytest.mark.parametrize("columns", [0, slice(None)])
def test_batches_are_the_full_fit_on_the_folds_that_they_are_dealt_into(plant: Plant, columns: int | slice) -> None:
    data = plant(n_groups=15, length=8, noise=2.0)
    Y, deal, cuts = data.Y[:, columns], StreamedFolds(4), np.split(np.arange(120), [5, 37, 90])
    streamed = RidgeProbe(n_folds=4).fit_batches((data.X[rows], Y[rows], data.groups[rows]) for rows in cuts)
    folds = np.concatenate([deal.deal(data.groups[rows], len(rows)) for rows in cuts])
    whole = RidgeProbe().fit(data.X, Y, groups=data.groups, folds=folds)
    assert np.ptp(np.bincount(folds)) <= 8
    assert np.array_equal(streamed.alpha_, whole.alpha_)
    np.testing.assert_allclose(streamed.cv_scores_, whole.cv_scores_, rtol=1e-8)
    np.testing.assert_allclose(streamed.predict(data.X), whole.predict(data.X), rtol=1e-8)


def test_batches_that_do_not_fit_together_are_refused(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    with pytest.raises(ValueError, match="there are no batches"):
        RidgeProbe().fit_batches([])
    with pytest.raises(ValueError, match="same columns in every batch"):
        RidgeProbe().fit_batches([(data.X, data.Y, data.groups), (data.X, data.Y[:, 0], data.groups)])
    with pytest.raises(ValueError, match="expecting 6 features"):
        RidgeProbe().fit_batches([(data.X, data.Y, data.groups), (data.X[:, :4], data.Y, data.groups)])
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        RidgeProbe().fit_batches([(data.X, data.Y, np.zeros(30))])


def test_units_and_offsets_of_features_do_not_matter(plant: Plant) -> None:
    data = plant()
    plain = RidgeProbe().fit(data.X, data.Y, groups=data.groups)
    X = data.X * np.logspace(-6, 6, 6) + 1e4 * np.logspace(-6, 6, 6)
    other = RidgeProbe().fit(X, data.Y, groups=data.groups)
    assert np.array_equal(plain.alpha_, other.alpha_)
    np.testing.assert_allclose(other.predict(X), plain.predict(data.X), rtol=1e-6, atol=1e-8)


def test_the_penalty_means_the_same_at_any_number_of_rows(plant: Plant) -> None:
    data = plant()
    once = RidgeProbe(alphas=(0.1,)).fit(data.X, data.Y)
    thrice = RidgeProbe(alphas=(0.1,)).fit(np.tile(data.X, (3, 1)), np.tile(data.Y, (3, 1)))
    np.testing.assert_allclose(once.coef_, thrice.coef_, rtol=1e-9)


def test_constant_and_doubled_features_change_nothing_they_should_not(plant: Plant) -> None:
    data = plant()
    X = np.column_stack([data.X, np.full(len(data.X), 0.1), data.X[:, 0]])
    probe = RidgeProbe(alphas=(1e-10,)).fit(X, data.Y)
    assert np.all(probe.coef_[:, 6] == 0)
    np.testing.assert_allclose(probe.predict(X), RidgeProbe(alphas=(1e-10,)).fit(data.X, data.Y).predict(data.X), atol=1e-6)


def test_planted_code_is_found_and_a_shuffled_one_is_not(plant: Plant) -> None:
    data = plant(noise=0.1)
    train, test = data.groups < 30, data.groups >= 30
    probe = RidgeProbe().fit(data.X[train], data.Y[train], groups=data.groups[train])
    assert np.all(r2(data.Y[test], probe.predict(data.X[test])) > 0.97)
    shuffled = data.Y[np.random.default_rng(0).permutation(len(data.Y))]
    probe.fit(data.X[train], shuffled[train], groups=data.groups[train])
    assert np.all(r2(shuffled[test], probe.predict(data.X[test])) < 0.05)


def test_a_target_that_is_constant_here_is_predicted_so(plant: Plant) -> None:
    data = plant()
    Y = np.column_stack([data.Y[:, 0], np.full(len(data.Y), 0.3)])
    np.testing.assert_allclose(RidgeProbe().fit(data.X, Y, groups=data.groups).predict(data.X)[:, 1], 0.3)


def test_what_cannot_be_fitted_is_refused_by_name(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    broken = data.X.copy()
    broken[7, 2] = broken[9, 1] = np.nan
    with pytest.raises(ValueError, match="X must be finite, but 2 of its 180 entries are NaN or inf, the first at row 7, column 2"):
        RidgeProbe().fit(broken, data.Y)
    with pytest.raises(ValueError, match="Y must be finite, but 1 of"):
        RidgeProbe().fit(data.X, np.where(np.arange(30) == 3, np.inf, data.Y[:, 0]))
    with pytest.raises(ValueError, match="every target is constant"):
        RidgeProbe().fit(data.X, np.ones(30))
    with pytest.raises(ValueError, match="group 0, 1"):
        RidgeProbe().fit(data.X, data.Y, groups=data.groups, folds=np.arange(30) % 3)
    with pytest.raises(ValueError, match="leaves none for target 1"):
        RidgeProbe().fit(data.X, data.Y, mask=np.ones(data.Y.shape, np.bool_) & (np.arange(3) != 1))
    with pytest.raises(ValueError, match="mask must be boolean"):
        RidgeProbe().fit(data.X, data.Y, mask=np.ones(30))
    with pytest.raises(ValueError, match="add up to the 6 features"):
        RidgeProbe(blocks=(2, 2)).fit(data.X, data.Y)
    with pytest.raises(ValueError, match="positive penalties"):
        RidgeProbe(alphas=(0.0, 1.0)).fit(data.X, data.Y)
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        RidgeProbe().fit(data.X, data.Y, groups=np.zeros(30))
    with pytest.raises(ValueError, match="at least 3 folds"):
        RidgeProbe().fit_folds(data.X, data.Y, data.groups % 2)
