from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from worldprobe.probes import RidgeProbe, compare_floor, cross_fit, fit_floor_maps, group_folds, group_losses, r2, sum_interval
from worldprobe.probes._floors import FloorForm

Plant = Callable[..., SimpleNamespace]
PROBE = RidgeProbe(alphas=(1e-3, 1e-1))


def test_the_linear_gain_by_hand(plant: Plant) -> None:
    data = plant(n_groups=30, length=10)
    floor, hidden, folds = data.X[:, :2], data.X[:, 2:], group_folds(data.groups, 3)
    (gain,) = compare_floor(hidden, floor, data.Y, data.groups, folds, forms=("linear",), probe=PROBE, scale=2.0).forms.values()
    joint = RidgeProbe(PROBE.alphas, blocks=(2, 4))
    alone, both = (
        group_losses(data.Y, cross_fit(X, data.Y, data.groups, folds, probe).predictions, data.groups, scale=2.0)
        for X, probe in ((floor, PROBE), (data.X, joint))
    )
    np.testing.assert_allclose(gain.floor_losses, alone)
    np.testing.assert_allclose(gain.joint_losses, both)
    assert gain.gain == sum_interval(alone - both, 0.95, "greater")


def test_a_nonlinear_map_of_the_floor_is_beyond_its_linear_form_alone() -> None:
    rng = np.random.default_rng(0)
    floor, groups = rng.choice([-1.0, 1.0], size=(3000, 2)) + 0.05 * rng.normal(size=(3000, 2)), np.repeat(np.arange(150), 20)
    product = floor[:, 0] * floor[:, 1]
    comparison = compare_floor(product[:, None] + rng.normal(size=(3000, 1)), floor, product, groups, group_folds(groups, 3), units=32)
    assert comparison.forms["linear"].gain.lower > 0
    assert not comparison.beyond


@pytest.mark.parametrize("form", ["linear", "random", "mlp"])
def test_what_the_floor_lacks_is_beyond_every_form(plant: Plant, form: Any) -> None:
    data = plant(n_groups=60, length=10)
    folds = group_folds(data.groups, 3)
    assert compare_floor(data.X, np.zeros((600, 1)), data.Y, data.groups, folds, (form,), 16, PROBE).beyond
    assert not compare_floor(np.zeros((600, 1)), data.X, data.Y, data.groups, folds, (form,), 16, PROBE).beyond


@pytest.mark.parametrize("form", ["linear", "random", "mlp"])
def test_no_loss_depends_on_the_labels_of_its_fold(plant: Plant, form: Any) -> None:
    data = plant(n_groups=12, length=10)
    folds = group_folds(data.groups, 3)
    plain, up, down = (
        compare_floor(data.X[:, :2], data.X, data.Y + shift * (folds == 1)[:, None], data.groups, folds, (form,), 8, PROBE).forms[form]
        for shift in (0.0, 7.0, -7.0)
    )
    held_out = np.unique(data.groups[folds == 1])
    for losses in ("floor_losses", "joint_losses"):
        one, more, less = (getattr(gain, losses) for gain in (plain, up, down))
        # the square of an error e moved by 7 and by -7 is e^2 + 49 on average, if and only if the prediction stayed
        np.testing.assert_allclose((more + less)[held_out] / 2 - one[held_out], 49 * 3 * 10, rtol=1e-9)
        assert np.abs(one - more)[np.unique(data.groups[folds != 1])].max() > 1.0


@pytest.mark.parametrize("form", ["linear", "random", "mlp"])
def test_labels_that_do_not_exist_are_not_looked_at(plant: Plant, form: Any) -> None:
    data = plant(n_groups=12, length=10)
    folds, mask = group_folds(data.groups, 3), np.random.default_rng(0).random((120, 3)) < 0.7
    one, other = (
        compare_floor(
            data.X[:, :2], data.X, np.where(mask, data.Y, junk), data.groups, folds, (form,), 8, PROBE, data.groups < 3, mask
        ).forms[form]
        for junk in (0.0, 50.0)
    )
    np.testing.assert_allclose(one.joint_losses, other.joint_losses, rtol=1e-6)
    assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-6)


def test_the_best_form_is_chosen_on_validation_rows_which_are_not_scored() -> None:
    rng = np.random.default_rng(0)
    floor, groups = rng.choice([-1.0, 1.0], size=(2400, 2)) + 0.1 * rng.normal(size=(2400, 2)), np.repeat(np.arange(120), 20)
    product, validation = floor[:, 0] * floor[:, 1], groups < 30
    hidden, folds = rng.normal(size=(2400, 3)), groups % 3
    comparison = compare_floor(hidden, floor, product, groups, folds, ("linear", "random"), 32, PROBE, validation)
    assert comparison.best == "random"
    assert len(comparison.forms["linear"].floor_losses) == 90
    hidden, floor, product = hidden[~validation], floor[~validation], product[~validation]
    folds, later = folds[~validation], groups[~validation]
    alone = compare_floor(hidden, floor, product, later, folds, ("linear", "random"), 32, PROBE)
    np.testing.assert_allclose(alone.forms["random"].joint_losses, comparison.forms["random"].joint_losses)
    with pytest.raises(ValueError, match="chosen on validation rows"):
        _ = alone.best
    with pytest.raises(ValueError, match="is split"):
        compare_floor(hidden, floor, product, later, folds, validation=np.arange(len(later)) < 30)


def test_blocks_keep_a_wide_floor_from_drowning_what_is_added() -> None:
    rng = np.random.default_rng(1)
    n, groups = 1200, np.repeat(np.arange(60), 20)
    floor, hidden = rng.normal(size=(n, 250)), rng.normal(size=(n, 4))
    Y, folds = hidden[:, 0] + 0.3 * rng.normal(size=n), group_folds(groups, 3)
    gain = compare_floor(hidden, floor, Y, groups, folds, ("linear",)).forms["linear"]
    flat = group_losses(Y, cross_fit(np.column_stack([floor, hidden]), Y, groups, folds).predictions, groups)
    assert gain.joint_losses.sum() < 0.9 * flat.sum()


def test_maps_of_random_and_learned_features(plant: Plant) -> None:
    data = plant(n_groups=12, length=30)
    folds = group_folds(data.groups, 3)
    product = data.Y[:, 0] * data.Y[:, 1]
    forms: tuple[FloorForm, ...] = ("random", "mlp")
    for form in forms:
        maps = fit_floor_maps(form, data.Y, product, data.groups, folds, units=32)
        fold = folds == 0
        lifted = np.column_stack([data.Y, maps[0].transform(data.Y)])
        probe = RidgeProbe(alphas=(1e-2,)).fit(lifted[~fold], product[~fold])
        assert r2(product[fold], probe.predict(lifted[fold]))[0] > 0.5
    with pytest.raises(ValueError, match="form must be one of linear, random, mlp; got 'cubic'"):
        fit_floor_maps("cubic", data.X, data.Y, data.groups, folds, units=8)  # type: ignore[arg-type]  # the point of the test
