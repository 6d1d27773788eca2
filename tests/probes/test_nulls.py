from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worldprobe.probes import false_discovery_rate, grid_test, pseudo_session_test, pseudo_sessions

Floats = NDArray[np.float64]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(0, 2**31))
def test_every_episode_takes_the_labels_of_another_at_the_same_steps(lengths: list[int], seed: int) -> None:
    names = np.random.default_rng(seed).permutation(len(lengths))  # episodes are numbered in any order
    groups = np.repeat(names, lengths)
    steps = np.concatenate([np.arange(length) for length in lengths])
    Y = np.column_stack([groups, steps])
    for labels, mask in pseudo_sessions(Y, steps, groups, n_sessions=3, random_state=seed):
        donors = []
        for name, length in zip(names, lengths, strict=True):
            rows = groups == name
            (donor,) = np.unique(labels[rows & mask, 0])
            donors.append(donor)
            assert donor != name
            np.testing.assert_array_equal(labels[rows & mask, 1], steps[rows & mask])
            assert mask[rows].sum() == min(length, lengths[list(names).index(donor)])
        assert sorted(donors) == sorted(names)


def drifting(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Draw two units and a label that drift slowly over 30 episodes of 40 steps, in which the first unit knows the label."""
    label, noise, other = rng.normal(size=(3, 30, 40)).cumsum(axis=2)
    return label.reshape(-1), (label + noise).reshape(-1), other.reshape(-1)


def test_pseudo_sessions_err_at_their_level_where_shuffled_rows_always_err() -> None:
    steps, groups, rng = np.tile(np.arange(40), 30), np.repeat(np.arange(30), 40), np.random.default_rng(0)
    by_session, by_row, found = 0, 0, 0
    for draw in range(200):
        label, knows, other = drifting(rng)

        def statistic(labels: Floats, mask: NDArray[np.bool_], other: Floats = other, knows: Floats = knows) -> list[float]:
            return [abs(float(np.corrcoef(unit[mask], labels[mask])[0, 1])) for unit in (other, knows)]

        test = pseudo_session_test(statistic, label, steps, groups, n_sessions=19, random_state=draw)
        by_session += test.p_values[0] <= 0.05
        found += test.p_values[1] <= 0.05
        shuffled = [abs(np.corrcoef(other, rng.permutation(label))[0, 1]) for _ in range(19)]
        by_row += test.statistic[0] > max(shuffled)
    assert by_session <= 19  # 10 are expected; more than 19 of 200 happen once in 400 tries
    assert by_row > 120
    assert found > 190


def test_family_wise_error_is_held_over_the_grid_and_single_cells_are_not() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(400, 100, 4, 5))  # one statistic and 99 nulls each, all alike
    tests = [grid_test(draw[0], draw[1:]) for draw in draws]
    any_cell = np.mean([(test.p_values <= 0.05).any() for test in tests])
    any_family = np.mean([(test.family_wise <= 0.05).any() for test in tests])
    assert any_cell > 0.5
    assert any_family == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 400))
    assert all(np.all(test.family_wise >= test.p_values) for test in tests)


def test_the_grid_by_hand() -> None:
    null = np.array([[[0.0, 3.0]], [[1.0, 2.0]], [[5.0, 0.0]]])
    test = grid_test([[2.0, 2.0]], null)
    np.testing.assert_array_equal(test.p_values, [[0.5, 0.75]])
    np.testing.assert_array_equal(test.family_wise, [[1.0, 1.0]])
    np.testing.assert_array_equal(grid_test([[4.0, 9.0]], null).family_wise, [[0.5, 0.25]])
    np.testing.assert_array_equal(test.false_discovery[0], false_discovery_rate([0.5, 0.75]))


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 are needed; got 1"):
        next(pseudo_sessions([1, 2], [0, 1], [0, 0], 1))
    with pytest.raises(ValueError, match="one unbroken episode"):
        next(pseudo_sessions([1, 2, 3], [0, 1, 0], [0, 1, 1], 1))
    with pytest.raises(ValueError, match="one unbroken episode"):
        next(pseudo_sessions([1, 2, 3], [0, 1, 0], [0, 0, 0], 1))
    with pytest.raises(ValueError, match=r"got shape \(5, 3\)"):
        grid_test([1.0, 2.0], np.zeros((5, 3)))
