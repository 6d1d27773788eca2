from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    CORES,
    BeliefAgent,
    ClockAgent,
    CodedBeliefAgent,
    CoreShape,
    EditableAgent,
    EditedAgent,
    MemorylessAgent,
    NetworkConfig,
    evaluate_return,
    make_network,
)
from worldprobe.worlds import MemoryChain, TMaze

WORLD = TMaze(length=4)
CHANNELS = frozenset({"observation", "action"})


def networks() -> list[EditableAgent]:
    plain = [make_network(WORLD, NetworkConfig(core=core, hidden_size=6), seed=0) for core in CORES if core != "drc"]
    deep = NetworkConfig(core="lru", hidden_size=6, n_layers=3, residual=True, core_layer_norm=True)
    return [*plain, make_network(WORLD, deep, seed=0)]


AGENTS = [*networks(), BeliefAgent(WORLD, CHANNELS), CodedBeliefAgent(WORLD, CHANNELS, seed=0), MemorylessAgent(WORLD, CHANNELS, seed=0)]
NAMES = [f"{agent.name}-{index}" for index, agent in enumerate(AGENTS)]


def unchanged(content: Tensor, inputs: Tensor) -> Tensor:
    return content


def stretch(agent: EditableAgent) -> Tensor:
    """Inputs of five steps in the corridor, of two environments."""
    observation = torch.eye(4)[torch.tensor([[0, 1], [2, 2], [2, 2], [2, 2], [2, 2]])]
    action = torch.eye(4)[torch.zeros(5, 2, dtype=torch.int64)] * torch.tensor([0.0, 1, 1, 1, 1])[:, None, None]
    return torch.cat([observation, action], -1)


@pytest.mark.parametrize("agent", AGENTS, ids=NAMES)
def test_values_follow_from_inputs_and_state(agent: EditableAgent) -> None:
    inputs = stretch(agent)
    sites = agent.activations(inputs, agent.initial_state(2))
    for t in range(5):
        torch.testing.assert_close(agent.values(inputs[t], sites["core.state"][t]), sites["q"][t])
    for site, columns in agent.carried.items():
        assert torch.equal(sites["core.state"][..., columns], sites[site])


@pytest.mark.parametrize("agent", AGENTS, ids=NAMES)
def test_no_edit_is_no_change(agent: EditableAgent) -> None:
    inputs, state = stretch(agent), agent.initial_state(2)
    edited = EditedAgent(agent, unchanged)
    sites = agent.activations(inputs, state)
    own = edited.activations(inputs, state)
    for site in (*agent.carried, "q", "core.state"):
        torch.testing.assert_close(own[site], sites[site], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("agent", AGENTS[:-1], ids=NAMES[:-1])
def test_what_is_erased_at_every_step_is_not_carried(agent: EditableAgent) -> None:
    inputs = stretch(agent)
    forgetful = EditedAgent(agent, lambda content, _: torch.full_like(content, 0.125))
    last = forgetful.activations(inputs, agent.initial_state(2))
    torch.testing.assert_close(last["q"][-1, 0], last["q"][-1, 1])
    for site in agent.carried:
        assert torch.all(last[site] == 0.125)
    if agent.name == "network":
        one = forgetful.activations(inputs[-1:], last["core.state"][-2])
        torch.testing.assert_close(one["q"][0], last["q"][-1])


def test_one_site_of_several_can_be_edited() -> None:
    network = make_network(WORLD, NetworkConfig(core="lstm", hidden_size=6), seed=0)
    edited = EditedAgent(network, lambda content, _: content * 0, sites=["core.h"])
    sites = edited.activations(stretch(network), network.initial_state(2))
    assert torch.all(sites["core.h"] == 0)
    assert torch.any(sites["core.c"] != 0)


def test_erasing_what_is_needed_costs_what_it_is_worth_and_the_rest_nothing() -> None:
    world = MemoryChain(length=6)
    agent, size = BeliefAgent(world, CHANNELS), world.tables.n_states

    def without(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        kept = world.class_maps["step" if name == "cue" else "cue"]
        alike = (kept == kept.view(-1, 1)).float()
        return lambda content, _: content @ (alike / alike.sum(1, keepdim=True))

    returns = {}
    for name in ("cue", "step"):
        edited = EditedAgent(agent, without(name))
        returns[name] = evaluate_return(edited, world, 2000, torch.Generator().manual_seed(0)).mean_return
        assert edited.columns.tolist() == list(range(1, size + 1))
    assert returns["step"] == 1.0
    assert returns["cue"] == pytest.approx(0.0, abs=0.1)


def test_what_cannot_be_edited_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="'clock' cannot be edited: expected an agent with `values"):
        EditedAgent(ClockAgent(WORLD, CHANNELS, seed=0), unchanged)
    with pytest.raises(KeyError, match=r"'encoder' is no part of the core state of 'network'; what is: core\.h"):
        EditedAgent(make_network(WORLD, NetworkConfig(hidden_size=6), seed=0), unchanged, sites=["encoder"])


def test_maps_are_carried_module_by_module() -> None:
    core = CORES["drc"](CoreShape(input_size=3 * 20, hidden_size=3, n_layers=2, n_ticks=2, map_size=(4, 5)))
    core.initialise(torch.Generator().manual_seed(0))
    x, state = torch.randn(3, 2, 60), torch.zeros(2, core.state_size)
    y, sites = core.record(x, state)
    for t in range(3):
        torch.testing.assert_close(core.given(x[t], sites["core.state"][t]), y[t])
    for site, columns in core.carried.items():
        assert torch.equal(sites["core.state"][..., columns], sites[site])
