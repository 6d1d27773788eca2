"""What every agent owes to whoever steps, records or forks it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import CORES, PLANTED, Actor, Agent, NetworkConfig, make_network, seeded_generator
from worldprobe.worlds import World, make_world

CHANNELS = frozenset({"observation", "action", "reward"})
T, N = 12, 6


def network(core: str) -> Callable[[World], Agent]:
    config = NetworkConfig(core=core, hidden_size=8, n_layers=2, encoder_sizes=(7, 6), channels=tuple(sorted(CHANNELS)))
    return lambda world: make_network(world, config, seed=0)


def planted(name: str) -> Callable[[World], Agent]:
    return lambda world: PLANTED[name](world, CHANNELS, 0)


AGENTS: dict[str, Callable[[World], Agent]] = {core: network(core) for core in CORES if core != "drc"} | {
    name: planted(name) for name in PLANTED
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("tmaze")


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest, world: World) -> Agent:
    return AGENTS[request.param](world)


def stretch(agent: Agent, world: World) -> Tensor:
    """Return inputs (T, N, input_size) of unbroken, lived stretches from the start of an episode."""
    driver = world.driver(200, seeded_generator(0, "driver"))
    rollout = Actor(agent, driver, seeded_generator(0, "exploration")).collect(T, epsilon=1.0)
    unbroken = (~rollout.ended[:, :-1]).all(1).nonzero().flatten()[:N]
    assert len(unbroken) == N
    return rollout.inputs[unbroken].transpose(0, 1)


def test_it_is_an_agent(agent: Agent, world: World) -> None:
    assert isinstance(agent, Agent)
    assert agent.channels == CHANNELS
    assert agent.n_actions == world.n_actions
    assert {"core.h", "q"} <= agent.sites.keys()
    assert "core.state" not in agent.sites
    assert agent.sites["q"] == world.n_actions


def test_shapes_and_types(agent: Agent, world: World) -> None:
    inputs, state = stretch(agent, world), agent.initial_state(N)
    assert state.shape == (N, agent.state_size)
    assert state.dtype == torch.float32
    q, after = agent.step(inputs[0], state, torch.ones(N, dtype=torch.bool))
    assert (q.shape, q.dtype) == ((N, agent.n_actions), torch.float32)
    assert (after.shape, after.dtype) == (state.shape, torch.float32)
    sites = agent.activations(inputs, state)
    expected = {**agent.sites, "core.state": agent.state_size}
    assert {name: values.shape for name, values in sites.items()} == {name: (T, N, width) for name, width in expected.items()}
    assert all(values.dtype == torch.float32 and not values.requires_grad and values.isfinite().all() for values in sites.values())


def test_steps_give_what_activations_give(agent: Agent, world: World) -> None:
    inputs, state = stretch(agent, world), agent.initial_state(N)
    sites = agent.activations(inputs, state)
    for t in range(T):
        q, state = agent.step(inputs[t], state, torch.zeros(N, dtype=torch.bool))
        torch.testing.assert_close(q, sites["q"][t], atol=1e-5, rtol=0)
        torch.testing.assert_close(state, sites["core.state"][t], atol=1e-5, rtol=0)


def test_a_stretch_can_be_cut_anywhere(agent: Agent, world: World) -> None:
    """The core state is all there is to know: forks go on from it."""
    inputs, state = stretch(agent, world), agent.initial_state(N)
    whole = agent.activations(inputs, state)
    rest = agent.activations(inputs[5:], whole["core.state"][4])
    for name, values in rest.items():
        torch.testing.assert_close(values, whole[name][5:], atol=1e-5, rtol=0)


def test_rows_do_not_touch_each_other(agent: Agent, world: World) -> None:
    inputs, state = stretch(agent, world), agent.initial_state(N)
    whole, part = agent.activations(inputs, state), agent.activations(inputs[:, 2:3], state[2:3])
    for name, values in part.items():
        torch.testing.assert_close(values, whole[name][:, 2:3], atol=1e-5, rtol=0)


def test_a_reset_forgets_the_past_of_its_row_alone(agent: Agent, world: World) -> None:
    inputs, state = stretch(agent, world), agent.initial_state(N)
    lived = agent.activations(inputs, state)["core.state"][-1]
    reset = torch.tensor([True, False] * (N // 2))
    _, after = agent.step(inputs[0], lived, reset)
    _, again = agent.step(inputs[0], lived, reset)
    assert torch.equal(after, again)
    other_past = lived.clone()
    other_past[reset] = agent.step(inputs[0], state, reset)[1][reset]
    _, after_other = agent.step(inputs[0], other_past, reset)
    if agent.name not in {"drifting noise", "coded belief"}:  # their streams go on, so that no two episodes are alike
        torch.testing.assert_close(after[reset], after_other[reset])
    torch.testing.assert_close(after[~reset], after_other[~reset], atol=1e-5, rtol=0)


def test_nothing_is_changed_in_place(agent: Agent, world: World) -> None:
    inputs, state = stretch(agent, world), agent.initial_state(N)
    kept_inputs, kept_state = inputs.clone(), state.clone()
    agent.activations(inputs, state)
    agent.step(inputs[0], state, torch.ones(N, dtype=torch.bool))
    assert torch.equal(inputs, kept_inputs)
    assert torch.equal(state, kept_state)


def test_building_and_running_leave_global_chance_alone(world: World) -> None:
    before = torch.get_rng_state()
    for build in AGENTS.values():
        agent = build(world)
        agent.activations(stretch(agent, world), agent.initial_state(N))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", AGENTS)
def test_two_builds_are_equal(name: str, world: World) -> None:
    acting, first, second = (AGENTS[name](world) for _ in range(3))
    inputs = stretch(acting, world)
    sites, same = (agent.activations(inputs, agent.initial_state(N)) for agent in (first, second))
    assert all(torch.equal(sites[key], same[key]) for key in sites)
