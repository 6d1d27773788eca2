"""What every probe asks of its arrays, asked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data

E = TypeVar("E", bound=BaseEstimator)
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


def check_finite(array: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    ValueError
        If an entry is not finite; the message counts them and names the first row (and column).
    """
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    broken = np.argwhere(~np.isfinite(array))
    if len(broken):
        place = f"row {broken[0][0]}" + (f", column {broken[0][1]}" if array.ndim == 2 else "")
        raise ValueError(
            f"{name} must be finite, but {len(broken)} of its {array.size} entries are NaN or inf, the first at {place}; "
            "remove such rows (labels that do not exist are said by `mask`, never by NaN)"
        )


def check_features(estimator: BaseEstimator, X: ArrayLike, *, reset: bool) -> NDArray[Any]:
    """Return X as a finite float32 or float64 (n_samples, n_features) array; remember or check its width."""
    least = 2 if reset else 1
    checked: NDArray[Any] = validate_data(
        estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False, ensure_min_samples=least
    )
    check_finite(checked, "X")
    return checked


def check_rows(X: ArrayLike) -> NDArray[Any]:
    """Return X as a finite float32 or float64 (n_samples, n_features) array."""
    given = np.asarray(X)
    rows: NDArray[Any] = given if given.dtype in (np.float32, np.float64) else given.astype(np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"X must be (n_samples, n_features); got shape {given.shape}")
    check_finite(rows, "X")
    return rows


def check_targets(X: NDArray[Any], Y: ArrayLike | None) -> NDArray[Any]:
    """Return Y as (n_samples,) or (n_samples, n_targets), one row for each row of X, finite where it is numeric."""
    if Y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    targets = np.asarray(Y)
    if targets.ndim not in (1, 2) or (targets.ndim == 2 and targets.shape[1] == 0):
        raise ValueError(f"Y must be (n_samples,) or (n_samples, n_targets); got shape {targets.shape}")
    check_consistent_length(X, targets)
    if targets.dtype.kind == "c":
        raise ValueError("Complex data not supported: Y must be real")
    if targets.dtype.kind == "f":
        check_finite(targets, "Y")
    return targets


def check_real_targets(X: NDArray[Any], Y: ArrayLike | None) -> Floats:
    """Return Y as finite float64 of shape (n_samples,) or (n_samples, n_targets)."""
    return check_float_targets(X, Y).astype(np.float64, copy=False)


def check_float_targets(X: NDArray[Any], Y: ArrayLike | None) -> NDArray[Any]:
    """Return Y as finite float32, where it is that, or float64, of shape (n_samples,) or (n_samples, n_targets)."""
    given = check_targets(X, Y)
    targets: NDArray[Any] = given if given.dtype == np.float32 else given.astype(np.float64, copy=False)
    if given.dtype.kind != "f":
        check_finite(targets, "Y")
    return targets


def check_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> Booleans:
    """Return which labels exist as booleans of `shape` = (n_samples, n_targets).

    Raises
    ------
    ValueError
        If the mask is not boolean, or is neither (n_samples,) nor (n_samples, n_targets).
    """
    if mask is None:
        return np.broadcast_to(np.True_, shape)
    given = np.asarray(mask)
    if given.dtype != np.bool_ or given.shape not in {shape, shape[:1]}:
        raise ValueError(f"mask must be boolean of shape {shape[:1]} or {shape}; got {given.dtype} of shape {given.shape}")
    return np.broadcast_to(given.reshape(shape[0], -1), shape)


def check_labelled(mask: Booleans) -> Booleans:
    """Return the mask (n_samples, n_targets) if every target has labels, and refuse it otherwise."""
    empty = np.flatnonzero(~mask.any(axis=0))
    if len(empty):
        raise ValueError(f"every target needs labels, but the mask leaves none for target {listing(empty)}; drop those targets")
    return mask


def check_alphas(alphas: Sequence[float]) -> Floats:
    """Return the penalties as an array, or refuse them."""
    penalties = np.asarray(alphas, dtype=np.float64)
    if penalties.ndim != 1 or not len(penalties) or not np.all((penalties > 0) & np.isfinite(penalties)):
        raise ValueError(f"alphas must be one or more positive penalties; got {alphas!r}")
    return penalties


def group_codes(groups: ArrayLike | None, n_samples: int) -> Integers:
    """Number the groups 0, 1, ... in sorted order, one number per sample; without `groups` every sample is its own group.

    Raises
    ------
    ValueError
        If `groups` does not hold one label per sample.
    """
    if groups is None:
        return np.arange(n_samples)
    labels = column_or_1d(groups)
    if len(labels) != n_samples:
        raise ValueError(f"groups must hold one label per sample: expected {n_samples}, got {len(labels)}")
    codes: Integers = pd.factorize(labels, sort=True, use_na_sentinel=False)[0].astype(np.int64, copy=False)
    return codes


def unfitted_copy(estimator: E) -> E:
    """Return an estimator of the same parameters that has seen the same features but has learned nothing."""
    copy: E = clone(estimator)
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(copy, name, getattr(estimator, name))
    return copy


def listing(items: NDArray[Any], most: int = 5) -> str:
    """Write out the first few items, for an error message."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
