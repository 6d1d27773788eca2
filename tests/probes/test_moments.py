from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from worldprobe.probes import EraserFitter, FoldMoments, RidgeProbe, _fold_moments, _moments, collect_moments, group_folds
from worldprobe.probes._fold_moments import MomentAccumulator
from worldprobe.probes._moments import Moments, total

Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]


def accumulate(
    X: NDArray[np.float64], Y: NDArray[np.float64], folds: NDArray[np.int64], mask: NDArray[np.bool_], cuts: tuple[int, ...] = ()
) -> list[tuple[NDArray[np.int64], list[Moments]]]:
    accumulator = MomentAccumulator(int(folds.max()) + 1)
    for rows in np.split(np.arange(len(X)), cuts):
        accumulator.update(X[rows], Y[rows], folds[rows], mask[rows])
    return accumulator.shares


@pytest.fixture(params=["everything", "nested", "scattered"])
def rows(request: pytest.FixtureRequest) -> Rows:
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
    rows: Rows,
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


def test_streamed_in_batches_is_the_full_batch(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = accumulate(*rows)
    monkeypatch.setattr(_fold_moments, "BLOCK_ENTRIES", 64)
    for (_, one), (_, other) in zip(whole, accumulate(*rows, cuts=(7, 8, 120)), strict=True):
        for full, streamed in zip(one, other, strict=True):
            for a, b in zip(full.about(full.x_mean, full.y_mean), streamed.about(streamed.x_mean, streamed.y_mean), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def test_nested_masks_read_the_features_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = _moments.FeatureSums.of

    def counted(X: NDArray[np.float64], shift: NDArray[np.float64]) -> _moments.FeatureSums:
        read.append(len(X))
        return original(X, shift)

    monkeypatch.setattr(_moments.FeatureSums, "of", counted)
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


@pytest.mark.parametrize("varies_from", [1, 63, 64, 190])
def test_a_column_that_varies_late_varies(varies_from: int) -> None:
    X = np.full((200, 3), 5.0)
    X[varies_from:, 1] += 1e-9
    X[:, 2] += 1e-15 * np.random.default_rng(0).integers(2, size=200)
    moments = accumulate(X, X, np.zeros(200, np.int64), np.ones((200, 3), np.bool_))[0][1][0]
    assert list(moments.constant_features) == [True, False, True]
    assert list(moments.constant_targets) == [True, False, True]


@pytest.fixture
def streamed() -> Rows:
    rng = np.random.default_rng(4)
    X, groups = rng.normal(size=(300, 6)) + 3, np.arange(300) // 10
    Y = X[:, :4] + 2 * rng.normal(size=(300, 4))
    mask = rng.random((300, 4)) < 0.7
    mask[:120] = mask[:120, :1]
    mask[:, 3] = mask[:, 2]
    return X, Y, groups, mask


def batches(streamed: Rows) -> FoldMoments:
    X, Y, groups, mask = streamed
    return collect_moments([(X[rows], Y[rows], groups[rows], mask[rows]) for rows in np.split(np.arange(300), (60, 130))])


def test_masks_that_part_in_a_later_batch_are_followed(
    streamed: Rows,
) -> None:
    X, Y, _, mask = streamed
    moments = batches(streamed)
    assert sorted(sorted(share.targets.tolist()) for share in moments.shares) == [[0], [1], [2, 3]]
    for share in moments.shares:
        known = mask[:, share.targets[0]]
        sums = total(share.folds)
        xx, xy, yy = sums.about(-sums.shift, -sums.target_shift)
        np.testing.assert_allclose(xx, X[known].T @ X[known])
        np.testing.assert_allclose(xy, X[known].T @ Y[known][:, share.targets])
        np.testing.assert_allclose(yy, (Y[known][:, share.targets] ** 2).sum(axis=0))


def test_a_subset_is_what_a_fit_on_those_columns_sees(
    streamed: Rows,
) -> None:
    X, Y, groups, mask = streamed
    features, targets = [4, 0, 2], [3, 0]
    part = RidgeProbe().fit_moments(batches(streamed).subset(features, targets))
    alone = RidgeProbe().fit_batches([(X[:, features], Y[:, targets], groups, mask[:, targets])])
    assert np.array_equal(part.alpha_, alone.alpha_)
    np.testing.assert_allclose(part.cv_scores_, alone.cv_scores_, rtol=1e-9)
    np.testing.assert_allclose(part.predict(X[:, features]), alone.predict(X[:, features]), rtol=1e-9)
    for wrong in ([], [6], [0, 0], [-1], [0.5]):
        with pytest.raises(ValueError, match="features must be"):
            batches(streamed).subset(features=wrong)


def test_erasers_and_probes_follow_from_the_same_sums(
    streamed: Rows,
) -> None:
    X, Y, groups, _ = streamed
    moments = collect_moments([(X, Y, groups)])
    ours, rows = EraserFitter.from_moments(moments.subset(targets=[1, 2])).leace(), EraserFitter().update(X, Y[:, 1:3]).leace()
    assert ours.rank == 2
    np.testing.assert_allclose(ours.transform(X), rows.transform(X), rtol=1e-8)
    with pytest.raises(ValueError, match="have 3 different masks"):
        EraserFitter.from_moments(batches(streamed))
    more = EraserFitter.from_moments(collect_moments([(X[:200], Y[:200], groups[:200])])).update(X[200:], Y[200:]).leace()
    np.testing.assert_allclose(more.transform(X), EraserFitter().update(X, Y).leace().transform(X), rtol=1e-7)


def test_a_target_without_labels_in_any_batch_is_refused() -> None:
    X, mask = np.ones((40, 2)), np.repeat([[True, False]], 40, axis=0)
    with pytest.raises(ValueError, match="the mask leaves none for target 1"):
        collect_moments([(X, X, np.arange(40), mask)])


def test_leaving_out_one_group_at_a_time_is_brute_force() -> None:
    rng = np.random.default_rng(5)
    X, groups = rng.normal(size=(120, 4)), np.arange(120) // 6
    Y = X[:, :2] + 3 * rng.normal(size=(120, 2))
    scores = RidgeProbe((1e-3, 1.0)).fit(X, Y, groups, folds=groups).cv_scores_
    for row, alpha in enumerate((1e-3, 1.0)):
        lost, null = np.zeros(2), np.zeros(2)
        for group in range(20):
            rows = groups != group
            fitted = RidgeProbe((alpha,)).fit(X[rows], Y[rows])
            lost += ((Y[~rows] - fitted.predict(X[~rows])) ** 2).sum(axis=0)
            null += ((Y[~rows] - Y[rows].mean(axis=0)) ** 2).sum(axis=0)
        np.testing.assert_allclose(scores[row], 1 - lost / null, rtol=1e-9)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    rng = np.random.default_rng(6)
    X, groups = rng.normal(size=(4000, 40)), np.arange(4000) // 20
    Y, folds = X[:, :7] + rng.normal(size=(4000, 7)), group_folds(groups)
    fits = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="blas"):
            fits.append(RidgeProbe().fit(X, Y, groups, folds=folds))
    for other in fits[1:]:
        assert np.array_equal(fits[0].coef_, other.coef_)
        assert np.array_equal(fits[0].cv_scores_, other.cv_scores_)
