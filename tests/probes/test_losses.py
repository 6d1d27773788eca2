from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worldprobe.probes import clip_probabilities, group_log_losses, group_losses, group_sums


def test_losses_are_summed_by_group_in_sorted_order() -> None:
    rng = np.random.default_rng(0)
    Y, predictions, mask = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)), rng.random((20, 3)) < 0.6
    groups, scale = rng.choice([30, 10, 20], size=20), [1.0, 2.0, 5.0]
    expected = np.zeros(3)
    for row in range(20):
        for target in range(3):
            if mask[row, target]:
                expected[groups[row] // 10 - 1] += ((Y[row, target] - predictions[row, target]) / scale[target]) ** 2
    np.testing.assert_allclose(group_losses(Y, predictions, groups, scale, mask), expected)


def test_log_losses_are_bits_with_a_floor() -> None:
    p = [[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.0, 1.0]]
    bits = group_log_losses(["b", "a", "a", "a"], p, groups=[0, 0, 1, 2], classes=["a", "b"])
    np.testing.assert_allclose(bits, [1.0, 2.0, np.log2(1e6)], atol=1e-4)


def test_masked_rows_cost_nothing_and_may_hold_anything() -> None:
    bits = group_log_losses([0, 99], [[0.5, 0.5], [0.5, 0.5]], groups=[0, 1], mask=np.array([True, False]))
    np.testing.assert_array_equal(bits, [1.0, 0.0])


def test_a_label_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 holds 2"):
        group_log_losses([0, 2], [[0.5, 0.5], [0.5, 0.5]], groups=[0, 1])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"predictions must have the shape of Y, \(3,\); got \(3, 1\)"):
        group_losses(np.zeros(3), np.zeros((3, 1)), groups=np.arange(3))
    with pytest.raises(ValueError, match="predictions must be finite"):
        group_losses(np.zeros(3), np.full(3, np.nan), groups=np.arange(3))


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.floats(0, 1)))
def test_clipping_gives_probabilities_and_counts_what_it_added(weights: np.ndarray) -> None:
    p = (weights + 1e-12) / (weights + 1e-12).sum(axis=1, keepdims=True)
    clipped, mass = clip_probabilities(p)
    np.testing.assert_allclose(clipped.sum(axis=1), 1.0)
    assert clipped.min() >= 1e-6 / (1 + 1e-6 * p.shape[1])
    assert mass == pytest.approx(np.maximum(1e-6 - p, 0).sum() / len(p), abs=1e-15)
    np.testing.assert_allclose(clipped, p, atol=2e-5)


def test_sums_over_groups_keep_the_total() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=50), rng.integers(7, size=50)
    assert group_sums(values, groups).sum() == pytest.approx(values.sum())
