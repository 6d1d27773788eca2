"""Replayed sequences: what is in them, with which state they begin, and how often they are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import Actor, NetworkConfig, RecurrentQNetwork, Rollout, make_network, seeded_generator
from worldprobe.agents._sequence_replay import PER_STEP, SequenceReplay, draw_by_mass
from worldprobe.worlds import World

N_ENVS, N_STEPS, N_BLOCKS = 3, 4, 3


@pytest.fixture
def lived(corridor: Callable[..., World]) -> tuple[RecurrentQNetwork, list[Rollout]]:
    """Return a network and seven rollouts that follow each other."""
    network = make_network(corridor(), NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,)), seed=0)
    actor = Actor(network, corridor().driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    return network, [actor.collect(N_STEPS, 0.5) for _ in range(7)]


def filled(rollouts: list[Rollout], capacity: int, exponent: float = 1.0) -> SequenceReplay:
    replay = SequenceReplay(capacity, N_BLOCKS, exponent)
    for rollout in rollouts:
        replay.add(rollout)
    return replay


@pytest.mark.parametrize("capacity", [3, 4, 7, 20])
def test_sequences_are_stretches_of_one_environment(lived: tuple[RecurrentQNetwork, list[Rollout]], capacity: int) -> None:
    """Every sequence that is drawn is one of those that were lived, and all that fit are drawn."""
    _, rollouts = lived
    replay = filled(rollouts, capacity)
    first = len(rollouts) - min(capacity, len(rollouts))
    begins = range(first, len(rollouts) - N_BLOCKS + 1)
    assert len(replay) == N_ENVS * len(begins)
    sample = replay.sample(400, torch.Generator().manual_seed(0))
    seen = set()
    for row in range(400):
        matches = [
            (block, env)
            for block in begins
            for env in range(N_ENVS)
            if all(
                torch.equal(
                    getattr(sample.rollout, name)[row], torch.cat([getattr(each, name)[env] for each in rollouts[block : block + 3]])
                )
                for name in PER_STEP
            )
        ]
        assert len(matches) == 1
        block, env = matches[0]
        assert torch.equal(sample.rollout.core_state[row], rollouts[block].core_state[env])
        seen.add(matches[0])
    assert len(seen) == len(replay)


def test_the_stored_state_is_the_one_before_the_first_input(lived: tuple[RecurrentQNetwork, list[Rollout]]) -> None:
    """Running the network from it over the sequence, resets inside included, arrives at the state stored with the next rollout."""
    network, rollouts = lived
    sample = filled(rollouts, 20).sample(30, torch.Generator().manual_seed(0)).rollout
    reset = torch.zeros_like(sample.ended)
    reset[:, 1:] = sample.ended[:, :-1]
    assert reset[:, 1:].any()
    for row in range(30):
        q_stepped, state = [], sample.core_state[row : row + 1]
        for t in range(N_BLOCKS * N_STEPS):
            q, state = network.step(sample.inputs[row : row + 1, t], state, reset[row : row + 1, t])
            q_stepped.append(q)
            if (t + 1) % N_STEPS == 0 and t + 1 < N_BLOCKS * N_STEPS:
                follows = [
                    each.core_state[env]
                    for each in rollouts
                    for env in range(N_ENVS)
                    if torch.equal(each.inputs[env], sample.inputs[row, t + 1 : t + 1 + N_STEPS])
                ]
                goes_on = state[0].masked_fill(sample.ended[row, t], 0.0)
                assert any(torch.allclose(goes_on, each, atol=1e-6) for each in follows)


def test_sequences_are_drawn_by_priority(lived: tuple[RecurrentQNetwork, list[Rollout]]) -> None:
    _, rollouts = lived
    replay = filled(rollouts[:4], 4, exponent=0.5)
    assert len(replay) == 6
    everything = torch.unique(replay.sample(1000, torch.Generator().manual_seed(0)).index)
    replay.set_priorities(everything, torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0, 36.0]))
    expected = torch.tensor([1, 2, 3, 4, 5, 6]) / 21
    sample = replay.sample(20_000, torch.Generator().manual_seed(1))
    counts = Counter(sample.index.tolist())
    for index, share in zip(everything.tolist(), expected.tolist(), strict=True):
        assert counts[index] / 20_000 == pytest.approx(share, abs=0.015)  # four standard errors
        probability = sample.probability[sample.index == index]
        assert probability.tolist() == pytest.approx([share] * len(probability))


def test_new_sequences_have_the_highest_priority(lived: tuple[RecurrentQNetwork, list[Rollout]]) -> None:
    _, rollouts = lived
    replay = filled(rollouts[:3], 7)
    old = torch.unique(replay.sample(100, torch.Generator().manual_seed(0)).index)
    replay.set_priorities(old, torch.tensor([0.5, 3.0, 1.0]))
    replay.add(rollouts[3])
    sample = replay.sample(1000, torch.Generator().manual_seed(0))
    fresh = ~torch.isin(sample.index, old)
    torch.testing.assert_close(sample.probability[fresh], torch.full((int(fresh.sum()),), 3.0 / 13.5, dtype=torch.float64))


def test_a_replay_goes_on_bit_for_bit(lived: tuple[RecurrentQNetwork, list[Rollout]]) -> None:
    _, rollouts = lived
    for n_before in (0, 1, 3, 6):
        replay, other = filled(rollouts[:n_before], 4), SequenceReplay(4, N_BLOCKS, 1.0)
        other.load_state_dict({name: value.clone() for name, value in replay.state_dict().items()})
        for each in (replay, other):
            for rollout in rollouts[n_before:]:
                each.add(rollout)
        samples = [each.sample(50, torch.Generator().manual_seed(0)) for each in (replay, other)]
        assert torch.equal(samples[0].index, samples[1].index)
        assert torch.equal(samples[0].rollout.inputs, samples[1].rollout.inputs)
        assert torch.equal(samples[0].rollout.core_state, samples[1].rollout.core_state)


def test_nothing_is_drawn_before_a_sequence_is_whole(lived: tuple[RecurrentQNetwork, list[Rollout]]) -> None:
    _, rollouts = lived
    with pytest.raises(ValueError, match="no sequence is whole yet"):
        filled(rollouts[:2], 5).sample(1, torch.Generator())
    with pytest.raises(ValueError, match="a replay of 2 rollouts holds no sequence of 3"):
        SequenceReplay(2, 3, 1.0)


def searched(mass: list[float], uniform: float) -> int:
    """Walk along the masses until the number is used up."""
    left = uniform * sum(mass)
    for index, each in enumerate(mass):
        left -= each
        if left < 0:
            return index
    raise AssertionError


def test_drawing_by_mass_is_walking_along_the_masses() -> None:
    mass = [0.0, 0.25, 0.0, 0.5, 1.25, 0.0]
    uniform = torch.linspace(0, 1, 129, dtype=torch.float64)[:-1]
    assert draw_by_mass(torch.tensor(mass, dtype=torch.float64), uniform).tolist() == [searched(mass, each) for each in uniform.tolist()]


def test_nothing_without_mass_is_ever_drawn() -> None:
    """Also at the very ends, where rounding could reach beyond the last mass."""
    masses: Tensor = torch.tensor([0.0, 0.1, 0.0, 0.2, 0.0], dtype=torch.float64)
    edge = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw_by_mass(masses, edge).tolist() == [1, 3]
