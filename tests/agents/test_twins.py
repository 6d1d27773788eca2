from __future__ import annotations

import itertools

import pytest
import torch

from worldprobe.agents import (
    NetworkConfig,
    RecurrentQNetwork,
    echo_state_twins,
    fresh_initialisations,
    make_network,
    untrained_twin,
    weight_noise_twins,
)
from worldprobe.worlds import make_world

WORLD, CONFIG = make_world("tmaze"), NetworkConfig(hidden_size=8, encoder_sizes=(6,))


def same_weights(a: RecurrentQNetwork, b: RecurrentQNetwork) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def moved(network: RecurrentQNetwork, amount: float) -> RecurrentQNetwork:
    """Return a stand-in for the trained network: every tensor moved by a norm of its own, one not at all."""
    trained = make_network(WORLD, network.config, seed=0, name="trained")
    with torch.no_grad():
        for index, parameter in enumerate(trained.parameters()):
            parameter.add_(amount * index)
    return trained


def test_the_untrained_twin_is_where_training_began() -> None:
    assert same_weights(untrained_twin(WORLD, CONFIG, seed=3), make_network(WORLD, CONFIG, seed=3))


def test_fresh_initialisations_are_all_different() -> None:
    twins = fresh_initialisations(WORLD, CONFIG, seed=0)
    assert len(twins) == 19
    assert len({twin.name for twin in twins}) == 19
    everyone = [*twins, untrained_twin(WORLD, CONFIG, seed=0)]
    assert not any(same_weights(a, b) for a, b in itertools.combinations(everyone, 2))
    assert same_weights(fresh_initialisations(WORLD, CONFIG, seed=0, n=3)[2], twins[2])


def test_weight_noise_moves_every_tensor_as_far_as_training_did() -> None:
    initial = make_network(WORLD, CONFIG, seed=0)
    trained = moved(initial, 0.1)
    kept = [parameter.clone() for parameter in initial.parameters()]
    twins = weight_noise_twins(initial, trained, seed=0)
    assert len(twins) == 19
    for twin in twins:
        for before, noisy, after in zip(initial.parameters(), twin.parameters(), trained.parameters(), strict=True):
            torch.testing.assert_close((noisy - before).norm(), (after - before).norm(), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(kept, initial.parameters(), strict=True))
    directions = torch.stack([torch.cat([(a - b).flatten() for a, b in zip(twin.parameters(), kept, strict=True)]) for twin in twins])
    cosines = torch.corrcoef(directions.detach())
    assert cosines[~torch.eye(19, dtype=torch.bool)].abs().max() < 0.3


def test_weight_noise_needs_one_network() -> None:
    other = make_network(WORLD, NetworkConfig(hidden_size=9), seed=0)
    with pytest.raises(ValueError, match="one network before and after"):
        weight_noise_twins(make_network(WORLD, CONFIG, seed=0), other, seed=0)


@pytest.mark.parametrize("core", ["lstm", "gru", "rnn"])
def test_echo_states_have_the_spectral_radius(core: str) -> None:
    twins = echo_state_twins(WORLD, NetworkConfig(core=core, hidden_size=8, n_layers=2), seed=0, gains=(0.5, 1.1))
    for twin, gain in zip(twins, (0.5, 1.1), strict=True):
        for matrix in twin.core.recurrent_matrices():
            assert torch.linalg.eigvals(matrix.detach()).abs().max().item() == pytest.approx(gain, rel=1e-4)
    assert torch.equal(*(next(twin.head.parameters()) for twin in twins))


def test_echo_states_need_positive_gains() -> None:
    with pytest.raises(ValueError, match="positive gains"):
        echo_state_twins(WORLD, CONFIG, seed=0, gains=(0.0,))


@pytest.mark.parametrize("core", ["lru", "mingru", "feedforward"])
def test_cores_without_recurrent_matrices_have_no_echo_states(core: str) -> None:
    assert echo_state_twins(WORLD, NetworkConfig(core=core, hidden_size=8), seed=0) == []
