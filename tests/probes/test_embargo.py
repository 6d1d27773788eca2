from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.probes import embargo_mask, group_folds, time_blocks

STREAMS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(STREAMS, st.integers(1, 6))
def test_blocks_are_consecutive_rows_of_one_stream(streams: list[int], length: int) -> None:
    blocks = time_blocks(streams, length)
    assert set(blocks) == set(range(blocks.max() + 1))
    seen: dict[int, list[int]] = {}
    for row, stream in enumerate(streams):
        seen.setdefault(stream, []).append(row)
    for rows in seen.values():
        for start in range(0, len(rows), length):
            part = rows[start : start + length]
            assert len({int(blocks[row]) for row in part}) == 1
            assert np.sum(blocks == blocks[part[0]]) == len(part)


@given(STREAMS, st.integers(1, 5), st.integers(-3, 4), st.integers(0, 5))
def test_a_kept_row_reaches_its_target_inside_its_fold(streams: list[int], length: int, horizon: int, seed: int) -> None:
    folds = np.random.default_rng(seed).integers(3, size=time_blocks(streams, length).max() + 1)[time_blocks(streams, length)]
    mask = embargo_mask(folds, streams, horizon)
    for row, stream in enumerate(streams):
        own = [other for other in range(len(streams)) if streams[other] == stream]
        place = own.index(row)
        ends = sorted((place, place + horizon))
        inside = ends[0] >= 0 and ends[1] < len(own) and len({int(folds[own[step]]) for step in range(ends[0], ends[1] + 1)}) == 1
        assert mask[row] == inside


def test_several_horizons_are_columns() -> None:
    streams = np.zeros(50, np.int64)
    folds = group_folds(time_blocks(streams, 10), 5)
    mask = embargo_mask(folds, streams, (0, 1, 3))
    assert mask.shape == (50, 3)
    assert mask.sum(axis=0).tolist() == [50, 45, 35]
    with pytest.raises(ValueError, match="a block must have a row or more; got length 0"):
        time_blocks(streams, 0)
