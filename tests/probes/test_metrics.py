from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from worldprobe.probes import bits_per_label, brier_skill, class_report, estimability, log_loss, r2, usable_information


def test_r2_is_scikit_learns_and_nan_without_variance() -> None:
    rng = np.random.default_rng(0)
    Y = np.column_stack([rng.normal(size=(30, 2)), np.full(30, 0.1)])
    predictions = Y + rng.normal(size=(30, 3))
    expected = metrics.r2_score(Y[:, :2], predictions[:, :2], multioutput="raw_values")
    np.testing.assert_allclose(r2(Y, predictions)[:2], expected)
    assert np.isnan(r2(Y, predictions)[2])


def test_masked_rows_do_not_count() -> None:
    rng = np.random.default_rng(0)
    Y, predictions, mask = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)), rng.random((30, 2)) < 0.5
    by_target = [r2(Y[rows, j], predictions[rows, j])[0] for j, rows in enumerate(mask.T)]
    np.testing.assert_allclose(r2(Y, predictions, mask), by_target)


def test_brier_skill_is_one_minus_the_ratio_of_brier_scores() -> None:
    rng = np.random.default_rng(0)
    Y, p = np.eye(3)[rng.integers(3, size=50)], rng.dirichlet(np.ones(3), size=50)
    base = np.broadcast_to(Y.mean(axis=0), Y.shape)
    assert brier_skill(Y, p) == pytest.approx(1 - ((Y - p) ** 2).sum() / ((Y - base) ** 2).sum())
    assert brier_skill(Y, base) == pytest.approx(0.0)
    assert brier_skill(Y, Y) == 1.0
    assert np.isnan(brier_skill(np.tile([1.0, 0.0], (5, 1)), np.full((5, 2), 0.5)))


def test_bits_are_scikit_learns_log_loss() -> None:
    rng = np.random.default_rng(0)
    labels, p = rng.integers(3, size=40), rng.dirichlet(np.ones(3), size=40)
    assert log_loss(labels, p) == pytest.approx(metrics.log_loss(labels, p, labels=[0, 1, 2]), rel=1e-5)
    assert bits_per_label(labels, p) == pytest.approx(metrics.log_loss(labels, p, labels=[0, 1, 2]) / np.log(2), rel=1e-5)


def test_the_class_report_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(4, size=60), rng.integers(4, size=60)
    report = class_report(labels, predicted)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    for ours, theirs in zip((report.precision, report.recall, report.f1, report.support), (precision, recall, f1, support), strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert report.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert report.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert report.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


def test_classes_that_one_side_lacks() -> None:
    report = class_report(["a", "a", "b"], ["a", "c", "a"])
    assert list(report.classes) == ["a", "b", "c"]
    np.testing.assert_array_equal(report.recall, [0.5, 0.0, np.nan])
    np.testing.assert_array_equal(report.precision, [0.5, np.nan, 0.0])
    np.testing.assert_array_equal(report.f1, [0.5, 0.0, 0.0])
    assert report.balanced_accuracy == 0.25
    with pytest.raises(ValueError, match="must both be"):
        class_report([0, 1], [0])


def test_why_a_target_cannot_be_estimated() -> None:
    groups = np.repeat(np.arange(60), 2)
    labels = np.where(groups < 31, 0, np.arange(120) % 2)
    assert estimability(labels, groups) == "class 1 occurs in 29 groups; at least 30 are needed"
    assert estimability(labels, groups, minimum_groups=29) is None
    assert estimability(np.zeros(120), groups) == "the target is constant (0.0)"
    assert estimability(np.arange(120.0), groups) is None
    assert estimability(np.arange(120.0), groups, mask=groups < 20) == "the target occurs in 20 groups; at least 30 are needed"
    assert estimability(labels, groups, mask=groups < 0) == "there are no labels"
    assert estimability(labels, groups, mask=groups < 31) == "the target is constant (0)"


def test_a_class_in_one_fold_only_cannot_be_met_before_it_is_predicted() -> None:
    groups = np.arange(120)
    folds = groups % 3
    rare = np.where(folds == 2, "late", "early")
    assert estimability(rare, groups, folds) == "class late occurs in fold 2 only, so no probe that predicts this fold has met it"
    assert estimability(rare, groups, groups % 4) is None


def test_usable_information_is_the_difference_of_losses_per_label() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(5, 15, size=200)
    null = counts * 1.0
    losses = counts * (1.0 - 0.3) + rng.normal(size=200)
    estimate = usable_information(null, losses, counts)
    assert estimate.estimate == pytest.approx((null - losses).sum() / counts.sum())
    assert estimate.lower < 0.3 < estimate.upper
    assert estimate.upper - estimate.lower < 0.05
