"""An agent whose activations can be written down, and small recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldprobe.activations import CommonBehaviour, EpsilonGreedy, Recording, record
from worldprobe.agents import NetworkConfig, RecurrentQNetwork, make_network
from worldprobe.worlds import TMaze, World

RecordOwn = Callable[[RecurrentQNetwork, World, Path], Recording]


class SumAgent:
    """h_t = 0.9 h_{t-1} + inputs_t, with h_{-1} = 0: what it holds can be written down. It prefers its first action."""

    name = "sum"

    def __init__(self, world: World, channels: frozenset[str]) -> None:
        self.channels = channels
        self.n_actions = world.n_actions
        self.input_size = world.observation_size * ("observation" in channels) + world.n_actions + ("reward" in channels)
        self.state_size = self.input_size
        self.sites = {"core.h": self.input_size, "q": self.n_actions}

    def initial_state(self, n: int) -> Tensor:
        return torch.zeros(n, self.state_size)

    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.9 * state.masked_fill(reset.unsqueeze(1), 0.0) + inputs
        return self._q(state), state

    def _q(self, state: Tensor) -> Tensor:
        return state[..., : self.n_actions].roll(1, -1)

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        states = []
        for received in inputs:
            state = 0.9 * state + received
            states.append(state)
        h = torch.stack(states)
        return {"core.h": h, "core.state": h, "q": self._q(h)}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def maze() -> World:
    return TMaze(length=3)


@pytest.fixture(scope="session")
def make_sum_agent() -> Callable[[World, frozenset[str]], SumAgent]:
    return SumAgent


@pytest.fixture(scope="session")
def common(maze: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """300 episodes of the common streams of the small maze, in three shards, without a network."""
    path: Path = tmp_path_factory.mktemp("common") / "common.wpr"
    with record(None, maze, path, CommonBehaviour(maze), 300, 0, n_envs=16, episodes_per_shard=128) as recording:
        yield recording


@pytest.fixture(scope="session")
def network(maze: World) -> RecurrentQNetwork:
    return make_network(maze, NetworkConfig(hidden_size=8), seed=0)


@pytest.fixture(scope="session")
def record_own() -> RecordOwn:
    """Return the call that the tests of resuming make again and again: three shards of eight episodes."""

    def call(agent: RecurrentQNetwork, world: World, path: Path) -> Recording:
        return record(agent, world, path, EpsilonGreedy(agent, 0.2), 24, 9, ("core.h", "core.c", "q"), n_envs=4, episodes_per_shard=8)

    return call


@pytest.fixture(scope="session")
def whole(network: RecurrentQNetwork, maze: World, record_own: RecordOwn, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The uninterrupted recording of that call."""
    return record_own(network, maze, tmp_path_factory.mktemp("whole") / "whole.wpr")


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Recording, Recording], None]:
    """Return the assertion that two recordings are equal byte for byte in every array."""

    def check(one: Recording, other: Recording) -> None:
        assert list(one) == list(other)
        for key in one:
            assert one[key].dtype == other[key].dtype
            assert one[key][:].tobytes() == other[key][:].tobytes(), key

    return check
