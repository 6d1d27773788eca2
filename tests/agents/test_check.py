"""The check of the contract passes every agent of the package in every kind of world, and finds each way to break it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import CORES, PLANTED, Agent, AgentContractError, NetworkConfig, check_agent, make_network
from worldprobe.worlds import WORLDS, World, make_world

NETWORK = NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,))


class Leaky:
    """h_t = tanh(W x_t) / 2 + h_{t-1} / 2, honestly; subclasses are not."""

    name = "leaky"
    channels = frozenset({"observation", "action"})

    def __init__(self, world: World) -> None:
        generator = torch.Generator().manual_seed(0)
        self.n_actions, self.input_size, self.state_size = world.n_actions, world.observation_size + world.n_actions, 3
        self.sites = {"core.h": 3, "q": world.n_actions}
        self.weight, self.head = torch.randn(self.input_size, 3, generator=generator), torch.randn(3, self.n_actions, generator=generator)

    def initial_state(self, n: int) -> Tensor:
        return torch.zeros(n, 3)

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(inputs @ self.weight) / 2 + state / 2

    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        state = self.advance(inputs, state.masked_fill(reset.unsqueeze(1), 0.0))
        return state @ self.head, state

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        states = []
        for received in inputs:
            state = self.advance(received, state)
            states.append(state)
        h = torch.stack(states)
        return {"core.h": h, "core.state": h, "q": h @ self.head}


class OneStepLate(Leaky):
    """Its recordings show the state before the input."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        late = torch.cat([state.unsqueeze(0), super().activations(inputs, state)["core.h"][:-1]])
        return {"core.h": late, "core.state": late, "q": late @ self.head}


class LooksBack(Leaky):
    """A site looks back over its stretch instead of at the core state."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        sites = super().activations(inputs, state)
        return sites | {"core.h": sites["core.h"].cumsum(0)}


class Restless(Leaky):
    """It remembers how often it was asked."""

    calls = 0

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        sites = super().activations(inputs, state)
        return sites | {"core.h": sites["core.h"] + self.calls}


class BatchNormed(Leaky):
    """It takes statistics over the batch."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        sites = super().activations(inputs, state)
        return sites | {"core.h": sites["core.h"] - sites["core.h"].mean(1, keepdim=True)}


class NeverForgets(Leaky):
    """It ignores resets."""

    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(inputs, state, torch.zeros_like(reset))


class AllForget(Leaky):
    """It resets every row if one is."""

    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(inputs, state, reset.any().expand(len(reset)))


class Overwrites(Leaky):
    """It works on its arguments."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        sites = super().activations(inputs, state)
        state.copy_(sites["core.state"][-1])
        return sites


class Double(Leaky):
    """It computes in another precision."""

    def initial_state(self, n: int) -> Tensor:
        return torch.zeros(n, 3, dtype=torch.float64)

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        return super().advance(inputs, state).float()


class NotANumber(Leaky):
    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        return super().advance(inputs, state) * torch.nan


class WithoutState(Leaky):
    """It does not record its core state."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        return {name: values for name, values in super().activations(inputs, state).items() if name != "core.state"}


class Blind(Leaky):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.input_size -= 1


class Siteless(Leaky):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.sites = {"q": world.n_actions}


BROKEN: dict[type[Leaky], str] = {
    OneStepLate: r"'q' of `step` and of `activations` differ at step 0",
    LooksBack: r"'core.h' differs when a stretch is cut",
    Restless: r"'core.h' differs when the same call is repeated",
    BatchNormed: r"'core.h' of a row depends on other rows",
    NeverForgets: r"Q after a reset depends on the episode before it",
    AllForget: r"'q' of a row changes when another row is reset",
    Overwrites: r"in place",
    Double: r"initial_state of agent 'leaky' must be finite float32 \(\d+, 3\) without a gradient; got torch.float64",
    NotANumber: r"not all finite",
    WithoutState: r"must return \['core.h', 'core.state', 'q'\]",
    Blind: r"has input_size 7; in world 'tmaze' it must be 8",
    Siteless: r"sites must hold 'core.h'",
}


def test_an_honest_agent_passes() -> None:
    check_agent(Leaky(make_world("tmaze")), make_world("tmaze"))


@pytest.mark.parametrize("broken", BROKEN)
def test_each_breach_is_found_and_named(broken: type[Leaky]) -> None:
    world = make_world("tmaze")
    with pytest.raises(AgentContractError, match=BROKEN[broken]):
        check_agent(broken(world), world)


def test_what_is_no_agent_is_told_what_it_lacks() -> None:
    with pytest.raises(AgentContractError, match="object lacks name, channels, n_actions"):
        check_agent(object(), make_world("tmaze"))  # type: ignore[arg-type]  # what an untyped caller may do


def test_a_gradient_is_refused() -> None:
    world = make_world("tmaze")
    agent = Leaky(world)
    agent.head.requires_grad_()
    with pytest.raises(AgentContractError, match="with a gradient"):
        check_agent(agent, world)


@pytest.mark.parametrize("name", WORLDS)
def test_networks_pass_in_every_world(name: str) -> None:
    world = make_world(name)
    check_agent(make_network(world, NETWORK, seed=0), world)


def _network(core: str) -> Callable[[World], Agent]:
    return lambda world: make_network(world, NetworkConfig(core=core, n_layers=2, hidden_size=4), seed=0)


def _planted(name: str) -> Callable[[World], Agent]:
    return lambda world: PLANTED[name](world, Leaky.channels, 0)


OURS = {core: _network(core) for core in CORES if core != "drc"} | {name: _planted(name) for name in PLANTED}


@pytest.mark.parametrize("name", OURS)
def test_every_agent_of_the_package_passes(name: str) -> None:
    world = make_world("tmaze")
    check_agent(OURS[name](world), world)


def test_a_stretch_that_no_episode_lasts_is_refused(corridor: Callable[..., World]) -> None:
    world = corridor(time_limit=4)
    with pytest.raises(ValueError, match="got 8 and 0: change n_steps"):
        check_agent(Leaky(world), world)
    check_agent(Leaky(world), world, n_steps=2)
