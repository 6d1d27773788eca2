from __future__ import annotations

import numpy as np
import pytest

from worldprobe.probes import LogisticProbe, MLPProbe, estimate_usable_information, group_folds

N_GROUPS, LENGTH = 150, 20
GROUPS = np.repeat(np.arange(N_GROUPS), LENGTH)
FOLDS = group_folds(GROUPS, 3)
PROBE = LogisticProbe(alphas=(1e-4,))


def flipped(rng: np.random.Generator, probability: float) -> tuple[np.ndarray, float]:
    """Draw which bits a binary symmetric channel flips, and return the bits per symbol that it leaves."""
    flips = rng.random(N_GROUPS * LENGTH) < probability
    return flips, 1 + probability * np.log2(probability) + (1 - probability) * np.log2(1 - probability)


def test_a_binary_channel_has_its_capacity() -> None:
    rng = np.random.default_rng(0)
    goal = rng.integers(2, size=N_GROUPS * LENGTH)
    flips, capacity = flipped(rng, 0.1)
    information = estimate_usable_information((goal ^ flips)[:, None], goal, GROUPS, FOLDS, estimator=PROBE)
    assert information.bits.lower < capacity < information.bits.upper
    assert information.bits.estimate == pytest.approx(capacity, rel=0.1)
    np.testing.assert_array_equal(information.n_labels, LENGTH)
    assert information.without.sum() / len(goal) == pytest.approx(1.0, abs=0.01)


def test_what_is_given_is_not_counted_again() -> None:
    rng = np.random.default_rng(1)
    goal = rng.integers(2, size=N_GROUPS * LENGTH)
    (first, _), (second, _) = flipped(rng, 0.1), flipped(rng, 0.2)
    seen, hidden = (goal ^ first)[:, None], (goal ^ second)[:, None]
    p, q = 0.1, 0.2  # two independent looks: I(hidden; goal | seen) = H(hidden | seen) - H(hidden | goal)
    r = p * (1 - q) + q * (1 - p)
    expected = -r * np.log2(r) - (1 - r) * np.log2(1 - r) + q * np.log2(q) + (1 - q) * np.log2(1 - q)
    beyond = estimate_usable_information(hidden, goal, GROUPS, FOLDS, given=seen, estimator=PROBE, level=0.999)
    assert beyond.bits.lower < expected < beyond.bits.upper
    again = estimate_usable_information(seen + 0.0, goal, GROUPS, FOLDS, given=seen, estimator=PROBE)
    assert abs(again.bits.estimate) < 0.001
    alone, both = (estimate_usable_information(X, goal, GROUPS, FOLDS, estimator=PROBE) for X in (seen, np.hstack([seen, hidden])))
    assert both.bits.estimate - alone.bits.estimate == pytest.approx(beyond.bits.estimate, abs=1e-3)


def test_a_richer_family_can_use_more() -> None:
    rng = np.random.default_rng(2)
    X = rng.choice([-1.0, 1.0], size=(N_GROUPS * LENGTH, 2))
    goal = X[:, 0] * X[:, 1] > 0
    linear = estimate_usable_information(X, goal, GROUPS, FOLDS, estimator=PROBE)
    network = estimate_usable_information(X, goal, GROUPS, FOLDS, estimator=MLPProbe((16,), loss="log", max_epochs=20))
    assert abs(linear.bits.estimate) < 0.01
    assert network.bits.estimate > 0.9


def test_noise_is_worth_nothing_and_masked_labels_are_not_looked_at() -> None:
    rng = np.random.default_rng(3)
    goal, noise = rng.integers(3, size=N_GROUPS * LENGTH), rng.normal(size=(N_GROUPS * LENGTH, 5))
    assert estimate_usable_information(noise, goal, GROUPS, FOLDS).bits.lower < 0
    mask = rng.random(len(goal)) < 0.7
    X = np.eye(3)[goal] + rng.normal(size=(len(goal), 3))
    one, other = (estimate_usable_information(X, np.where(mask, goal, junk), GROUPS, FOLDS, None, PROBE, mask) for junk in (0, 1))
    assert one.bits == other.bits
    assert one.n_labels.sum() == mask.sum()
