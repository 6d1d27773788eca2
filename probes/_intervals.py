"""Intervals and tests from per-group sums: the group (episode) is the unit, never the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from worldprobe.probes._validation import Floats, check_finite

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of sums with its Fieller interval; NaN where it is not estimable, and `reason` says why."""

    estimate: float
    lower: float
    upper: float
    estimable: bool
    reason: str | None = None
    """Why there is no estimate; None where there is one."""


@dataclass(frozen=True)
class Estimate:
    """A sum or mean with its t-interval and the test of zero; NaN where it is not estimable, and `reason` says why."""

    estimate: float
    lower: float
    upper: float
    p_value: float
    estimable: bool
    reason: str | None = None


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, level: float = 0.95, total: float | None = None, minimum_share: float = 0.02
) -> RatioEstimate:
    r"""Estimate a ratio of sums over groups, with Fieller's interval.

    With :math:`A = \sum_g a_g`, :math:`B = \sum_g b_g` and their covariance :math:`V` over the paired groups, the interval holds every
    :math:`\rho` that a t-test of :math:`A - \rho B = 0` does not reject:

    .. math:: (A - \rho B)^2 \le t^2 (V_{AA} - 2 \rho V_{AB} + \rho^2 V_{BB}), \qquad
        V_{AB} = \frac{G}{G-1}\sum_g (a_g - \bar a)(b_g - \bar b).

    It is bounded only where B itself differs from zero; elsewhere the data do not bound the ratio, and it is *not estimable*.

    Parameters
    ----------
    numerator, denominator : array_like, shape (n_groups,)
        Sums of each group, paired: emergence has L_F - L_F+h over L_F - L_Bayes.
    level : float
        Coverage. The one-sided 95 % lower bound is the lower end at 0.90.
    total : float, optional
        Total variation (sum of squares) that the denominator must be a share of.
    minimum_share : float
        Least share of `total`; with less, the ratio is not estimable.

    Returns
    -------
    RatioEstimate

    Raises
    ------
    ValueError
        If the arrays differ in shape or hold NaN.

    References
    ----------
    Fieller 1954, "Some problems in interval estimation", J. R. Stat. Soc. B 16.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import ratio_interval
    >>> b = np.random.default_rng(0).gamma(4.0, size=200)
    >>> estimate = ratio_interval(0.5 * b, b)
    >>> round(estimate.lower, 3), round(estimate.estimate, 3), round(estimate.upper, 3)
    (0.5, 0.5, 0.5)
    """
    a, b = _groups(numerator, "numerator"), _groups(denominator, "denominator")
    if len(a) != len(b):
        raise ValueError(f"numerator and denominator must be paired by group; got {len(a)} and {len(b)} groups")
    if len(a) < 2:
        return _no_ratio("fewer than 2 groups")
    if total is not None and b.sum() < minimum_share * total:
        return _no_ratio(f"the denominator is {b.sum() / total:.3f} of the total variation; at least {minimum_share} is needed")
    covariance = len(a) * np.cov(a, b)
    critical = stats.t.ppf((1 + level) / 2, len(a) - 1) ** 2
    square = b.sum() ** 2 - critical * covariance[1, 1]
    if square <= 0:
        return _no_ratio("the denominator does not differ from zero, so the Fieller interval is unbounded")
    half = a.sum() * b.sum() - critical * covariance[0, 1]
    constant = a.sum() ** 2 - critical * covariance[0, 0]
    root = np.sqrt(max(half**2 - square * constant, 0.0))
    return RatioEstimate(float(a.sum() / b.sum()), float((half - root) / square), float((half + root) / square), True)


def sum_interval(values: ArrayLike, level: float = 0.95, alternative: Alternative = "two-sided") -> Estimate:
    r"""Estimate a sum over groups, with its t-interval and the test that it is zero.

    .. math:: \sum_g v_g \pm t_{G-1} \sqrt{G}\, s_v

    Parameters
    ----------
    values : array_like, shape (n_groups,)
        One value per group: a difference of losses, say, paired by episode.
    level : float
        Coverage of the interval.
    alternative : {"two-sided", "greater", "less"}
        "greater": lower bound only, and the test against a sum of zero or less. "less": the mirror image.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> from worldprobe.probes import sum_interval
    >>> estimate = sum_interval([1.0, 2.0, 3.0], alternative="greater")
    >>> estimate.estimate, round(estimate.lower, 3), estimate.upper, round(estimate.p_value, 3)
    (6.0, 0.942, inf, 0.037)
    """
    mean = t_interval(values, level, alternative)
    n = len(np.asarray(values))
    return Estimate(n * mean.estimate, n * mean.lower, n * mean.upper, mean.p_value, mean.estimable, mean.reason)


def t_interval(values: ArrayLike, level: float = 0.95, alternative: Alternative = "two-sided") -> Estimate:
    r"""Estimate a mean over independent units (networks, episodes), with its t-interval and the test that it is zero.

    .. math:: \bar v \pm t_{n-1} \frac{s_v}{\sqrt n}

    Parameters
    ----------
    values : array_like, shape (n,)
        One value per unit.
    level, alternative
        As in `sum_interval`.

    Returns
    -------
    Estimate
        Not estimable with fewer than two units.

    Examples
    --------
    >>> from worldprobe.probes import t_interval
    >>> estimate = t_interval([1.0, 2.0, 3.0])
    >>> round(estimate.lower, 3), estimate.estimate, round(estimate.upper, 3)
    (-0.484, 2.0, 4.484)
    """
    units = _groups(values, "values")
    if len(units) < 2:
        return Estimate(np.nan, np.nan, np.nan, np.nan, False, "fewer than 2 units")
    mean, error = float(units.mean()), float(units.std(ddof=1) / np.sqrt(len(units)))
    law = stats.t(len(units) - 1)
    reach = error * float(law.ppf((1 + level) / 2 if alternative == "two-sided" else level))
    statistic = mean / error if error > 0 else np.sign(mean) * np.inf if mean else 0.0
    tails = {"two-sided": 2 * law.sf(abs(statistic)), "greater": law.sf(statistic), "less": law.cdf(statistic)}
    if alternative not in tails:
        raise ValueError(f"alternative must be one of {', '.join(tails)}; got {alternative!r}")
    lower = -np.inf if alternative == "less" else mean - reach
    upper = np.inf if alternative == "greater" else mean + reach
    return Estimate(mean, lower, upper, float(tails[alternative]), True)


def false_discovery_rate(p_values: ArrayLike) -> Floats:
    r"""Adjust p-values so that cells with an adjusted value <= q hold a share of false discoveries <= q on average.

    .. math:: \tilde p_{(i)} = \min_{j \ge i} \min\Big(1, \frac{m}{j}\, p_{(j)}\Big)

    Parameters
    ----------
    p_values : array_like, shape (m,)
        Of independent or positively dependent tests.

    Returns
    -------
    ndarray, shape (m,)
        Adjusted p-values, in the order given.

    Raises
    ------
    ValueError
        If one is NaN or outside [0, 1]: drop cells that were not tested before.

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57.

    Examples
    --------
    >>> from worldprobe.probes import false_discovery_rate
    >>> false_discovery_rate([0.01, 0.5, 0.02])
    array([0.03, 0.5 , 0.03])
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError("p_values must be one-dimensional and lie in [0, 1]; drop cells that were not tested")
    order = np.argsort(p)[::-1]
    scaled = p[order] * (len(p) / np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted


def _groups(values: ArrayLike, name: str) -> Floats:
    """Return one finite value per group."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be (n_groups,); got shape {array.shape}")
    check_finite(array, name)
    return array


def _no_ratio(reason: str) -> RatioEstimate:
    """Return the estimate that is none."""
    return RatioEstimate(np.nan, np.nan, np.nan, False, reason)
