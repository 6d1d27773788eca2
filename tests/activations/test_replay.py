"""Replaying: the recorded agent is found again, any agent gives what its definition says, wrong ones are refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.activations import (
    CommonBehaviour,
    EpsilonGreedy,
    Moment,
    Recording,
    RecordingError,
    fork_core,
    fork_stream,
    record,
    record_on,
    recorded_belief,
    replay,
)
from worldprobe.activations import _beliefs as beliefs
from worldprobe.activations import _replay as replaying
from worldprobe.activations._episodes import by_length, stretches
from worldprobe.agents import PLANTED, BeliefAgent, NetworkConfig, make_network
from worldprobe.worlds import TMaze, World

CONFIGS = {
    "gru": NetworkConfig(core="gru", hidden_size=6),
    "lstm, two layers, rewards": NetworkConfig(core="lstm", hidden_size=5, n_layers=2, channels=("observation", "action", "reward")),
    "actions only": NetworkConfig(core="gru", hidden_size=6, channels=("action",)),
}


class Watched(EpsilonGreedy):
    """Keeps what the agent emits while it acts."""

    def begin(self, world: World, n_envs: int, generator: torch.Generator) -> Callable[[Moment], Tensor]:
        act = super().begin(world, n_envs, generator)
        step = self.agent.step
        emitted: list[tuple[Tensor, Tensor]] = []

        def watched_step(inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
            q, state = step(inputs, state, reset)
            emitted.append((q, state))
            return q, state

        self.agent.__dict__["step"] = watched_step
        self.agent.__dict__["emitted"] = emitted
        return act


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_replayed_sites_are_those_of_acting(config: NetworkConfig, maze: World, tmp_path: Path) -> None:
    """One copy plays all episodes, so the rows of the recording are the steps of acting, in order."""
    agent = make_network(maze, config, seed=0)
    with record(agent, maze, tmp_path / "a.wpr", Watched(agent, 0.5), 30, 0, ("core.h", "core.state", "q"), n_envs=1) as recording:
        emitted = agent.__dict__["emitted"]
        assert len(emitted) == recording.n_steps
        q, state = (torch.cat(values).numpy() for values in zip(*emitted, strict=True))
        np.testing.assert_allclose(recording["q"][:], q, atol=1e-5)
        np.testing.assert_allclose(recording["core.state"][:], state, atol=1e-5)
        del agent.__dict__["step"]
        again = replay(agent, recording, ("core.h", "core.state"))
        np.testing.assert_allclose(again["core.state"], state, atol=1e-5)
        np.testing.assert_allclose(again["core.h"], recording["core.h"][:], atol=1e-6)


def test_a_belief_agent_holds_the_recorded_beliefs(common: Recording, maze: World) -> None:
    held = replay(BeliefAgent(maze, common.channels), common, ["core.h"])["core.h"]
    np.testing.assert_allclose(held, common["belief/state"][:], atol=1e-6)


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_agent_can_be_recorded_replayed_and_forked(name: str, common: Recording, maze: World, tmp_path: Path) -> None:
    """Twice from the same seed: the same recording, the same forks (some agents draw their own chance, so each is made anew)."""
    rows = np.arange(0, common.n_steps, 50)
    forks = fork_stream(maze, common, rows, 3, torch.Generator().manual_seed(0))
    recorded, forked = [], []
    for turn in range(2):
        agent = PLANTED[name](maze, common.channels, 0)
        with record_on(agent, common, tmp_path / f"{turn}.wpr", ["core.h", "core.state"]) as recording:
            recorded.append(recording["core.h"][:])
            forked.append(fork_core(agent, forks, recording["core.state"][rows])["core.h"])
    np.testing.assert_array_equal(recorded[0], recorded[1])
    np.testing.assert_array_equal(forked[0], forked[1])
    assert np.isfinite(forked[0]).all()


def test_passes_of_any_size_give_the_same(common: Recording, maze: World, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_network(maze, NetworkConfig(core="gru", hidden_size=6), seed=0)
    whole = replay(agent, common)["core.h"]
    monkeypatch.setattr(replaying, "LARGEST_PASS", 1)
    np.testing.assert_allclose(replay(agent, common)["core.h"], whole, atol=1e-5)


@given(length=st.lists(st.integers(1, 60), min_size=1, max_size=60), largest=st.integers(1, 2000))
def test_stretches_hold_every_row_once_and_in_order(length: list[int], largest: int) -> None:
    sizes = np.array(length)
    taken = np.zeros(sizes.size, dtype=int)
    for group in by_length(sizes, largest):
        assert sizes[group].sum() <= max(largest, sizes[group].max())
        for n, begin, end in stretches(sizes[group]):
            assert (taken[group[:n]] == begin).all()
            taken[group[:n]] = end
    np.testing.assert_array_equal(taken, sizes)


def test_unknown_sites_channels_and_worlds_are_refused(common: Recording, maze: World) -> None:
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    with pytest.raises(KeyError, match=r"no site 'core\.z'; it has encoder, core\.h, .*core\.state"):
        replay(agent, common, ["core.z"])
    with pytest.raises(RecordingError, match="record a stream with the agent's channels"):
        replay(make_network(maze, NetworkConfig(hidden_size=4, channels=("action",)), seed=0), common)
    agent.n_actions = 3
    with pytest.raises(RecordingError, match="has 3 actions; world 'tmaze' has 4"):
        replay(agent, common)
    agent.n_actions, agent.input_size = 4, 5
    with pytest.raises(RecordingError, match="expects 5 inputs per step; the episodes give 8"):
        replay(agent, common)


def test_a_site_of_another_shape_than_promised_is_named(common: Recording, maze: World) -> None:
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    agent.sites["encoder"] = 63
    with pytest.raises(RecordingError, match=r"site 'encoder' of agent .* came with shape .*, 64\); it promised .*, 63\)"):
        replay(agent, common, ["encoder"])


def test_a_recording_travels_to_other_processes_as_its_path(common: Recording) -> None:
    with pickle.loads(pickle.dumps(common)) as again:
        assert again.path == common.path
        np.testing.assert_array_equal(again["reward"][:], common["reward"][:])


def test_beliefs_too_large_to_store_are_filtered_again(
    common: Recording, maze: TMaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beliefs, "LARGEST_BELIEF", 8)
    with record(None, maze, tmp_path / "a.wpr", CommonBehaviour(maze), 300, 0, n_envs=16, episodes_per_shard=128) as lean:
        assert not any("belief/" in key for key in lean)
        np.testing.assert_array_equal(lean["expected/goal"][:], common["expected/goal"][:])
        rows = np.array([5, 0, 700, 5, 701, lean.n_steps - 1])
        again = recorded_belief(lean, maze, rows, torch.Generator())
        np.testing.assert_array_equal(again["state"].numpy(), common["belief/state"][rows])
        stored = recorded_belief(common, maze, rows, torch.Generator())
        np.testing.assert_array_equal(again["state"].numpy(), stored["state"].numpy())
