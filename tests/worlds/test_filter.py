"""The exact filter: brute force on random worlds, impossible histories, the end of an episode."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.worlds import FiniteWorld, TMaze, check_channels

CHANNEL_SETS = [frozenset({"action", *more}) for more in ((), ("observation",), ("reward",), ("observation", "reward"))]


def posterior(
    world: FiniteWorld, channels: frozenset[str], seen: list[int], actions: list[int], rewards: list[float], ended: bool
) -> Tensor:
    """Enumerate every sequence of states, whether possible or not, and sum the probabilities of those that fit."""
    tables = world.tables
    total = torch.zeros(tables.n_states, dtype=torch.float64)
    for path in itertools.product(range(tables.n_states), repeat=len(seen)):
        weight = float(tables.initial[path[0]])
        if "observation" in channels:
            weight *= float(tables.observation[list(path), seen].prod())
        for t, (s, following) in enumerate(itertools.pairwise(path)):
            weight *= float(tables.transition[actions[t], s, following])
            weight *= "reward" not in channels or float(tables.reward[actions[t], s, following]) == rewards[t]
            weight *= bool(tables.terminal[following]) == (ended and t == len(actions) - 1)
        total[path[-1]] += weight
    return total / total.sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_filter_is_the_posterior_in_random_worlds(random_world: Callable[[int], FiniteWorld], seed: int) -> None:
    world, generator = random_world(seed), torch.Generator().manual_seed(seed)
    state = world.reset(1, generator)
    first = world.observe(state, generator)
    for channels in CHANNEL_SETS:
        belief_filter, now = world.belief_filter(channels), state
        belief = belief_filter.start(first, generator)
        seen, actions, rewards = [int(first.argmax())], list[int](), list[float]()
        for _ in range(3):
            action = torch.randint(2, (1,), generator=generator)
            now, reward, terminated = world.step(now, action, generator)
            observation = world.observe(now, generator)
            belief = belief_filter.update(belief, action, reward, observation, terminated, generator)
            seen, actions, rewards = [*seen, int(observation.argmax())], [*actions, int(action)], [*rewards, float(reward)]
            expected = posterior(world, channels, seen, actions, rewards, bool(terminated))
            torch.testing.assert_close(belief["state"][0], expected, rtol=0, atol=1e-12)
            if terminated:
                break


def one_step(world: FiniteWorld, channels: frozenset[str], **changed: Tensor) -> Tensor:
    """Filter: shown "up", went right, was paid nothing, saw the corridor."""
    generator = torch.Generator()
    told = {
        "action": torch.tensor([0]),
        "reward": torch.tensor([0.0]),
        "observation": torch.tensor([[0.0, 0.0, 1.0, 0.0]]),
        "terminated": torch.tensor([False]),
        **changed,
    }
    belief_filter = world.belief_filter(channels)
    start = belief_filter.start(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), generator)
    return belief_filter.update(start, generator=generator, **told)["state"]


ALL = frozenset({"observation", "action", "reward"})


def test_goal_and_position_are_known_after_a_sure_step() -> None:
    belief = one_step(TMaze(length=3, stochasticity=0.2), ALL)
    assert belief[0].nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observation": torch.tensor([[0.0, 0.0, 0.0, 1.0]])}, "probability zero"),
        ({"observation": torch.tensor([[0.0, 1.0, 0.0, 0.0]])}, "probability zero"),
        ({"reward": torch.tensor([4.0])}, "probability zero"),
        ({"terminated": torch.tensor([True])}, "probability zero"),
        ({"reward": torch.tensor([0.5])}, r"reward 0.5 is none of those this world pays \(\[-0.1, 0.0, 4.0\]\)"),
        ({"reward": torch.tensor([float("nan")])}, "none of those this world pays"),
    ],
)
def test_impossible_histories_are_errors(changed: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_step(TMaze(length=3), ALL, **changed)


def test_what_is_no_channel_is_not_read() -> None:
    world = TMaze(length=3)
    nonsense = torch.full((1, 4), float("nan"))
    for channels in CHANNEL_SETS:
        plain = one_step(world, channels)
        if "observation" not in channels:
            assert torch.equal(one_step(world, channels, observation=nonsense), plain)
        if "reward" not in channels:
            assert torch.equal(one_step(world, channels, reward=torch.tensor([float("nan")])), plain)


def test_reward_tells_whether_the_agent_moved() -> None:
    """Without sight, the bump of -0.1 is all that separates the first cell from the second."""
    world = TMaze(length=3, stochasticity=0.2)
    bumped = one_step(world, frozenset({"action", "reward"}), reward=torch.tensor([-0.1]))
    moved = one_step(world, frozenset({"action", "reward"}))
    blind = one_step(world, frozenset({"action"}))
    assert bumped[0, [0, 6]].sum() == 1
    assert moved[0, [1, 7]].sum() == 1
    assert blind[0, [1, 7]].sum() == pytest.approx(0.85)


@pytest.mark.parametrize("channels", CHANNEL_SETS, ids=lambda channels: "+".join(sorted(channels)))
def test_mass_is_on_terminal_states_exactly_when_the_episode_is_over(channels: frozenset[str]) -> None:
    world, generator = TMaze(length=1, stochasticity=0.5), torch.Generator().manual_seed(0)
    n = 300
    belief_filter, state = world.belief_filter(channels), world.reset(n, generator)
    belief = belief_filter.start(world.observe(state, generator), generator)
    ended = torch.zeros(n, dtype=torch.bool)
    for _ in range(8):
        action = torch.randint(4, (n,), generator=generator)
        state, reward, ended = world.step(state, action, generator)
        belief = belief_filter.update(belief, action, reward, world.observe(state, generator), ended, generator)
        torch.testing.assert_close(belief["state"][:, world.tables.terminal].sum(1), ended.double())
    assert 0 < ended.sum() < n
    assert (belief["state"].gather(1, state["state"].unsqueeze(1)) > 0).all()


@pytest.mark.parametrize("channels", [{"observation"}, {"action", "smell"}, set()])
def test_illegal_channels_are_refused(channels: set[str]) -> None:
    with pytest.raises(ValueError, match="channels must be a subset"):
        check_channels(frozenset(channels))
