from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from worldprobe.probes import check_identical_rows, count_identical_rows


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_identical_rows_are_those_that_another_fold_holds(rows: list[tuple[int, int, int]]) -> None:
    X, folds = np.array(rows)[:, :2] / 3, np.array(rows)[:, 2]
    shared = np.array([any((X[i] == X[j]).all() and folds[j] != folds[i] for j in range(len(X))) for i in range(len(X))])
    assert count_identical_rows(X, folds).tolist() == [int(shared[folds == fold].sum()) for fold in np.unique(folds)]
    if shared.any():
        with pytest.raises(ValueError, match=f"but {shared.sum()} of {len(rows)} occur in several"):
            check_identical_rows(X, folds)
    else:
        check_identical_rows(X, folds)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_resemble_each_other_are_not_taken_for_equal(dtype: type) -> None:
    pairs: NDArray[Any] = np.array([np.eye(150)[i] + np.eye(150)[j] for i in range(150) for j in range(i)], dtype=dtype)
    assert count_identical_rows(pairs, np.arange(len(pairs)) % 2).sum() == 0
    near = np.nextafter(np.zeros((2, 5), dtype), np.ones((2, 5), dtype)) * np.array([[0], [1]], dtype)
    assert count_identical_rows(near, [0, 1]).sum() == 0
    assert count_identical_rows(np.array([[0.0], [-0.0]], dtype), [0, 1]).tolist() == [1, 1]
