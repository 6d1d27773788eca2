from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.probes import choose_window, history_types, history_windows

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=6)


@given(lengths, st.integers(0, 4), st.integers(0, 2**31))
def test_windows_by_brute_force(lengths: list[int], window: int, seed: int) -> None:
    steps = np.concatenate([np.arange(length) for length in lengths])
    inputs = np.random.default_rng(seed).normal(size=(len(steps), 2)).astype(np.float32)
    windows = history_windows(inputs, steps, window).reshape(len(steps), window + 1, 2)
    for row, t in enumerate(steps):
        for lag in range(window + 1):
            np.testing.assert_array_equal(windows[row, lag], inputs[row - lag] if lag <= t else 0)


@given(lengths, st.integers(1, 30), st.integers(0, 2**31))
def test_types_by_brute_force(lengths: list[int], n_types: int, seed: int) -> None:
    steps = np.concatenate([np.arange(length) for length in lengths])
    inputs = np.random.default_rng(seed).integers(2, size=len(steps))
    expected = None
    for w in range(1, max(lengths) + 2):  # a window of one more than the longest episode tells whole histories apart
        stories = [tuple(inputs[row - lag] if lag <= t else None for lag in range(w)) for row, t in enumerate(steps)]
        if len(set(stories)) >= n_types:
            expected = stories
            break
    types = history_types(inputs[:, None], steps, n_types)
    if expected is None:
        assert types is None
    else:
        assert types is not None
        pairs = set(zip(types.tolist(), expected, strict=True))
        assert len(pairs) == len(set(types.tolist())) == len(set(expected)) == types.max() + 1


def test_frequent_types_are_not_counted_in_full() -> None:
    steps = np.tile(np.arange(2), 400)
    inputs = np.where(steps == 0, 0, np.arange(800) % 16)[:, None]  # 400 rows of one type, 400 of eight
    assert history_types(inputs, steps, 9) is not None
    types = history_types(inputs, steps, 5, effective=True)  # exp of (log 2 + log 16) / 2 is 5.7
    assert types is not None
    assert types.max() + 1 == 9
    assert history_types(inputs, steps, 6, effective=True) is None


def test_the_window_reaches_as_far_back_as_is_worth_it() -> None:
    rng = np.random.default_rng(0)
    steps, groups = np.tile(np.arange(20), 100), np.repeat(np.arange(100), 20)
    seen, clock = rng.normal(size=(2000, 3)), np.eye(20)[steps]
    for lag, best in ((0, 1), (1, 1), (3, 4), (5, 8)):
        target = np.where(steps >= lag, np.roll(seen[:, 1], lag), 0.0) + np.sin(steps) + 0.1 * rng.normal(size=2000)
        assert choose_window(seen, steps, target, groups, groups < 30, beside=clock) == best
    assert choose_window(seen, steps, target, groups, groups < 30, max_width=9) <= 2
    with pytest.raises(ValueError, match="is split"):
        choose_window(seen, steps, target, groups, np.arange(2000) < 30)


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="row 2 holds 2"):
        history_windows(np.zeros((3, 1)), [0, 0, 2], 1)
    with pytest.raises(ValueError, match="expected shape"):
        history_types(np.zeros((3, 1)), [0, 1], 1)
    with pytest.raises(ValueError, match="0 or more"):
        history_windows(np.zeros((3, 1)), [0, 1, 2], -1)
