"""Forks: the world goes on as its law says, cores go on as they would have, and the recording stays what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from worldprobe.activations import EpsilonGreedy, Forks, Recording, RecordingError, fork_core, fork_stream, record, replay
from worldprobe.activations._episodes import Array
from worldprobe.agents import BeliefAgent, NetworkConfig, make_network
from worldprobe.worlds import TMaze, Unavailable, World, make_world


@pytest.fixture(scope="module")
def forks(common: Recording, maze: World) -> Forks:
    return fork_stream(maze, common, np.arange(0, common.n_steps, 2), 6, torch.Generator().manual_seed(0))


def test_actions_are_uniform_and_independent_of_what_was_done(forks: Forks, common: Recording) -> None:
    n = forks.action.size
    np.testing.assert_allclose(np.bincount(forks.action.ravel()) / n, 1 / 4, atol=4 * 0.5 / n**0.5)
    chosen = common["action"][forks.rows]
    assert abs((forks.action[:, 0] == chosen).mean() - 1 / 4) < 4 * 0.5 / len(forks) ** 0.5


def test_every_step_is_one_of_the_law(forks: Forks, common: Recording, maze: TMaze) -> None:
    tables = maze.tables
    state = common["state/state"][forks.rows]
    alive = np.ones(len(forks), dtype=bool)
    for step in range(forks.horizon):
        action, following = forks.action[:, step], forks.factors["state"][:, step]
        assert (tables.transition.numpy()[action, state, following][alive] > 0).all()
        np.testing.assert_allclose(forks.reward[alive, step], tables.reward.numpy()[action, state, following][alive], atol=1e-6)
        assert (forks.reward[~alive, step] == 0).all()
        assert (following[~alive] == state[~alive]).all()
        np.testing.assert_array_equal(forks.observation[:, step], tables.observation.numpy()[following])
        alive &= ~tables.terminal.numpy()[following]
        np.testing.assert_array_equal(forks.alive[:, step], alive)
        state = following
    assert 0 < alive.mean() < 1


def test_a_fork_leaves_the_recording_as_it_was(common: Recording, maze: World) -> None:
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in common.path.iterdir()}
    state, belief = common["state/state"][:], common["belief/state"][:]
    fork_stream(maze, common, np.arange(common.n_steps), 3, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(common["state/state"][:], state)
    np.testing.assert_array_equal(common["belief/state"][:], belief)
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in common.path.iterdir()} == before


def test_the_marginal_of_forked_states_is_the_predicted_belief(common: Recording, maze: TMaze) -> None:
    """From the recorded state: P_a1 P_a2 of a point; averaged over states drawn from it: that of the belief."""
    row = int(np.flatnonzero((common["factor/position"][:] == 2) & (common["t"][:] == 4))[0])
    n = 60_000
    forks = fork_stream(maze, common, np.full(n, row), 2, torch.Generator().manual_seed(1))
    state = {"state": torch.from_numpy(common["state/state"][[row]])}
    for actions in np.ndindex(4, 4):
        taken = (forks.action == actions).all(1)
        predicted = maze.predict_belief(maze.point_belief(state), torch.tensor([actions]))["state"][0].numpy()
        found = np.bincount(forks.factors["state"][taken, 1], minlength=12) / taken.sum()
        np.testing.assert_allclose(found, predicted, atol=4.5 * 0.5 / taken.sum() ** 0.5)


def test_expectations_are_calibrated_on_the_forks(forks: Forks) -> None:
    """E[factor | b] predicts the forked factor: within every bin of the prediction, its mean is that of the truth."""
    predicted = forks.expected["position"].reshape(-1, 6)
    truth = np.eye(6)[forks.factors["position"].ravel()]
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (predicted > low) & (predicted <= low + 0.2)
        error = 0.5 / inside.sum() ** 0.5 * 3  # forks of one row are correlated
        assert abs(truth[inside].mean() - predicted[inside].mean()) < max(4 * error, 0.02)


def test_a_belief_agent_stepped_along_the_forks_is_the_filter(common: Recording, forks: Forks, maze: World) -> None:
    agent = BeliefAgent(maze, common.channels)
    core_state = replay(agent, common, ["core.state"])["core.state"][forks.rows]
    held = fork_core(agent, forks, core_state, ["core.h"])["core.h"]
    np.testing.assert_allclose(held[forks.alive], forks.expected["state"][forks.alive], atol=1e-5)
    assert (held[~forks.alive] == 0).all()


def test_every_network_goes_on_as_a_step_by_step_run_would(common: Recording, forks: Forks, maze: World) -> None:
    agent = make_network(maze, NetworkConfig(core="lstm", hidden_size=5, n_layers=2), seed=0)
    core_state = replay(agent, common, ["core.state"])["core.state"][forks.rows]
    sites = fork_core(agent, forks, core_state, ["core.h", "q", "core.state"])
    chosen = np.flatnonzero(forks.alive.all(1))[:20]
    state, never = torch.from_numpy(core_state[chosen]), torch.zeros(len(chosen), dtype=torch.bool)
    for step in range(forks.horizon):
        before = np.eye(4, dtype=np.float32)[forks.action[chosen, step]]
        inputs = torch.from_numpy(np.concatenate([forks.observation[chosen, step], before], 1))
        q, state = agent.step(inputs, state, never)
        np.testing.assert_allclose(sites["q"][chosen, step], q, atol=1e-5)
        np.testing.assert_allclose(sites["core.state"][chosen, step], state, atol=1e-5)


def test_taking_the_recorded_actions_again_gives_the_recorded_activations(common: Recording, maze: World) -> None:
    """A fork that happens to do what was done is the recording: its core must be where the recording's was."""
    agent = make_network(maze, NetworkConfig(core="gru", hidden_size=5), seed=0)
    recorded = replay(agent, common, ["core.h", "core.state"])
    rows = np.flatnonzero(common.groups[:-1] == common.groups[1:])
    forks = fork_stream(maze, common, rows, 1, torch.Generator().manual_seed(0))
    same = forks.action[:, 0] == common["action"][rows]
    same &= (forks.factors["state"][:, 0] == common["state/state"][rows + 1]) & (forks.reward[:, 0] == common["reward"][rows])
    h = fork_core(agent, forks, recorded["core.state"][rows])["core.h"]
    assert same.sum() > 50
    np.testing.assert_allclose(h[same, 0], recorded["core.h"][rows + 1][same], atol=1e-5)
    np.testing.assert_allclose(forks.expected["state"][same, 0], common["expected/state"][rows + 1][same], atol=1e-6)


def test_a_counterfeit_law_moves_the_forks_and_their_filter(common: Recording, maze: TMaze, forks: Forks) -> None:
    law = maze.counterfeit(torch.Generator().manual_seed(3))
    other = fork_stream(maze, common, forks.rows, 6, torch.Generator().manual_seed(0), law)
    np.testing.assert_array_equal(other.action, forks.action)
    moves = (other.action[:, 0], common["state/state"][forks.rows], other.factors["state"][:, 0])
    likelihood = {name: tables.transition.numpy()[moves] for name, tables in (("law", law.tables), ("world", maze.tables))}
    assert (likelihood["law"] > 0).all()
    assert likelihood["law"].mean() > likelihood["world"].mean() + 0.1
    loss = {"law": 0.0, "world": 0.0}
    truth = np.eye(12)[other.factors["state"][:, 0]]
    for name, ceiling in (("law", other), ("world", forks)):
        loss[name] = float(np.square(truth - ceiling.expected["state"][:, 0]).sum(1).mean())
    assert loss["law"] < loss["world"] - 0.05


def test_equal_generators_give_equal_forks(common: Recording, maze: World, forks: Forks) -> None:
    again = fork_stream(maze, common, forks.rows, 6, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(again.observation, forks.observation)
    np.testing.assert_array_equal(again.expected["goal"], forks.expected["goal"])


def test_take_picks_the_same_forks_everywhere(forks: Forks) -> None:
    chosen = np.array([7, 3, 3])
    taken = forks.take(chosen)
    assert len(taken) == 3
    for name in ("rows", "action", "reward", "observation", "alive"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(forks, name)[chosen])
    np.testing.assert_array_equal(taken.expected["goal"], forks.expected["goal"][chosen])
    np.testing.assert_array_equal(taken.factors["position"], forks.factors["position"][chosen])


def test_what_cannot_be_forked_is_refused(common: Recording, maze: World, forks: Forks) -> None:
    def fork(world: World, rows: Array, horizon: int = 2) -> Forks:
        return fork_stream(world, common, rows, horizon, torch.Generator())

    with pytest.raises(RecordingError, match=r"another world \(parameters"):
        fork(TMaze(length=3, stochasticity=0.5), np.array([0]))
    with pytest.raises(ValueError, match="horizon must be at least 1; got 0"):
        fork(maze, np.array([0]), 0)
    with pytest.raises(IndexError, match="rows of"):
        fork(maze, np.array([10**6]))
    copying = TMaze(length=3)
    copying.gives = frozenset({"snapshot"})
    with pytest.raises(Unavailable, match="copy themselves are not made yet"):
        fork(copying, np.array([0]))
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    with pytest.raises(RecordingError, match="one per fork"):
        fork_core(agent, forks, np.zeros((3, 8), np.float32))
    with pytest.raises(RecordingError, match="forks' expectations condition on"):
        fork_core(make_network(maze, NetworkConfig(hidden_size=4, channels=("action",)), seed=0), forks, np.zeros((len(forks), 8)))


@pytest.mark.parametrize("name", ["tmaze-irrelevant", "four-rooms"])
def test_richer_worlds_fork_with_their_beliefs(name: str, tmp_path: Path) -> None:
    world = make_world(name)
    wanderer = EpsilonGreedy(make_network(world, NetworkConfig(hidden_size=4), seed=0), 1.0)
    with record(None, world, tmp_path / "a.wpr", wanderer, 4, 0) as recording:
        forks = fork_stream(world, recording, np.arange(0, recording.n_steps, 5), 3, torch.Generator().manual_seed(0))
    for factor in world.factors:
        assert forks.expected[factor.name].shape == (len(forks), 3, factor.size)
        if factor.is_categorical:
            np.testing.assert_allclose(forks.expected[factor.name].sum(2), 1, atol=1e-5)
            taken = np.take_along_axis(forks.expected[factor.name], forks.factors[factor.name][..., None], 2)
            assert (taken > 0).all()
