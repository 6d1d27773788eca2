"""Random worlds keep to their knobs, and their many rewards tell the law."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from worldprobe.worlds import RandomConfig, RandomWorld, Unavailable, make_world, solve_mdp, solve_rewards


@settings(max_examples=20, deadline=None)
@given(
    n_states=st.integers(2, 12),
    n_actions=st.integers(1, 4),
    data=st.data(),
    concentration=st.sampled_from([0.1, 1.0, 50.0]),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_worlds_keep_to_their_knobs(
    n_states: int, n_actions: int, data: st.DataObject, concentration: float, noise: float, seed: int
) -> None:
    branching, n_looks = data.draw(st.integers(1, n_states)), data.draw(st.integers(1, n_states))
    config = RandomConfig(n_states, n_actions, branching, concentration, n_looks, noise, n_rewards=2, seed=seed)
    world = RandomWorld(config)
    followers = (world.tables.transition > 0).sum(-1)
    assert (followers <= branching).all()
    assert concentration < 1 or (followers == branching).all()
    looks = world.tables.observation.argmax(1).bincount(minlength=n_looks)
    if noise < 1:
        assert looks.max() - looks.min() <= 1
    right = (1 - noise) + noise / n_looks
    torch.testing.assert_close(world.tables.observation.amax(1), torch.full((n_states,), right, dtype=torch.float64))
    assert (world.n_actions, world.n_rewards, world.observation_size) == (n_actions, 2, n_looks)


@pytest.mark.parametrize("concentration", [0.2, 1.0, 8.0])
def test_successors_are_drawn_from_the_dirichlet_law(concentration: float) -> None:
    """Mean 1 / b and variance (b - 1) / (b^2 (b c + 1)) of a symmetric Dirichlet law of b classes."""
    b = 4
    world = RandomWorld(RandomConfig(n_states=120, n_actions=10, n_successors=b, concentration=concentration))
    drawn = world.tables.transition.sort(-1, descending=True).values[..., :b].flatten(0, 1)
    torch.testing.assert_close(drawn.sum(1), torch.ones(len(drawn), dtype=torch.float64))
    expected = (b - 1) / (b**2 * (b * concentration + 1))
    assert drawn.sub(1 / b).square().mean().item() == pytest.approx(expected, rel=0.08)


def test_rewards_are_standard_normal_and_the_same_whatever_their_number() -> None:
    many = RandomWorld(RandomConfig(n_states=50, n_rewards=40))
    assert many.reward_functions is not None
    numbers = many.reward_functions[..., 0].flatten()
    assert abs(numbers.mean().item()) < 5 / len(numbers) ** 0.5
    assert numbers.std().item() == pytest.approx(1, abs=0.05)
    few = RandomWorld(RandomConfig(n_states=50, n_rewards=3))
    assert torch.equal(few.tables.transition, many.tables.transition)
    assert few.reward_functions is not None
    assert torch.equal(few.reward_functions, many.reward_functions[:3])
    assert torch.equal(few.tables.reward, many.reward_functions[0])


def test_the_seed_decides_the_world() -> None:
    one, same, other = (RandomWorld(RandomConfig(seed=seed)).tables.transition for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def inverted(world: RandomWorld, n_rewards: int) -> torch.Tensor:
    """Return P as the values of the first rewards tell it: (Q_k(s, a) - r_k(s, a)) / gamma = sum_s' P(s' | s, a) V_k(s'), P >= 0."""
    assert world.reward_functions is not None
    q_values = solve_rewards(world.tables, world.reward_functions[:n_rewards], world.discount)
    values, mean_next = q_values.amax(2), (q_values - world.reward_functions[:n_rewards, ..., 0].transpose(1, 2)) / world.discount
    ones = 1e3 * torch.ones(1, world.tables.n_states, dtype=torch.float64)
    system = torch.cat([values, ones]).numpy()
    found = torch.zeros_like(world.tables.transition)
    for a in range(world.n_actions):
        for s in range(world.tables.n_states):
            target = torch.cat([mean_next[:, s, a], ones[0, :1]]).numpy()
            found[a, s] = torch.from_numpy(nnls(system, target)[0])
    return found


def test_one_reward_does_not_tell_the_law_and_many_do() -> None:
    """Letcher et al. 2026: Q* of enough reward functions determines the transitions."""
    world = RandomWorld(RandomConfig(n_rewards=20))
    errors = {k: (inverted(world, k) - world.tables.transition).abs().sum(-1).mean().item() / 2 for k in (1, 5, 20)}
    assert errors[1] > 0.8
    assert 0.3 < errors[5] < 0.7
    assert errors[20] < 1e-3


def test_values_of_every_reward_are_those_of_its_own_tables() -> None:
    world = RandomWorld(RandomConfig(n_states=6, n_actions=2, n_successors=2, n_rewards=3))
    assert world.reward_functions is not None
    q_values = solve_rewards(world.tables, world.reward_functions, 0.7)
    for number, reward in enumerate(world.reward_functions):
        backed_up = reward[..., 0].T + 0.7 * (world.tables.transition @ q_values[number].amax(1)).T
        torch.testing.assert_close(q_values[number], backed_up)
    assert torch.equal(q_values[0], solve_mdp(world.tables, 0.7).q_values)


def test_a_world_of_one_reward_says_so() -> None:
    world = make_world("tmaze")
    state = world.reset(2, torch.Generator())
    with pytest.raises(Unavailable, match="several reward functions"):
        world.rewards(state, torch.zeros(2, dtype=torch.int64), state)
    with pytest.raises(Unavailable, match="several reward functions"):
        world.reward_weights(state)


@pytest.mark.parametrize(
    "wrong", [{"n_states": 0}, {"concentration": 0.0}, {"observation_noise": 1.5}, {"n_successors": 21}, {"n_observations": 0}]
)
def test_senseless_knobs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected counts|must lie in"):
        replace(RandomConfig(), **wrong)  # type: ignore[arg-type]
