from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from worldprobe.probes import LogisticProbe, bits_per_label, group_folds
from worldprobe.probes._splits import StreamedFolds

Plant = Callable[..., SimpleNamespace]


@pytest.mark.parametrize("alpha", [1.0, 1e-2, 1e-4])
def test_solution_is_scikit_learns_at_equal_penalty(plant: Plant, alpha: float) -> None:
    data = plant()
    Z = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    theirs = LogisticRegression(C=1 / (alpha * len(Z)), tol=1e-8, max_iter=5000).fit(Z, data.labels)
    ours = LogisticProbe(alphas=(alpha,), tolerance=1e-13).fit(data.X, data.labels)
    np.testing.assert_allclose(ours.predict_proba(data.X), theirs.predict_proba(Z), atol=2e-5)
    np.testing.assert_allclose(ours.coef_ * data.X.std(axis=0), theirs.coef_, atol=1e-3)
    logits = data.X @ ours.coef_.T + ours.intercept_
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), theirs.predict_proba(Z), atol=2e-5)


def test_the_default_tolerance_is_close_enough_in_float32(plant: Plant) -> None:
    data, alpha = plant(noise=0.1), 1e-4

    def objective(probe: LogisticProbe) -> float:
        size = float(((probe.coef_ * data.X.std(axis=0)) ** 2).sum())
        return float(log_loss(data.labels, probe.predict_proba(data.X))) + alpha / 2 * size

    least = objective(LogisticProbe(alphas=(alpha,), tolerance=1e-13).fit(data.X, data.labels))
    assert objective(LogisticProbe(alphas=(alpha,)).fit(data.X.astype(np.float32), data.labels)) < least + 1e-4


def test_penalty_is_the_best_on_held_out_groups(plant: Plant) -> None:
    data = plant(n_groups=12, length=8, noise=1.0)
    folds, alphas = group_folds(data.groups, 4), (1e-3, 1e-1, 1e-2, 1.0)
    probe = LogisticProbe(alphas, tolerance=1e-13).fit(data.X, data.labels, data.groups, folds=folds)
    bits = []
    for alpha in alphas:
        p = np.empty((len(data.X), 3))
        for fold in range(4):
            train = folds != fold
            mean, scale = data.X[train].mean(axis=0), data.X[train].std(axis=0)
            model = LogisticRegression(C=1 / (alpha * train.sum()), tol=1e-8, max_iter=5000)
            p[~train] = model.fit((data.X[train] - mean) / scale, data.labels[train]).predict_proba((data.X[~train] - mean) / scale)
        bits.append(bits_per_label(data.labels, p))
    np.testing.assert_allclose(-probe.cv_scores_[:, 0], bits, rtol=1e-4)
    assert probe.alpha_ == alphas[int(np.argmin(bits))]


def test_heads_are_probes_of_their_own(plant: Plant) -> None:
    data = plant(n_groups=12, length=10)
    Y = np.column_stack([data.labels, data.Y[:, 0] > 0])
    mask = np.random.default_rng(0).random(Y.shape) < 0.7
    folds = group_folds(data.groups, 3)
    both = LogisticProbe(tolerance=1e-12).fit(data.X, Y, folds=folds, mask=mask)
    p = both.predict_proba(data.X)
    for head, rows in enumerate(mask.T):
        alone = LogisticProbe(tolerance=1e-12).fit(data.X[rows], Y[rows, head], folds=folds[rows])
        assert alone.alpha_ == both.alpha_[head]
        np.testing.assert_allclose(p[head], alone.predict_proba(data.X), atol=1e-5)
        assert np.array_equal(both.predict(data.X)[:, head], alone.predict(data.X))
        assert np.array_equal(both.classes_[head], alone.classes_)


def test_every_outer_fold_equals_a_fit_on_the_others(plant: Plant) -> None:
    data = plant(n_groups=15, length=8, noise=1.0)
    folds = group_folds(data.groups, 4)
    for fold, fitted in enumerate(LogisticProbe(tolerance=1e-12).fit_folds(data.X, data.labels, folds, data.groups)):
        rows = folds != fold
        alone = LogisticProbe(tolerance=1e-12).fit(data.X[rows], data.labels[rows], data.groups[rows], folds=folds[rows])
        assert fitted.alpha_ == alone.alpha_
        np.testing.assert_allclose(fitted.cv_scores_, alone.cv_scores_, rtol=1e-4)
        np.testing.assert_allclose(fitted.predict_proba(data.X), alone.predict_proba(data.X), atol=1e-5)


def test_all_folds_know_all_classes(plant: Plant) -> None:
    data = plant(n_groups=9, length=10)
    folds = data.groups % 3
    labels = np.where((folds == 1) & (data.labels == 2), 7, data.labels)
    probes = LogisticProbe(alphas=(1e-2,)).fit_folds(data.X, labels, folds, data.groups)
    assert all(np.array_equal(probe.classes_, [0, 1, 2, 7]) for probe in probes)
    p = probes[1].predict_proba(data.X)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(p[:, 3], 1e-6, rtol=1e-4)
    np.testing.assert_allclose(probes[1].clipped_mass(data.X), 1e-6, rtol=1e-4)


def test_names_are_as_good_as_numbers(plant: Plant) -> None:
    data = plant(noise=0.1)
    names = np.array(["up", "down", "left"])[data.labels]
    probe = LogisticProbe(alphas=(1e-2,)).fit(data.X, names)
    assert list(probe.classes_) == ["down", "left", "up"]
    assert probe.score(data.X, names) > 0.8
    assert probe.score(data.X, names) == np.mean(probe.predict(data.X) == names)


def test_shuffled_labels_cost_what_their_frequencies_cost(plant: Plant) -> None:
    data = plant(n_groups=300)
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 1, 2, 2], len(data.X) // 5))
    train = data.groups < 200
    probe = LogisticProbe().fit(data.X[train], labels[train], groups=data.groups[train])
    frequencies = np.array([0.2, 0.4, 0.4])
    bits = bits_per_label(labels[~train], probe.predict_proba(data.X[~train]))
    assert bits == pytest.approx(-(frequencies * np.log2(frequencies)).sum(), abs=0.02)


def test_one_class_is_refused(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    with pytest.raises(ValueError, match="head 1 is left with one class, 4"):
        LogisticProbe().fit(data.X, np.column_stack([data.labels, np.full(30, 4)]))
    alone = np.where(data.groups < 2, data.labels, 0)
    with pytest.raises(ValueError, match="without fold 0 head 0 is left with one class"):
        LogisticProbe().fit_folds(data.X, alone, np.repeat([0, 1, 2], 10), data.groups)
    with pytest.raises(ValueError, match="Unknown label type"):
        LogisticProbe().fit(data.X, data.Y[:, 0])


@pytest.mark.parametrize("alphas", [(1e-2,), (1.0, 1e-2)])
def test_batches_give_the_fit_of_all_rows_together(plant: Plant, alphas: tuple[float, ...]) -> None:
    data = plant(n_groups=12, length=10)
    Y, deal = np.column_stack([data.labels, data.Y[:, 0] > 0]), StreamedFolds(3)
    batches = [(data.X[rows], Y[rows], data.groups[rows]) for rows in np.split(np.arange(120), (5, 60, 61))]
    folds = np.concatenate([deal.deal(groups, len(groups)) for _, _, groups in batches])
    streamed = LogisticProbe(alphas, n_folds=3, tolerance=1e-12).fit_batches(lambda: iter(batches))
    whole = LogisticProbe(alphas, tolerance=1e-12).fit(data.X, Y, data.groups, folds=folds)
    assert np.array_equal(streamed.alpha_, whole.alpha_)
    np.testing.assert_allclose(streamed.cv_scores_, whole.cv_scores_, rtol=1e-4)
    for one, other in zip(streamed.predict_proba(data.X), whole.predict_proba(data.X), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_that_cannot_be_fitted_are_refused(plant: Plant) -> None:
    data = plant(n_groups=12, length=10)
    batch = (data.X, data.labels, data.groups)
    with pytest.raises(ValueError, match="a list_iterator gives them once"):
        LogisticProbe().fit_batches(iter([batch]))
    with pytest.raises(ValueError, match="there are no batches"):
        LogisticProbe().fit_batches([])
    with pytest.raises(ValueError, match="same columns in every batch: expected 1, got 2"):
        LogisticProbe().fit_batches([batch, (data.X, np.column_stack([data.labels] * 2), data.groups)])
    with pytest.raises(ValueError, match="expecting 6 features"):
        LogisticProbe().fit_batches([batch, (data.X[:, :4], data.labels, data.groups)])
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        LogisticProbe().fit_batches([(data.X, data.labels, np.zeros(120))])
    with pytest.raises(ValueError, match="left with one class, 0"):
        LogisticProbe().fit_batches([(data.X, np.zeros(120, np.int64), data.groups)])


def test_a_feature_that_is_constant_in_training_has_no_say_where_it_varies(plant: Plant) -> None:
    data = plant(n_groups=9, length=10)
    folds = data.groups % 3
    X = np.column_stack([data.X, np.where(folds == 1, data.Y[:, 0], 0.1)])
    probe = LogisticProbe(alphas=(1e-2,), tolerance=1e-12).fit_folds(X, data.labels, folds, data.groups)[1]
    alone = LogisticProbe(alphas=(1e-2,), tolerance=1e-12).fit(data.X[folds != 1], data.labels[folds != 1])
    assert np.all(probe.coef_[:, -1] == 0)
    np.testing.assert_allclose(probe.predict_proba(X), alone.predict_proba(data.X), atol=1e-5)
