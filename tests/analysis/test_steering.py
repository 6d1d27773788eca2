"""Steering moves an agent that uses a belief as another belief would, and nobody else; controls move nobody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.activations import CommonBehaviour, record
from worldprobe.agents import PLANTED, EditableAgent
from worldprobe.analysis import Labels, Steering, Stream, exchange_classes, find_decisions, steer
from worldprobe.worlds import MemoryChain, TMaze, Unavailable, World, finite_core

CHANNELS = frozenset({"observation", "action"})
WORLDS: dict[str, tuple[World, str]] = {"memory chain": (MemoryChain(length=5), "cue"), "T-Maze": (TMaze(length=3), "goal")}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stream]:
    found = {}
    for name, (world, _) in WORLDS.items():
        folder = tmp_path_factory.mktemp("streams")
        recording = record(None, world, folder / "common.wpr", CommonBehaviour(world), n_episodes=400, seed=0, n_envs=64)
        found[name] = Stream(world, recording, Labels(world.factors))
    return found


def planted(name: str, world: World) -> EditableAgent:
    agent = PLANTED[name](world, CHANNELS, 7)
    assert isinstance(agent, EditableAgent)
    return agent


def steered(streams: dict[str, Stream], name: str, agent: str) -> Steering:
    world, factor = WORLDS[name]
    return steer(planted(agent, world), streams[name], factor)


@pytest.mark.parametrize("name", WORLDS)
def test_a_belief_agent_acts_as_the_changed_belief_asks_and_earns_what_that_is_worth(name: str, streams: dict[str, Stream]) -> None:
    found = steered(streams, name, "belief")
    assert found.success["steered"].lower >= 0.95
    assert found.success["untouched"].estimate == 0.0
    assert found.success["swapped"].lower >= 0.95
    assert min(excess.lower for excess in found.excess.values()) > 0.5
    assert found.choice.scale == 1.0
    assert found.advantage[1] == pytest.approx(-found.advantage[0], abs=1e-4)  # the values of the two classes are exchanged
    assert found.returns["steered"] == found.returns["changed belief"] < found.returns["belief"] == found.returns["untouched"]


@pytest.mark.parametrize("name", WORLDS)
def test_what_is_carried_in_code_is_swapped_but_not_steered_linearly(name: str, streams: dict[str, Stream]) -> None:
    found = steered(streams, name, "coded belief")
    assert found.success["steered"].upper < 0.1
    assert found.success["swapped"].lower >= 0.95


@pytest.mark.parametrize("agent", ["memoryless", "reservoir"])
@pytest.mark.parametrize("name", WORLDS)
def test_agents_that_do_not_use_the_factor_are_not_steered(name: str, agent: str, streams: dict[str, Stream]) -> None:
    found = steered(streams, name, agent)
    assert all(excess.lower <= 0.02 for excess in found.excess.values())


def test_agents_without_a_state_and_factors_that_decide_nothing_are_refused_in_words(streams: dict[str, Stream]) -> None:
    maze = WORLDS["T-Maze"][0]
    with pytest.raises(ValueError, match="carries nothing that can be edited"):
        steer(planted("clock", maze), streams["T-Maze"], "goal")
    with pytest.raises(ValueError, match="0 validation episodes have a step where another position would ask for another action"):
        steer(planted("belief", maze), streams["T-Maze"], "position")


@pytest.mark.parametrize("name", WORLDS)
def test_decisions_ask_for_different_actions_and_agree_with_what_is_seen(name: str, streams: dict[str, Stream]) -> None:
    world, factor = WORLDS[name]
    found, tables = find_decisions(streams[name], factor), finite_core(world).tables
    assert len(found) > 60
    assert not np.any(found.asked & found.wanted)
    assert found.asked.any(axis=1).all()
    assert found.wanted.any(axis=1).all()
    np.testing.assert_allclose(found.changed.sum(axis=1), 1.0)
    seen = streams[name].recording["observation"][:][found.rows] @ tables.observation.numpy().T
    assert ((seen > 0) * found.changed).sum(axis=1).min() >= 0.99
    classes = finite_core(world).class_maps[factor].numpy()
    likeliest = (found.changed @ np.eye(classes.max() + 1)[classes]).argmax(axis=1)
    np.testing.assert_array_equal(likeliest, found.other)
    assert np.all(found.present != found.other)


@given(st.integers(2, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_exchanging_classes_twice_is_nothing_and_leaves_other_factors(n_goals: int, n_places: int, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(n_goals * n_places)
    goal, place = order // n_places, order % n_places
    partner, exists = exchange_classes({"goal": goal, "place": place, "state": order}, "goal", 0, 1)
    assert exists.all()
    np.testing.assert_array_equal(partner[partner], np.arange(len(order)))
    np.testing.assert_array_equal(place[partner], place)
    np.testing.assert_array_equal(goal[partner], np.where(goal < 2, 1 - goal, goal))


def test_states_without_a_partner_and_states_that_factors_do_not_tell_apart() -> None:
    goal, place = np.array([0, 0, 1]), np.array([0, 1, 0])
    assert exchange_classes({"goal": goal, "place": place}, "goal", 0, 1)[1].tolist() == [True, False, True]
    with pytest.raises(Unavailable, match="states that differ have the same factors"):
        exchange_classes({"goal": np.array([0, 0, 1])}, "goal", 0, 1)
