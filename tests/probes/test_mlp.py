from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldprobe.probes import LogisticProbe, MLPProbe, RidgeProbe, bits_per_label, r2
from worldprobe.probes._criteria import LogLoss, SquaredError
from worldprobe.probes._network import BatchedNetwork, Job

Plant = Callable[..., SimpleNamespace]
Xor = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


@pytest.fixture(scope="module")
def xor() -> Xor:
    """A goal bit that is the product of two signs, mixed into eight units: no linear map finds it."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(3000, 2))
    X = signs @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(3000, 8))
    return X, (signs.prod(axis=1) > 0).astype(np.int64), np.repeat(np.arange(100), 30)


def test_xor_code_is_found_by_the_mlp_only(xor: Xor) -> None:
    X, bit, groups = xor
    train = groups < 70
    one_hot = np.eye(2)[bit]
    assert np.all(r2(one_hot[~train], RidgeProbe().fit(X[train], one_hot[train], groups[train]).predict(X[~train])) < 0.02)
    assert np.all(r2(one_hot[~train], MLPProbe().fit(X[train], one_hot[train], groups[train]).predict(X[~train])) > 0.95)
    linear = LogisticProbe().fit(X[train], bit[train], groups[train]).predict_proba(X[~train])
    mlp = MLPProbe(loss="log").fit(X[train], bit[train], groups[train]).predict_proba(X[~train])
    assert bits_per_label(bit[~train], linear) > 0.98
    assert bits_per_label(bit[~train], mlp) < 0.05


def test_clipped_mass_is_what_the_floor_added(xor: Xor) -> None:
    X, bit, groups = xor
    probe = MLPProbe(loss="log").fit(X, np.column_stack([bit, X[:, 0] > 0]), groups)
    far = 50 * X
    for mass, p in zip(probe.clipped_mass(far), probe.predict_proba(far), strict=True):
        least = p.min(axis=1)
        floored = least < 1.001e-6
        assert 0 < mass <= 1e-6 * floored.mean() + 1e-12
        assert mass == pytest.approx(1e-6 * floored.mean(), rel=0.2)
    assert not hasattr(MLPProbe(), "clipped_mass")


def test_equal_seeds_give_equal_bits_and_others_do_not(xor: Xor) -> None:
    X, bit, groups = xor
    first, second, other = (MLPProbe(max_epochs=3, random_state=seed).fit(X, bit, groups).predict(X) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_global_random_state_is_neither_read_nor_moved(xor: Xor) -> None:
    X, bit, groups = xor
    torch.manual_seed(0)
    first = MLPProbe(max_epochs=2).fit(X, bit, groups).predict(X)
    state = torch.get_rng_state()
    second = MLPProbe(max_epochs=2).fit(X, bit, groups).predict(X)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(first, second)


def test_noise_is_not_learned(plant: Plant) -> None:
    data = plant(n_groups=150, length=20)
    noise = np.random.default_rng(1).normal(size=(3000, 2))
    train = data.groups < 100
    probe = MLPProbe().fit(data.X[train], noise[train], groups=data.groups[train])
    assert np.all(r2(noise[~train], probe.predict(data.X[~train])) > -0.04)


def test_training_stops_by_whole_groups() -> None:
    """Within a group all rows are equal, so a network that stops by rows of groups it trains on learns each group by heart."""
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(40, 20)).repeat(10, axis=0), rng.normal(size=40).repeat(10), np.arange(40).repeat(10)
    by_group, by_row = (MLPProbe().fit(X, y, groups=labels) for labels in (groups, np.arange(400)))
    assert by_row.score(X, y) > 0.95
    assert by_group.score(X, y) < 0.7


def test_predictions_are_linear_in_the_learned_features(plant: Plant) -> None:
    data = plant()
    probe = MLPProbe(hidden=(32, 8), max_epochs=5, shared=True).fit(data.X, data.Y, groups=data.groups)
    features = probe.transform(data.X)
    assert features.shape == (len(data.X), 8)
    assert features.min() == 0
    design = np.column_stack([features, np.ones(len(features))])
    fitted = design @ np.linalg.lstsq(design, probe.predict(data.X))[0]
    np.testing.assert_allclose(fitted, probe.predict(data.X), atol=1e-4)


def test_masked_labels_are_not_looked_at(plant: Plant) -> None:
    data = plant(n_groups=10, length=10)
    mask = np.random.default_rng(0).random(data.Y.shape) < 0.6
    one, other = (
        MLPProbe(max_epochs=3).fit(data.X, np.where(mask, data.Y, junk), data.groups, mask).predict(data.X) for junk in (0.0, 1e3)
    )
    assert np.array_equal(one, other)


def test_folds_trained_side_by_side_have_not_seen_their_fold(plant: Plant) -> None:
    data = plant(n_groups=12, length=10)
    folds = data.groups % 3
    probes = MLPProbe(max_epochs=4).fit_folds(data.X, data.Y, folds, data.groups)
    changed = np.where(folds[:, None] == 1, -data.Y, data.Y)
    again = MLPProbe(max_epochs=4).fit_folds(data.X, changed, folds, data.groups)
    assert np.array_equal(probes[1].predict(data.X), again[1].predict(data.X))
    assert not np.array_equal(probes[0].predict(data.X), again[0].predict(data.X))


def test_a_member_of_a_stack_is_the_network_trained_alone(plant: Plant) -> None:
    data = plant(n_groups=12, length=10, noise=0.1)
    folds = data.groups % 3
    together = MLPProbe(max_epochs=3, batch_size=16).fit_folds(data.X, data.Y, folds, data.groups)[0]
    rows = folds != 0
    alone = MLPProbe(max_epochs=3, batch_size=16).fit(data.X[rows], data.Y[rows], data.groups[rows])
    np.testing.assert_allclose(together.predict(data.X), alone.predict(data.X), atol=1e-3)


def test_squared_error_is_the_mean_over_labels_in_units_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    X, Y, mask = np.zeros((30, 1)), rng.normal(size=(30, 2)) * [1, 50] + 3, rng.random((30, 2)) < 0.7
    train = np.arange(20)
    criterion, _ = SquaredError.of(X, Y, mask, [train])
    rows, outputs = np.arange(15, 25), rng.normal(size=(10, 2))
    units = [(Y[:20, j][mask[:20, j]].mean(), Y[:20, j][mask[:20, j]].std()) for j in range(2)]
    errors = [(outputs[i, j] - (Y[r, j] - units[j][0]) / units[j][1]) ** 2 for i, r in enumerate(rows) for j in range(2) if mask[r, j]]
    loss = criterion.losses(torch.tensor(outputs)[None, None, :, :, None], torch.tensor(rows)[None], torch.tensor([[0, 1]]), slice(None))
    assert float(loss) == pytest.approx(np.mean(errors), rel=1e-5)


def test_log_loss_is_the_mean_over_labels_of_all_heads() -> None:
    rng = np.random.default_rng(0)
    Y, mask = np.column_stack([rng.integers(2, size=30), rng.integers(3, size=30)]), rng.random((30, 2)) < 0.7
    criterion, _ = LogLoss.of(np.zeros((30, 1)), Y, mask, [np.arange(30)])
    outputs = rng.normal(size=(30, 2, 3))
    losses = []
    for row in range(30):
        for head, logits in enumerate((outputs[row, 0, :2], outputs[row, 1])):
            if mask[row, head]:
                losses.append(np.log(np.exp(logits).sum()) - logits[Y[row, head]])
    loss = criterion.losses(torch.tensor(outputs)[None, None], torch.arange(30)[None], torch.tensor([[0, 1]]), slice(None))
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-6)


def test_what_cannot_be_fitted_is_refused_by_name(plant: Plant) -> None:
    data = plant(n_groups=6, length=5)
    with pytest.raises(ValueError, match="at least 2 groups are needed; got 1"):
        MLPProbe().fit(data.X, data.Y, groups=np.zeros(30))
    with pytest.raises(ValueError, match="every target is constant"):
        MLPProbe().fit(data.X, np.ones(30))
    with pytest.raises(ValueError, match="left with one class"):
        MLPProbe(loss="log").fit(data.X, np.ones(30, np.int64))
    with pytest.raises(ValueError, match="loss must be one of squared, log; got 'brier'"):
        MLPProbe(loss="brier").fit(data.X, data.Y)  # type: ignore[arg-type]  # the point of the test


def test_a_head_among_others_is_the_head_alone(plant: Plant) -> None:
    data = plant(n_groups=12, length=10, noise=0.1)
    probe = MLPProbe(hidden=(16,), max_epochs=4).fit(data.X, data.Y, data.groups)
    for column in range(3):
        alone = MLPProbe(hidden=(16,), max_epochs=4).fit(data.X, data.Y[:, column], data.groups)
        np.testing.assert_allclose(probe.predict(data.X)[:, column], alone.predict(data.X), atol=1e-3)
        assert probe.validation_losses_[0, column] == pytest.approx(alone.validation_losses_[0, 0], rel=1e-4)


def test_every_head_stops_for_itself(plant: Plant) -> None:
    data = plant(n_groups=60, length=10, noise=0.01)
    Y = np.column_stack([data.Y[:, 0], np.random.default_rng(0).normal(size=len(data.X))])
    probe = MLPProbe(max_epochs=12, patience=3).fit(data.X, Y, data.groups)
    assert probe.n_epochs_[0] > probe.n_epochs_[1] + 4
    assert probe.n_epochs_.shape == probe.chosen_.shape == (2,)


@pytest.mark.parametrize("loss", ["squared", "log"])
def test_a_padded_architecture_is_the_network_alone(plant: Plant, loss: str) -> None:
    data = plant(n_groups=12, length=10, noise=0.1)
    Y = data.Y[:, :2] if loss == "squared" else np.column_stack([data.labels, data.labels > 0])
    several = MLPProbe(hidden=((4,), (16, 8), (24,)), loss=loss, max_epochs=4, n_seeds=2).fit(data.X, Y, data.groups)  # type: ignore[arg-type]
    assert several.validation_losses_.shape == (6, 2)
    assert np.array_equal(several.chosen_, several.validation_losses_.argmin(axis=0))
    for place, hidden in enumerate(((4,), (16, 8), (24,))):
        alone = MLPProbe(hidden=hidden, loss=loss, max_epochs=4).fit(data.X, Y, data.groups)  # type: ignore[arg-type]
        np.testing.assert_allclose(several.validation_losses_[2 * place], alone.validation_losses_[0], rtol=1e-3)
        for column in np.flatnonzero(several.chosen_ == 2 * place):
            np.testing.assert_allclose(several._networks[column].weights[-1][: hidden[-1]], alone._networks[column].weights[-1], atol=1e-3)


def test_no_gradient_reaches_the_padding() -> None:
    jobs = [Job((0,), (3, 2), 0), Job((1,), (6, 5), 0)]
    network = BatchedNetwork((torch.zeros(1, 1, 4), torch.ones(1, 1, 4)), jobs, torch.zeros(1, 2, 1, 1), [0])
    X, y = torch.randn(1, 40, 4), torch.randn(1, 1, 40, 1, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.05)
    for _ in range(5):
        optimiser.zero_grad()
        torch.autograd.backward((network.outputs(X) - y).square().mean())
        optimiser.step()
    first, second, last, *biases = (part[0, 0] for part in network.members())
    assert torch.all(first[:, 3:] == 0)
    assert torch.all(second[3:] == 0)
    assert torch.all(second[:, 2:] == 0)
    assert torch.all(last[2:] == 0)
    assert torch.any(last[:2] != 0)
    assert torch.all(biases[0][:, 3:] == 0)


@pytest.mark.parametrize("loss", ["squared", "log"])
def test_batches_teach_what_all_rows_teach(plant: Plant, loss: str) -> None:
    data = plant(n_groups=60, length=20, noise=0.2)
    Y = data.Y if loss == "squared" else np.column_stack([data.labels, data.labels > 0])
    cuts = np.split(np.arange(1200), [300, 310, 800])
    settings: dict[str, Any] = {"loss": loss, "max_epochs": 25, "batch_size": 64}
    streamed, again = (
        MLPProbe(**settings).fit_batches(lambda: ((data.X[rows], Y[rows], data.groups[rows]) for rows in cuts)) for _ in range(2)
    )
    whole = MLPProbe(**settings).fit(data.X, Y, data.groups)
    assert np.array_equal(streamed.predict(data.X), again.predict(data.X))
    assert streamed.score(data.X, Y) == pytest.approx(whole.score(data.X, Y), abs=0.05)
    with pytest.raises(ValueError, match="reads its batches several times, but a generator gives them once"):
        MLPProbe(**settings).fit_batches((data.X[rows], Y[rows], data.groups[rows]) for rows in cuts)
    with pytest.raises(ValueError, match="at least 2 groups"):
        MLPProbe(**settings).fit_batches([(data.X, Y, np.zeros(1200))])
