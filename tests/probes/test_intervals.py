from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats

from worldprobe.probes import false_discovery_rate, ratio_interval, sum_interval, t_interval
from worldprobe.probes._intervals import Alternative

N_DRAWS = 2000


def sums(rng: np.random.Generator, n_groups: int, skewed: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw paired group sums whose true ratio is 0.4."""
    if skewed:
        shared, own = rng.gamma(2.0, size=n_groups), rng.gamma(1.0, size=n_groups)
        return 0.4 * shared + 0.2 * (own - 1), shared
    b = rng.normal(3.0, 2.0, size=n_groups)
    return 0.4 * b + rng.normal(size=n_groups), b


def test_ends_of_the_interval_are_where_the_t_test_turns() -> None:
    a, b = sums(np.random.default_rng(0), 25, skewed=False)
    estimate = ratio_interval(a, b, level=0.9)
    for end in (estimate.lower, estimate.upper):
        assert stats.ttest_1samp(a - end * b, 0.0).pvalue == pytest.approx(0.1)
    assert estimate.lower < estimate.estimate < estimate.upper
    assert estimate.estimate == pytest.approx(a.sum() / b.sum())


@pytest.mark.parametrize(("n_groups", "skewed"), [(12, False), (60, False), (200, True)])
def test_intervals_of_a_ratio_cover_it(n_groups: int, skewed: bool) -> None:
    rng = np.random.default_rng(1)
    estimates = [ratio_interval(*sums(rng, n_groups, skewed)) for _ in range(N_DRAWS)]
    covered = np.mean([not e.estimable or e.lower <= 0.4 <= e.upper for e in estimates])
    error = 4 * np.sqrt(0.95 * 0.05 / N_DRAWS)
    assert 0.95 - error - 0.01 * skewed < covered < 0.95 + error + 0.01 * skewed


def test_the_one_sided_bound_errs_at_its_level() -> None:
    rng = np.random.default_rng(2)
    bounds = np.array([ratio_interval(*sums(rng, 30, skewed=False), level=0.9).lower for _ in range(N_DRAWS)])
    assert np.mean(bounds > 0.4) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / N_DRAWS))


def test_pairing_by_group_matters() -> None:
    rng = np.random.default_rng(3)
    b = rng.gamma(1.0, size=100)
    a = 0.5 * b + 0.01 * rng.normal(size=100)
    paired, broken = ratio_interval(a, b), ratio_interval(rng.permutation(a), b)
    assert paired.upper - paired.lower < 0.1 * (broken.upper - broken.lower)


def test_a_denominator_that_may_be_zero_is_not_estimable() -> None:
    rng = np.random.default_rng(4)
    estimate = ratio_interval(rng.normal(size=50) + 5, rng.normal(size=50))
    assert not estimate.estimable
    assert estimate.reason is not None
    assert "unbounded" in estimate.reason
    assert np.isnan([estimate.estimate, estimate.lower, estimate.upper]).all()


def test_a_denominator_of_too_small_a_share_is_not_estimable() -> None:
    b = np.full(40, 1.0)
    assert ratio_interval(b, b, total=1999.0).estimable
    estimate = ratio_interval(b, b, total=2001.0)
    assert estimate.reason == "the denominator is 0.020 of the total variation; at least 0.02 is needed"


def test_ratios_that_cannot_be_formed() -> None:
    assert ratio_interval([1.0], [2.0]).reason == "fewer than 2 groups"
    with pytest.raises(ValueError, match="got 2 and 3 groups"):
        ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="numerator must be finite"):
        ratio_interval([1.0, np.nan], [1.0, 2.0])


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_mean_is_scipys_t_test(alternative: Alternative) -> None:
    values = np.random.default_rng(5).normal(0.3, 1.0, size=12)
    ours, theirs = t_interval(values, 0.9, alternative), stats.ttest_1samp(values, 0.0, alternative=alternative)
    limits = theirs.confidence_interval(0.9)
    assert (ours.lower, ours.upper) == pytest.approx((limits.low, limits.high))
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.estimate == pytest.approx(values.mean())


def test_the_sum_is_the_mean_times_the_groups() -> None:
    values = np.random.default_rng(6).normal(size=9)
    total, mean = sum_interval(values), t_interval(values)
    assert total.estimate == pytest.approx(values.sum())
    assert (total.lower, total.upper) == pytest.approx((9 * mean.lower, 9 * mean.upper))
    assert total.p_value == mean.p_value


def test_means_without_spread_or_units() -> None:
    assert t_interval([2.0, 2.0]).p_value == 0.0
    assert t_interval([0.0, 0.0]).p_value == 1.0
    assert sum_interval([0.0, 0.0], alternative="greater").p_value == 0.5
    assert t_interval([2.0]).reason == "fewer than 2 units"
    with pytest.raises(ValueError, match="alternative must be one of two-sided, greater, less"):
        t_interval([1.0, 2.0], alternative="both")  # type: ignore[arg-type]  # the point of the test


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_false_discovery_rate_is_scipys(p_values: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(false_discovery_rate(p_values), stats.false_discovery_control(p_values))


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)), st.floats(0.001, 0.999))
def test_rejections_are_those_of_the_step_up_rule(p_values: NDArray[np.float64], q: float) -> None:
    m, ordered = len(p_values), np.sort(p_values)
    adjusted = false_discovery_rate(p_values)
    assert np.all(adjusted >= p_values)
    assert np.array_equal(np.argsort(adjusted[np.argsort(p_values)], kind="stable"), np.arange(m))
    passing = np.flatnonzero(ordered <= q * np.arange(1, m + 1) / m * (1 - 1e-12))
    if len(passing):
        assert np.sum(adjusted <= q) >= passing[-1] + 1


def test_false_discoveries_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(7)
    shares = []
    for _ in range(500):
        p = np.concatenate([rng.random(40), stats.norm.sf(rng.normal(3.0, 1.0, size=10))])
        found = false_discovery_rate(p) <= 0.1
        shares.append(found[:40].sum() / max(found.sum(), 1))
    assert np.mean(shares) == pytest.approx(0.08, abs=0.03)  # q times the share of true nulls


def test_cells_that_were_not_tested_are_refused() -> None:
    with pytest.raises(ValueError, match="drop cells that were not tested"):
        false_discovery_rate([0.1, np.nan])
