from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from worldprobe.probes import _statistics
from worldprobe.probes._statistics import MomentAccumulator, Moments, shared_masks, total


def accumulate(
    X: NDArray[np.float64], Y: NDArray[np.float64], folds: NDArray[np.int64], mask: NDArray[np.bool_], cuts: tuple[int, ...] = ()
) -> list[tuple[NDArray[np.int64], list[Moments]]]:
    accumulator = MomentAccumulator(int(folds.max()) + 1, shared_masks(mask))
    for rows in np.split(np.arange(len(X)), cuts):
        accumulator.update(X[rows], Y[rows], folds[rows], mask[rows])
    return list(accumulator.shares())


@pytest.fixture(params=["everything", "nested", "scattered"])
def rows(request: pytest.FixtureRequest) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(0)
    X, Y, folds = rng.normal(size=(200, 4)) + 100, rng.normal(size=(200, 5)) - 50, rng.integers(3, size=200)
    distance = rng.integers(6, size=200)
    masks = {
        "everything": np.ones((200, 5), dtype=np.bool_),
        "nested": distance[:, None] >= np.arange(5) % 4,
        "scattered": rng.random((200, 5)) < 0.6,
    }
    return X, Y, folds, masks[request.param]


def test_moments_are_the_plain_sums(
    rows: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]],
) -> None:
    X, Y, folds, mask = rows
    seen = []
    for targets, moments in accumulate(X, Y, folds, mask):
        seen += list(targets)
        known = mask[:, targets[0]]
        assert np.array_equal(mask[:, targets], np.repeat(known[:, None], len(targets), axis=1))
        for fold, part in enumerate(moments):
            Z, W = X[known & (folds == fold)], Y[np.ix_(known & (folds == fold), targets)]
            xx, xy, yy = part.about(-part.shift, -part.target_shift)
            assert part.n == len(Z)
            np.testing.assert_allclose(xx, Z.T @ Z, rtol=1e-9)
            np.testing.assert_allclose(xy, Z.T @ W, rtol=1e-9)
            np.testing.assert_allclose(yy, (W**2).sum(axis=0), rtol=1e-9)
            np.testing.assert_allclose(part.shift + part.x_mean, Z.mean(axis=0))
            np.testing.assert_allclose(part.target_shift + part.y_mean, W.mean(axis=0))
    assert sorted(seen) == list(range(5))


def test_streamed_in_batches_is_the_full_batch(
    rows: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = accumulate(*rows)
    monkeypatch.setattr(_statistics, "BLOCK_ENTRIES", 64)
    for (_, one), (_, other) in zip(whole, accumulate(*rows, cuts=(7, 8, 120)), strict=True):
        for full, streamed in zip(one, other, strict=True):
            for a, b in zip(full.about(full.x_mean, full.y_mean), streamed.about(streamed.x_mean, streamed.y_mean), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def test_nested_masks_read_the_features_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = _statistics.FeatureSums.of

    def counted(X: NDArray[np.float64]) -> _statistics.FeatureSums:
        read.append(len(X))
        return original(X)

    monkeypatch.setattr(_statistics.FeatureSums, "of", counted)
    mask = np.arange(60)[:, None] >= np.arange(0, 40, 4)
    accumulate(np.ones((60, 2)), np.ones((60, 10)), np.zeros(60, np.int64), mask)
    assert sum(read) == 60


def test_folds_add_up() -> None:
    rng = np.random.default_rng(1)
    X, Y, mask = rng.normal(size=(90, 3)), rng.normal(size=(90, 2)), np.ones((90, 2), np.bool_)
    parts = accumulate(X, Y, rng.integers(4, size=90), mask)[0][1]
    xx, xy, _ = total(parts).about(-parts[0].shift, -parts[0].target_shift)
    np.testing.assert_allclose(xx, X.T @ X)
    np.testing.assert_allclose(xy, X.T @ Y)


def test_a_large_offset_costs_no_precision() -> None:
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(500, 3))
    moments = accumulate(Z + 1e8, Z[:, :1] - 1e8, np.zeros(500, np.int64), np.ones((500, 1), np.bool_))[0][1][0]
    xx, xy, _ = moments.about(moments.x_mean, moments.y_mean)
    centred = Z - Z.mean(axis=0)
    np.testing.assert_allclose(xx, centred.T @ centred, atol=1e-4)
    np.testing.assert_allclose(xy, centred.T @ centred[:, :1], atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e9, -3e-12])
def test_constant_columns_are_recognised_at_any_level(level: float) -> None:
    rng = np.random.default_rng(3)
    X = np.column_stack([np.full(200, level), level + (1e-6 * abs(level) + 1e-30) * rng.normal(size=200)])
    moments = accumulate(X, X, np.zeros(200, np.int64), np.ones((200, 2), np.bool_), cuts=(50,))[0][1][0]
    assert list(moments.constant_features) == [True, False]
    assert list(moments.constant_targets) == [True, False]
