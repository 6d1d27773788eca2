"""What a probe's predictions are worth, and whether the question can be answered at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._intervals import RatioEstimate, ratio_interval
from worldprobe.probes._losses import group_log_losses
from worldprobe.probes._validation import Booleans, Floats, Integers, check_finite, check_mask, group_codes


def r2(Y: ArrayLike, predictions: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    r"""Return the share of each target's variance that the predictions explain.

    .. math:: R^2_j = 1 - \sum_i (y_{ij} - \hat y_{ij})^2 \Big/ \sum_i (y_{ij} - \bar y_j)^2

    Parameters
    ----------
    Y, predictions : array_like, shape (n_samples,) or (n_samples, n_targets)
    mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
        Which labels exist.

    Returns
    -------
    ndarray, shape (n_targets,)
        NaN where a target does not vary.

    Examples
    --------
    >>> from worldprobe.probes import r2
    >>> r2([0.0, 1.0, 2.0], [0.0, 1.0, 1.0])
    array([0.5])
    """
    lost, spread = _squares(Y, predictions, mask)
    return 1.0 - np.divide(lost, spread, out=np.full_like(lost, np.nan), where=spread > 0)


def brier_skill(Y: ArrayLike, predictions: ArrayLike, mask: ArrayLike | None = None) -> float:
    r"""Return how far the Brier loss of one categorical factor lies below that of its base rates.

    .. math:: 1 - \sum_{ij} (y_{ij} - \hat y_{ij})^2 \Big/ \sum_{ij} (y_{ij} - \bar y_j)^2

    Parameters
    ----------
    Y : array_like, shape (n_samples, n_classes)
        One-hot labels, or conditional probabilities.
    predictions : array_like, shape (n_samples, n_classes)
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist.

    Returns
    -------
    float
        1 is perfect, 0 no better than the base rates of these rows; NaN where the factor does not vary.

    Examples
    --------
    >>> from worldprobe.probes import brier_skill
    >>> brier_skill([[1, 0], [0, 1]], [[0.75, 0.25], [0.25, 0.75]])
    0.75
    """
    lost, spread = _squares(Y, predictions, mask)
    return float(1.0 - lost.sum() / spread.sum()) if spread.sum() > 0 else float("nan")


def bits_per_label(labels: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None = None, mask: ArrayLike | None = None) -> float:
    """Return the mean log-loss in bits; arguments as in `group_log_losses`.

    Examples
    --------
    >>> from worldprobe.probes import bits_per_label
    >>> round(bits_per_label([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 3)
    1.5
    """
    n_samples = len(np.asarray(labels))
    n_labels = check_mask(mask, (n_samples, 1)).sum()
    return float(group_log_losses(labels, probabilities, np.zeros(n_samples, np.int64), classes, mask).sum() / n_labels)


def log_loss(labels: ArrayLike, probabilities: ArrayLike, classes: ArrayLike | None = None, mask: ArrayLike | None = None) -> float:
    """Return the mean log-loss in nats; arguments as in `group_log_losses`.

    Examples
    --------
    >>> from worldprobe.probes import log_loss
    >>> round(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]), 4)
    0.6931
    """
    return bits_per_label(labels, probabilities, classes, mask) * float(np.log(2))


@dataclass(frozen=True, eq=False)
class ClassReport:
    """How well each class is named; classes are those that occur among labels or predictions."""

    classes: NDArray[Any]
    support: Integers
    """Rows that have the class (n_classes,)."""
    recall: Floats
    """Share of those that were named so (n_classes,); NaN where the class has no rows."""
    precision: Floats
    """Share of those named so that have the class (n_classes,); NaN where it was never named."""
    f1: Floats
    """2 hits / (rows + names) of each class (n_classes,)."""

    @property
    def accuracy(self) -> float:
        """Share of all rows that were named rightly."""
        return float(np.nansum(self.recall * self.support) / self.support.sum())

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have rows."""
        return float(np.nanmean(self.recall))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of all classes, each counting once."""
        return float(self.f1.mean())


def class_report(labels: ArrayLike, predicted: ArrayLike) -> ClassReport:
    """Compare predicted with true labels, class by class.

    Parameters
    ----------
    labels, predicted : array_like, shape (n_samples,)

    Returns
    -------
    ClassReport

    Examples
    --------
    >>> from worldprobe.probes import class_report
    >>> report = class_report([0, 0, 0, 1], [0, 0, 1, 1])
    >>> report.accuracy, round(report.balanced_accuracy, 3), round(report.macro_f1, 3)
    (0.75, 0.833, 0.733)
    """
    truth, named = np.asarray(labels), np.asarray(predicted)
    if truth.shape != named.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(f"labels and predicted must both be (n_samples,), not empty; got {truth.shape} and {named.shape}")
    classes, codes = np.unique(np.concatenate([truth, named]), return_inverse=True)
    rows, names = codes[: len(truth)], codes[len(truth) :]
    support, given = np.bincount(rows, minlength=len(classes)), np.bincount(names, minlength=len(classes))
    hits = np.bincount(rows[rows == names], minlength=len(classes))
    return ClassReport(classes, support, _share(hits, support), _share(hits, given), 2 * hits / (support + given))


def estimability(
    Y: ArrayLike, groups: ArrayLike, folds: ArrayLike | None = None, mask: ArrayLike | None = None, minimum_groups: int = 30
) -> str | None:
    """Say why a target cannot be estimated, or None if it can.

    Parameters
    ----------
    Y : array_like, shape (n_samples,)
        One target. Integers, booleans and strings are classes, floats a continuous target.
    groups : array_like, shape (n_samples,)
        Group (episode) of each row.
    folds : array_like, shape (n_samples,), optional
        Outer fold of each row: every class must occur in the training rows of each.
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist.
    minimum_groups : int
        Groups that each class, or the continuous target, must occur in.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import estimability
    >>> groups = np.arange(100)
    >>> estimability(groups % 2, groups)
    >>> estimability(groups == 0, groups)
    'class True occurs in 1 groups; at least 30 are needed'
    """
    target = np.asarray(Y)
    known = check_mask(mask, (len(target), 1))[:, 0]
    codes, target = group_codes(groups, len(target))[known], target[known]
    parts = np.zeros(len(target), np.int64) if folds is None else np.asarray(folds)[known]
    values, classes = np.unique(target, return_inverse=True)
    if len(values) < 2:
        return f"the target is constant ({values[0]})" if len(values) else "there are no labels"
    if target.dtype.kind == "f":
        n_groups = len(np.unique(codes))
        return f"the target occurs in {n_groups} groups; at least {minimum_groups} are needed" if n_groups < minimum_groups else None
    for number, value in enumerate(values):
        n_groups = len(np.unique(codes[classes == number]))
        if n_groups < minimum_groups:
            return f"class {value} occurs in {n_groups} groups; at least {minimum_groups} are needed"
        if folds is not None and len(np.unique(parts[classes == number])) == 1:
            return f"class {value} occurs in fold {parts[classes == number][0]} only, so no probe that predicts this fold has met it"
    return None


def usable_information(log_losses_null: ArrayLike, log_losses: ArrayLike, n_labels: ArrayLike, level: float = 0.95) -> RatioEstimate:
    r"""Estimate the usable information about a label, in bits per label.

    .. math:: I_V(h \to y \mid F) = \frac{\sum_g (L_g^{F} - L_g^{F + h})}{\sum_g n_g} ,

    held-out log-losses of probes of one family V, without and with h; given nothing, F is the class frequencies of the training rows.

    Parameters
    ----------
    log_losses_null, log_losses : array_like, shape (n_groups,)
        Bits of each group without and with the representation (`group_log_losses`).
    n_labels : array_like, shape (n_groups,)
        Labels of each group.
    level : float
        Coverage of the interval, with groups as units.

    Returns
    -------
    RatioEstimate

    References
    ----------
    Xu et al. 2020, "A theory of usable information under computational constraints"; Hewitt et al. 2021, "Conditional probing".

    Examples
    --------
    >>> from worldprobe.probes import usable_information
    >>> usable_information([10.0, 12.0, 11.0], [5.0, 6.0, 5.5], n_labels=[10, 12, 11]).estimate
    0.5
    """
    saved = np.asarray(log_losses_null, dtype=np.float64) - np.asarray(log_losses, dtype=np.float64)
    return ratio_interval(saved, n_labels, level)


def _squares(Y: ArrayLike, predictions: ArrayLike, mask: ArrayLike | None) -> tuple[Floats, Floats]:
    """Return each target's squared error, and its squared deviation from the mean of its labels (n_targets,)."""
    truth, guess = np.asarray(Y, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if truth.shape != guess.shape or truth.ndim not in (1, 2):
        raise ValueError(f"Y and predictions must both be (n_samples,) or (n_samples, n_targets); got {truth.shape} and {guess.shape}")
    check_finite(truth, "Y")
    check_finite(guess, "predictions")
    truth, guess = truth.reshape(len(truth), -1), guess.reshape(len(guess), -1)
    known: Booleans = check_mask(mask, truth.shape)
    lost = np.sum((truth - guess) ** 2, axis=0, where=known)
    low, high = np.min(truth, axis=0, where=known, initial=np.inf), np.max(truth, axis=0, where=known, initial=-np.inf)
    mean = np.sum(truth, axis=0, where=known) / np.maximum(known.sum(axis=0), 1)
    return lost, np.where(low < high, np.sum((truth - mean) ** 2, axis=0, where=known), 0.0)


def _share(hits: Integers, of: Integers) -> Floats:
    """Return hits / of, NaN where there is nothing to hit."""
    share: Floats = np.divide(hits, of, out=np.full(len(of), np.nan), where=of > 0)
    return share
