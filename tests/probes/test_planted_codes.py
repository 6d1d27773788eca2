"""Codes whose kind is known, held against every probe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from worldprobe.probes import (
    LogisticProbe,
    MLPProbe,
    RankLimitedProbe,
    RidgeProbe,
    SparseProbe,
    cross_fit,
    estimate_usable_information,
    group_folds,
    r2,
)

GROUPS = np.repeat(np.arange(150), 20)
FOLDS = group_folds(GROUPS, 3)
LINEAR = [RidgeProbe(), RankLimitedProbe(1), SparseProbe(8), LogisticProbe(alphas=(1e-3, 1e-1))]
NETWORKS = [MLPProbe((32,), max_epochs=40), MLPProbe((32,), loss="log", max_epochs=40)]


def bit(code: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Plant a bit in eight mixed units, as the sign of one direction or as the product of two signs; "shuffled" moves it by episodes."""
    rng = np.random.default_rng(0)
    latent = rng.choice([-1.0, 1.0], size=(3000, 2))
    held = latent[:, 0] if code == "linear" else latent.prod(axis=1)
    if code == "shuffled":
        held = np.roll(latent[:, 0], 20)
    X = np.column_stack([latent, 0.5 * rng.normal(size=(3000, 6))]) + 0.2 * rng.normal(size=(3000, 8))
    return X @ rng.normal(size=(8, 8)), (held > 0).astype(np.int64)


def found(probe: Any, code: str) -> float:
    """Return the share of the bit that the probe reads out of fold: bits, or R^2 of a regression."""
    X, y = bit(code)
    if hasattr(probe, "predict_proba"):
        return estimate_usable_information(X, y, GROUPS, FOLDS, estimator=probe).bits.estimate
    return float(r2(y, cross_fit(X, y, GROUPS, FOLDS, probe).predictions)[0])


@pytest.mark.parametrize("probe", LINEAR + NETWORKS, ids=str)
def test_a_linear_code_is_found_by_every_probe(probe: Any) -> None:
    assert found(probe, "linear") > 0.9


@pytest.mark.parametrize("probe", LINEAR, ids=str)
def test_a_product_is_hidden_from_linear_probes(probe: Any) -> None:
    assert abs(found(probe, "product")) < 0.02


@pytest.mark.parametrize("probe", NETWORKS, ids=str)
def test_a_product_is_found_by_networks(probe: Any) -> None:
    assert found(probe, "product") > 0.9


@pytest.mark.parametrize("probe", LINEAR + NETWORKS, ids=str)
def test_another_episodes_bit_is_found_by_none(probe: Any) -> None:
    assert found(probe, "shuffled") < 0.02


@pytest.mark.parametrize("probe", [RidgeProbe(), MLPProbe(hidden=(16,), max_epochs=30, batch_size=256, learning_rate=3e-3)], ids=str)
@pytest.mark.parametrize("gain", [1.5, 3.0])
def test_trained_probes_give_the_information_of_a_gaussian_channel(probe: Any, gain: float) -> None:
    """I(x; y) = log(1 + gain^2) / 2 = -log(1 - R^2) / 2, of the held-out R^2."""
    rng = np.random.default_rng(0)
    sent, groups = rng.normal(size=40_000), np.arange(40_000) // 20
    X = np.column_stack([gain * sent + rng.normal(size=40_000), rng.normal(size=(40_000, 3))]) @ rng.normal(size=(4, 4))
    fit = cross_fit(X, sent, groups, group_folds(groups, 3), probe)
    information = -np.log(1 - r2(sent, fit.predictions)[0]) / 2
    assert information == pytest.approx(np.log(1 + gain**2) / 2, rel=0.02)
