from __future__ import annotations

import numpy as np
import pytest

from worldprobe.probes import LogisticProbe, MLPProbe, control_labels, estimate_selectivity, group_folds, history_types, online_codelength


def test_control_labels_are_functions_of_the_type_with_the_frequencies_of_the_task() -> None:
    rng = np.random.default_rng(0)
    labels, types = rng.choice(["rare", "common"], p=[0.2, 0.8], size=40_000), np.arange(40_000) % 10_000
    control = control_labels(labels, types, random_state=1)
    assert all(len(np.unique(control[types == kind])) == 1 for kind in range(50))
    assert np.mean(control == "rare") == pytest.approx(0.2, abs=0.02)
    assert np.mean(control == labels) == pytest.approx(0.68, abs=0.02)  # .2^2 + .8^2: nothing of the task is left
    np.testing.assert_array_equal(control, control_labels(labels, types, random_state=1))
    assert np.any(control != control_labels(labels, types, random_state=2))


def test_a_probe_that_learns_by_heart_is_not_selective() -> None:
    rng = np.random.default_rng(0)
    types, groups = rng.integers(12, size=2400), np.repeat(np.arange(120), 20)
    X = rng.normal(size=(12, 16))[types]  # twelve inputs that sixteen units tell apart
    labels = types < 6
    control = control_labels(labels, types, random_state=3)
    folds, probe = group_folds(groups, 3), LogisticProbe(alphas=(1e-4,))
    learned = estimate_selectivity(X, labels, control, groups, folds, probe)
    assert learned.task == learned.control == 1.0
    plain = np.column_stack([np.where(labels, 1.0, -1.0), rng.normal(size=(2400, 3))])
    selective = estimate_selectivity(plain, labels, control, groups, folds, probe)
    assert selective.task == 1.0
    assert selective.control < 0.8
    assert selective.selectivity.estimate == pytest.approx(selective.task - selective.control)
    assert selective.selectivity.lower > 0.15


def test_selectivity_counts_labels_that_exist() -> None:
    rng = np.random.default_rng(0)
    labels, groups, mask = rng.integers(2, size=1200), np.repeat(np.arange(60), 20), rng.random(1200) < 0.5
    X = labels[:, None] + 0.5 * rng.normal(size=(1200, 1))
    control, folds = rng.integers(2, size=1200), group_folds(groups, 3)
    one, other = (
        estimate_selectivity(X, np.where(mask, labels, junk), control, groups, folds, MLPProbe((4,), loss="log", max_epochs=3), mask)
        for junk in (0, 1)
    )
    assert (one.task, one.control, one.selectivity) == (other.task, other.control, other.selectivity)


def test_control_labels_on_histories_cost_the_uniform_code() -> None:
    rng = np.random.default_rng(0)
    steps, groups = np.tile(np.arange(25), 200), np.repeat(np.arange(200), 25)
    inputs = rng.integers(3, size=(5000, 1))
    types = history_types(inputs, steps, n_types=20 * 8)
    assert types is not None
    labels = inputs[:, 0]
    X = np.eye(3, 8)[labels] + 0.1 * rng.normal(size=(5000, 8))
    task, control = (online_codelength(X, y, groups) for y in (labels, control_labels(labels, types)))
    assert task.compression > 4
    assert control.compression == pytest.approx(1.0, abs=0.1)
