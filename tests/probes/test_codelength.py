from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from worldprobe.probes import LogisticProbe, online_codelength, sum_interval

Plant = Callable[..., SimpleNamespace]


def test_the_code_is_the_sum_over_blocks_by_hand(plant: Plant) -> None:
    data = plant(n_groups=12, length=10)
    probe = LogisticProbe(alphas=(1e-2,), tolerance=1e-10)
    code = online_codelength(data.X, data.labels, data.groups, probe, blocks=(0.25, 0.5, 1.0), random_state=3)
    order = np.random.default_rng(3).permutation(12)
    bits = np.zeros(12)
    bits[order[:3]] = 10 * np.log2(3)
    for start, end in ((3, 6), (6, 12)):
        before, block = np.isin(data.groups, order[:start]), np.isin(data.groups, order[start:end])
        probe.fit(data.X[before], data.labels[before])
        p = probe.predict_proba(data.X[block])[np.arange(block.sum()), data.labels[block]]
        mixed = p * start / (1 + start) + 1 / (3 * (1 + start))
        np.add.at(bits, data.groups[block], -np.log2(mixed))
    np.testing.assert_allclose(code.per_group, bits, rtol=1e-4)
    assert code.total == pytest.approx(code.per_group.sum())
    assert code.uniform == pytest.approx(120 * np.log2(3))
    assert code.boundaries == (30, 60, 120)


def test_control_labels_cost_the_uniform_code_and_a_planted_one_less(plant: Plant) -> None:
    data = plant(n_groups=200, length=10, noise=0.1)
    control = np.random.default_rng(0).integers(3, size=2000)
    assert online_codelength(data.X, data.labels, data.groups).compression > 2.0
    assert online_codelength(data.X, control, data.groups).compression == pytest.approx(1.0, abs=0.03)


def test_ease_of_learning_shortens_the_code_at_equal_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(2, size=4000), np.repeat(np.arange(200), 20)
    plain = np.column_stack([2.0 * labels - 1, 0.1 * rng.normal(size=(4000, 1))])
    buried = np.column_stack([plain, rng.normal(size=(4000, 100))])
    easy, hard = (online_codelength(X, labels, groups) for X in (plain, buried))
    assert sum_interval(hard.per_group - easy.per_group, alternative="greater").lower > 0
    late = groups >= 100
    accuracy = [LogisticProbe(alphas=(1e-2,)).fit(X[~late], labels[~late]).score(X[late], labels[late]) for X in (plain, buried)]
    assert accuracy == [1.0, 1.0]


def test_labels_that_do_not_exist_are_neither_coded_nor_learned_from(plant: Plant) -> None:
    data = plant(n_groups=40, length=10)
    mask = np.random.default_rng(0).random(400) < 0.5
    masked = online_codelength(data.X, np.where(mask, data.labels, 99), data.groups, mask=mask)
    alone = online_codelength(data.X[mask], data.labels[mask], data.groups[mask])
    np.testing.assert_allclose(masked.per_group, alone.per_group)


def test_blocks_hold_whole_groups(plant: Plant) -> None:
    data = plant(n_groups=15, length=7)
    boundaries = online_codelength(data.X, data.labels, data.groups).boundaries
    assert all(boundary % 7 == 0 for boundary in boundaries)
    assert boundaries[-1] == 105


def test_each_block_may_choose_its_own_penalty(plant: Plant) -> None:
    data = plant(n_groups=60, length=10, noise=0.1)
    chosen = online_codelength(data.X, data.labels, data.groups, LogisticProbe(n_folds=3))
    assert chosen.total < online_codelength(data.X, data.labels, data.groups, LogisticProbe(alphas=(10.0,))).total


def test_shares_that_do_not_end_in_one_are_refused(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    with pytest.raises(ValueError, match="increasing shares that end in 1"):
        online_codelength(data.X, data.labels, data.groups, blocks=(0.5, 0.25, 1.0))
    with pytest.raises(ValueError, match="one class"):
        online_codelength(data.X, np.zeros(30, np.int64), data.groups)
