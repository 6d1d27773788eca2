from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.probes import check_groups, group_folds


@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(2, 4), st.integers(0, 3))
def test_folds_hold_whole_groups_and_are_balanced(groups: list[int], n_folds: int, seed: int) -> None:
    n_folds = min(n_folds, len(set(groups)))
    if n_folds < 2:
        return
    folds = group_folds(groups, n_folds, seed)
    check_groups(groups, folds)
    rows = np.bincount(folds, minlength=n_folds)
    assert rows.min() > 0
    assert rows.max() - rows.min() <= np.unique(groups, return_counts=True)[1].max()


def test_the_seed_decides_the_deal() -> None:
    groups = np.repeat(np.arange(30), 3)
    assert np.array_equal(group_folds(groups, 5, 1), group_folds(groups, 5, 1))
    assert not np.array_equal(group_folds(groups, 5, 1), group_folds(groups, 5, 2))


def test_labels_of_groups_are_arbitrary() -> None:
    numbers = np.repeat([4, 1, 9, 7], 5)
    names = np.array(["d", "a", "i", "g"]).repeat(5)
    assert np.array_equal(group_folds(numbers, 2), group_folds(names, 2))


def test_a_fold_through_groups_names_them() -> None:
    with pytest.raises(ValueError, match="group 7, 9 are split"):
        check_groups([7, 7, 8, 9, 9], folds=[0, 1, 0, 1, 0])


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match=r"number of groups \(2\); got 3"):
        group_folds([0, 0, 1], n_folds=3)
