from __future__ import annotations

import numpy as np
import pytest

from worldprobe.probes import compare_twins, sum_interval


def test_among_exchangeable_twins_the_least_loss_falls_on_each_equally_often() -> None:
    rng = np.random.default_rng(0)
    losses = rng.gamma(2.0, size=(4000, 20, 5))
    below = [compare_twins(draw[0], draw[1:]).below for draw in losses]
    assert np.mean(below) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))
    p_values = [compare_twins(draw[0], draw[1:]).p_value for draw in losses]
    np.testing.assert_allclose(np.unique(p_values), np.arange(1, 21) / 20)


def test_the_decision_by_hand() -> None:
    twins = np.array([[3.0, 3.0], [2.0, 2.5]])
    better = compare_twins([2.0, 2.0], twins)
    assert (better.n_twins, better.n_better, better.margin, better.below) == (2, 0, 0.5, True)
    assert not compare_twins([2.0, 2.5], twins).below  # a tie is not below
    own = np.array([2.1, 9.0])
    judged = compare_twins([2.0, 2.0], twins, own_initialisation=own)
    assert judged.own == sum_interval(own - 2.0, alternative="greater")
    assert not judged.below
    assert compare_twins([2.0, 2.0], twins, own_initialisation=[4.0, 4.1]).below


def test_twins_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3, 1\)"):
        compare_twins([1.0, 2.0], [[1.0], [2.0], [3.0]])
    with pytest.raises(ValueError, match="twin_losses must be finite"):
        compare_twins([1.0], [[np.nan]])
