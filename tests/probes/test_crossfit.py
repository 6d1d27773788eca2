from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worldprobe.probes import LogisticProbe, MLPProbe, RidgeProbe, cross_fit, cross_validate, group_folds, group_losses, r2, sum_interval

Plant = Callable[..., SimpleNamespace]


@pytest.mark.parametrize("estimator", [RidgeProbe(), MLPProbe(max_epochs=3), Ridge()], ids=str)
def test_no_prediction_depends_on_the_labels_of_its_fold(plant: Plant, estimator: Any) -> None:
    data = plant(n_groups=12, length=8)
    folds = group_folds(data.groups, 3)
    one = cross_fit(data.X, data.Y, data.groups, folds, estimator)
    changed = np.where(folds[:, None] == 1, 100.0 - data.Y, data.Y)
    other = cross_fit(data.X, changed, data.groups, folds, estimator)
    np.testing.assert_allclose(one.predictions[folds == 1], other.predictions[folds == 1], rtol=1e-9, atol=1e-9)
    assert np.abs(one.predictions[folds != 1] - other.predictions[folds != 1]).max() > 1.0


def test_predictions_are_those_of_the_fitted_probes(plant: Plant) -> None:
    data = plant(n_groups=12, length=8)
    folds = group_folds(data.groups, 4) * 10  # numbers of folds are labels
    fit = cross_fit(data.X, data.Y, data.groups, folds)
    for fold, probe in enumerate(fit.estimators):
        np.testing.assert_array_equal(fit.predictions[folds == 10 * fold], probe.predict(data.X[folds == 10 * fold]))
        assert np.all(fit.folds[folds == 10 * fold] == fold)


def test_classifiers_give_probabilities(plant: Plant) -> None:
    data = plant(n_groups=12, length=20)
    folds = group_folds(data.groups, 3)
    one = cross_fit(data.X, data.labels, data.groups, folds, LogisticProbe(alphas=(1e-2,)))
    assert one.predictions.shape == (240, 3)
    assert np.array_equal(one.classes, [0, 1, 2])
    two = cross_fit(data.X, np.column_stack([data.labels, data.labels > 0]), data.groups, folds, LogisticProbe(alphas=(1e-2,)))
    assert [p.shape for p in two.predictions] == [(240, 3), (240, 2)]
    np.testing.assert_allclose(two.predictions[0], one.predictions, atol=1e-6)
    theirs = cross_fit(data.X, data.labels, data.groups, folds, LogisticRegression(max_iter=5000))
    assert np.mean(theirs.predictions.argmax(axis=1) == data.labels) > 0.6


def test_rows_without_labels_are_predicted_and_not_learned_from(plant: Plant) -> None:
    data = plant(n_groups=12, length=8)
    mask = np.random.default_rng(0).random(96) < 0.6
    folds = group_folds(data.groups, 3)
    one, other = (
        cross_fit(data.X, np.where(mask[:, None], data.Y, junk), data.groups, folds, mask=mask).predictions for junk in (0.0, 1e3)
    )
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert np.isfinite(one).all()


def test_noise_explains_nothing_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    X, Y, groups = rng.normal(size=(1000, 30)), rng.normal(size=(1000, 20)), np.repeat(np.arange(50), 20)
    explained = r2(Y, cross_fit(X, Y, groups, group_folds(groups)).predictions)
    assert explained.max() < 0.02
    assert explained.mean() < 0.0


def drifting(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Draw activations and a target that drift slowly and know nothing of one another, anew in each episode."""
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(30, 40, 25)).cumsum(axis=1), rng.normal(size=(30, 40)).cumsum(axis=1)
    return X.reshape(-1, 25), y.reshape(-1), np.repeat(np.arange(30), 40)


def gain(X: NDArray[np.float64], y: NDArray[np.float64], units: NDArray[np.int64], folds: NDArray[np.int64]) -> float:
    """Return the p-value of a gain in loss over the training mean, with `units` held to be independent."""
    null = cross_fit(np.zeros((len(y), 1)), y, units, folds).predictions
    saved = group_losses(y, null, units) - group_losses(y, cross_fit(X, y, units, folds).predictions, units)
    return sum_interval(saved, alternative="greater").p_value


def test_drifting_noise_fools_a_split_by_rows_and_not_one_by_episodes() -> None:
    n_draws, by_row, by_episode = 60, 0, 0
    for seed in range(n_draws):
        X, y, groups = drifting(seed)
        by_row += gain(X, y, np.arange(len(y)), np.arange(len(y)) % 5) < 0.05
        by_episode += gain(X, y, groups, group_folds(groups)) < 0.05
    assert by_row >= 0.9 * n_draws
    assert by_episode <= 8  # 3 are expected at 5 %; more than 8 of 60 happen once in 500 tries


@pytest.mark.parametrize("estimator", [RidgeProbe(), LogisticProbe()], ids=str)
def test_a_pair_of_folds_with_all_the_labels_is_named(plant: Plant, estimator: Any) -> None:
    data = plant(n_groups=6, length=5)
    folds = data.groups % 3
    with pytest.raises(ValueError, match="without fold 0, 2 there are 0"):
        cross_fit(data.X, data.labels, data.groups, folds, estimator, mask=folds != 1)


def test_what_cannot_be_cross_fitted_is_refused(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    with pytest.raises(ValueError, match="are split"):
        cross_fit(data.X, data.Y, data.groups, np.arange(30) % 3)
    with pytest.raises(ValueError, match="Ridge takes no mask"):
        cross_fit(data.X, data.Y, data.groups, data.groups % 3, Ridge(), mask=np.ones(30, np.bool_))
    labels = np.where(data.groups % 3 == 0, data.labels, data.labels % 2)
    with pytest.raises(ValueError, match="absent from a training set"):
        cross_fit(data.X, labels, data.groups, data.groups % 3, LogisticRegression(max_iter=5000))
    with pytest.raises(ValueError, match="expected shape"):
        cross_fit(data.X, data.Y, data.groups, np.zeros(3))


def test_cross_validation_hands_groups_to_the_split_and_to_the_fit(plant: Plant) -> None:
    data = plant(n_groups=15, length=8, noise=2.0)
    scores = cross_validate(RidgeProbe(), data.X, data.Y, data.groups, scoring={"r2": "r2", "alpha": lambda one, X, Y: one.alpha_[0]})
    folds = group_folds(data.groups)
    for fold, row in scores.iterrows():
        train = folds != fold
        alone = RidgeProbe().fit(data.X[train], data.Y[train], folds=folds[train])
        assert row["r2"] == pytest.approx(alone.score(data.X[~train], data.Y[~train]))
        assert row["alpha"] == alone.alpha_[0]
        assert (row["n_training"], row["n_held_out"]) == (train.sum(), (~train).sum())


class GroupTaker(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Remembers which groups it was fitted with."""

    def fit(self, X: Any, Y: Any, groups: Any = None) -> GroupTaker:
        self.groups_ = groups
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))


@pytest.mark.parametrize("estimator", [GroupTaker(), make_pipeline(StandardScaler(), GroupTaker())], ids=str)
def test_foreign_estimators_that_take_groups_get_them(plant: Plant, estimator: Any) -> None:
    data = plant(n_groups=12, length=8)
    folds = group_folds(data.groups, 3)
    for fold, fitted in enumerate(cross_fit(data.X, data.Y[:, 0], data.groups, folds, estimator).estimators):
        taker = fitted[-1] if hasattr(fitted, "steps") else fitted
        assert np.array_equal(taker.groups_, data.groups[folds != fold])


def test_rows_without_labels_are_not_validated_on(plant: Plant) -> None:
    data = plant(n_groups=12, length=8)
    mask = np.random.default_rng(0).random(96) < 0.6
    one, other = (cross_validate(RidgeProbe(), data.X, np.where(mask, data.Y[:, 0], junk), data.groups, mask=mask) for junk in (0.0, 1e3))
    assert one.equals(other)
    assert one.n_held_out.sum() == mask.sum()
    with pytest.raises(ValueError, match="mask must be boolean, one entry per row"):
        cross_validate(RidgeProbe(), data.X, data.Y, data.groups, mask=np.ones((96, 3), np.bool_))
