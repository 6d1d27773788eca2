"""Recording: what a row means, who plays how often, and what is refused."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from worldprobe.activations import CommonBehaviour, EpsilonGreedy, Recording, RecordingError, open_recording, record, record_on
from worldprobe.agents import Agent, NetworkConfig, RecurrentQNetwork, make_network, seal, unseal
from worldprobe.worlds import WORLDS, Driver, DriverStep, State, TMaze, World, make_world

ALL_CHANNELS = frozenset({"observation", "action", "reward"})
SumAgent = Callable[[World, frozenset[str]], Agent]
Same = Callable[[Recording, Recording], None]
RecordOwn = Callable[[RecurrentQNetwork, World, Path], Recording]


# --- what a row means ---------------------------------------------------------------------------------------------


def test_row_t_is_after_the_observation_and_before_the_action(maze: World, make_sum_agent: SumAgent, tmp_path: Path) -> None:
    agent = make_sum_agent(maze, ALL_CHANNELS)
    with record(agent, maze, tmp_path / "own.wpr", EpsilonGreedy(agent, 0.5), 40, 1, n_envs=7) as recording:
        h, q = recording["core.h"][:], recording["q"][:]
        observation, action, reward = (recording[key][:] for key in ("observation", "action", "reward"))
        for start, length in recording.episodes[["start", "length"]].to_numpy():
            held = np.zeros(9)
            for t in range(start, start + length):
                before = np.zeros(5)
                if t > start:
                    before[action[t - 1]], before[4] = 1.0, reward[t - 1]
                held = 0.9 * held + np.concatenate([observation[t], before])
                np.testing.assert_allclose(h[t], held, atol=1e-5)
                np.testing.assert_allclose(q[t], np.roll(held[:4], 1), atol=1e-5)


def test_the_action_of_a_row_was_chosen_from_the_q_values_of_that_row(maze: World, tmp_path: Path) -> None:
    agent = make_network(maze, NetworkConfig(core="gru", hidden_size=8, channels=("observation", "action", "reward")), seed=3)
    with record(agent, maze, tmp_path / "own.wpr", EpsilonGreedy(agent, 0.0), 50, 0, n_envs=8) as recording:
        np.testing.assert_array_equal(recording["action"][:], recording["q"][:].argmax(1))


def test_states_rewards_and_ends_follow_the_law_of_the_world(maze: TMaze, common: Recording) -> None:
    state, action = common["state/state"][:], common["action"][:]
    last = common.episodes["start"] + common.episodes["length"] - 1
    following = np.append(state[1:], 0)
    following[last] = common["final_state/state"][:]
    transition = maze.tables.transition.numpy()
    assert (transition[action, state, following] > 0).all()
    np.testing.assert_allclose(common["reward"][:], maze.tables.reward.numpy()[action, state, following], atol=1e-6)
    ends = maze.tables.terminal.numpy()[following]
    np.testing.assert_array_equal(common["terminated"][:], ends)
    is_last = np.isin(np.arange(common.n_steps), last)
    np.testing.assert_array_equal(common["terminated"][:] | common["truncated"][:], is_last)
    assert (common.episodes["length"][~common.episodes["terminated"]] == maze.time_limit).all()
    assert common["truncated"][:].any()
    np.testing.assert_array_equal(common["observation"][:], maze.tables.observation.numpy()[state])
    np.testing.assert_array_equal(common["final_observation"][:], maze.tables.observation.numpy()[common["final_state/state"][:]])
    for name, classes in maze.class_maps.items():
        np.testing.assert_array_equal(common[f"factor/{name}"][:], classes.numpy()[state])
        np.testing.assert_array_equal(common[f"final_factor/{name}"][:], classes.numpy()[common["final_state/state"][:]])


@pytest.mark.parametrize("channels", [frozenset({"observation", "action"}), ALL_CHANNELS])
def test_beliefs_are_the_bayes_rule_written_out(maze: TMaze, channels: frozenset[str], tmp_path: Path) -> None:
    tables = maze.tables
    transition, seen, paid, ended = (table.numpy() for table in (tables.transition, tables.observation, tables.reward, tables.terminal))
    with record(None, maze, tmp_path / "a.wpr", CommonBehaviour(maze), 30, 2, channels=channels, n_envs=8) as recording:
        observation, action, reward = (recording[key][:] for key in ("observation", "action", "reward"))
        belief, final = recording["belief/state"][:], recording["final_belief/state"][:]
        for i, (start, length) in enumerate(recording.episodes[["start", "length"]].to_numpy()):
            b = tables.initial.numpy() * seen[:, observation[start].argmax()]
            for t in range(start, start + length):
                np.testing.assert_allclose(belief[t], b / b.sum(), atol=1e-12)
                law = transition[action[t]] * (np.abs(paid[action[t]] - reward[t]) < 1e-5 if "reward" in channels else 1)
                is_last = t == start + length - 1
                received = recording["final_observation"][i] if is_last else observation[t + 1]
                b = b @ law * seen[:, received.argmax()] * (ended == bool(recording["terminated"][t]))
            np.testing.assert_allclose(final[i], b / b.sum(), atol=1e-12)
        expected = np.stack([belief @ (maze.class_maps["position"].numpy() == place) for place in range(6)], 1)
        np.testing.assert_allclose(recording["expected/position"][:], expected, atol=1e-6)
        np.testing.assert_allclose(recording["final_expected/state"][:], final, atol=1e-6)


# --- fairness and seeds -------------------------------------------------------------------------------------------


def test_short_episodes_are_not_favoured(maze: TMaze, tmp_path: Path) -> None:
    """The mean length is that of the chain, sum over t of P(still running at t); the first that finish would be half as long."""
    tables, chain = maze.tables, torch.einsum("a,ast->st", torch.tensor(maze.exploration, dtype=torch.float64), maze.tables.transition)
    mass, expected = tables.initial, 0.0
    for _ in range(maze.time_limit):
        expected += float(mass[~tables.terminal].sum())
        mass = mass @ chain
    behaviour = CommonBehaviour(maze, epsilons=(1.0,))
    with record(None, maze, tmp_path / "a.wpr", behaviour, 512, 0, n_envs=64, episodes_per_shard=64) as recording:
        length = recording.episodes["length"]
        assert abs(length.mean() - expected) < 4 * length.std() / 512**0.5
        shortest = np.sort(length.to_numpy().reshape(8, 64), 1)[:, :32].mean()
        assert abs(shortest - expected) > 4 * length.std() / 256**0.5  # the bias would be seen


@pytest.mark.parametrize(("n_episodes", "n_envs", "per_shard"), [(10, 4, 7), (3, 8, 512), (12, 5, 5), (1, 1, 1)])
def test_every_plan_is_kept_to_the_episode(maze: World, tmp_path: Path, n_episodes: int, n_envs: int, per_shard: int) -> None:
    with record(
        None, maze, tmp_path / "a.wpr", CommonBehaviour(maze), n_episodes, 0, n_envs=n_envs, episodes_per_shard=per_shard
    ) as recording:
        assert recording.is_complete
        assert recording.episodes.index.tolist() == list(range(n_episodes))
        assert (recording["t"][:][recording.episodes["start"]] == 0).all()
        assert recording["episode/length"][:].sum() == recording.n_steps == len(recording["action"])


def test_splits_are_whole_episodes_and_cover_all(common: Recording) -> None:
    rows = [common.split(name) for name in ("train", "validation", "test")]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(common.n_steps))
    groups = [set(common.groups[part]) for part in rows]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert [len(part) for part in groups] == [(common.episodes["split"] == code).sum() for code in range(3)]
    with pytest.raises(ValueError, match="unknown split 'dev'; the splits are train, validation, test"):
        common.split("dev")


def test_equal_seeds_give_equal_bytes_and_others_do_not(maze: World, assert_same: Same, tmp_path: Path) -> None:
    one, two, three = (
        record(None, maze, tmp_path / name, CommonBehaviour(maze), 40, seed, episodes_per_shard=16)
        for name, seed in (("1.wpr", 5), ("2.wpr", 5), ("3.wpr", 6))
    )
    assert_same(one, two)
    assert (tmp_path / "1.wpr/shard-00001.h5").read_bytes() == (tmp_path / "2.wpr/shard-00001.h5").read_bytes()
    assert one.n_steps != three.n_steps or (one["action"][:] != three["action"][:]).any()
    shards = [one["action"][:][one["episode"][:] // 16 == index][:50] for index in range(2)]
    assert (shards[0] != shards[1]).any()


# --- other networks on the same stream ----------------------------------------------------------------------------


def test_record_on_keeps_everything_but_the_sites(network: RecurrentQNetwork, common: Recording, tmp_path: Path) -> None:
    with record_on(network, common, tmp_path / "n.wpr", ("core.h", "core.0.gates.forget")) as recording:
        assert set(recording) - set(common) == {"site/core.h", "site/core.0.gates.forget"}
        for key in common:
            np.testing.assert_array_equal(recording[key][:], common[key][:])
        assert recording.sites == {"core.h": 8, "core.0.gates.forget": 8}
        assert recording.identity.stream == common.identity.fingerprint


def test_record_on_refuses_an_agent_of_other_channels_and_an_unfinished_stream(
    maze: World, network: RecurrentQNetwork, common: Recording, whole: Recording, tmp_path: Path
) -> None:
    rewarded = make_network(maze, NetworkConfig(hidden_size=8, channels=("observation", "action", "reward")), seed=0)
    with pytest.raises(RecordingError, match=r"beliefs in .* condition on"):
        record_on(rewarded, common, tmp_path / "n.wpr")
    path = Path(shutil.copytree(whole.path, tmp_path / "torn.wpr"))
    content = unseal(json.loads((path / "recording.json").read_text()))
    content["shards"] = content["shards"][:-1]
    (path / "recording.json").write_text(json.dumps(seal(content)))
    with open_recording(path) as torn, pytest.raises(RecordingError, match=r"not finished \(16 of 24 episodes\)"):
        record_on(network, torn, tmp_path / "n.wpr")


def test_only_our_own_networks_are_run_beside_their_acting(
    maze: TMaze, network: RecurrentQNetwork, make_sum_agent: SumAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {}
    theirs = make_sum_agent(maze, frozenset({"observation", "action"}))
    for agent in (theirs, network):
        for method in ("step", "activations"):
            seen, run = threads.setdefault(f"{agent.name} {method}", set()), getattr(agent, method)
            monkeypatch.setattr(agent, method, lambda *given, run=run, seen=seen: (seen.add(threading.get_ident()), run(*given))[1])
    here = {threading.get_ident()}
    record(theirs, maze, tmp_path / "theirs.wpr", EpsilonGreedy(theirs), 8, seed=0, episodes_per_shard=4).close()
    assert threads["sum step"] == threads["sum activations"] == here
    record(network, maze, tmp_path / "ours.wpr", EpsilonGreedy(network), 8, seed=0, sites=("encoder",), episodes_per_shard=4).close()
    assert threads[f"{network.name} step"] == here
    assert threads[f"{network.name} activations"] - here


def test_wrong_arguments_are_refused_in_words(maze: World, network: RecurrentQNetwork, tmp_path: Path) -> None:
    behaviour = CommonBehaviour(maze)
    with pytest.raises(KeyError, match=r"no site 'core\.x'; it has encoder, core\.h"):
        record(network, maze, tmp_path / "a.wpr", behaviour, 4, 0, ("core.x",))
    with pytest.raises(ValueError, match="n_episodes, n_envs, episodes_per_shard >= 1"):
        record(network, maze, tmp_path / "a.wpr", behaviour, 0, 0)
    with pytest.raises(ValueError, match="three fractions that sum to 1"):
        record(network, maze, tmp_path / "a.wpr", behaviour, 4, 0, splits=(0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="are not its own"):
        record(network, maze, tmp_path / "a.wpr", behaviour, 4, 0, channels=ALL_CHANNELS)
    with pytest.raises(ValueError, match="must be a subset"):
        record(None, maze, tmp_path / "a.wpr", behaviour, 4, 0, channels=frozenset({"smell", "action"}))
    assert not (tmp_path / "a.wpr").exists()


def test_an_agent_that_breaks_is_refused(maze: World, tmp_path: Path) -> None:
    broken = make_network(maze, NetworkConfig(core="gru", hidden_size=8), seed=0)
    with torch.no_grad():
        [*broken.head.parameters()][-1][0] = torch.nan
    with pytest.raises(RecordingError, match="'site/q' holds NaN"):
        record(broken, maze, tmp_path / "a.wpr", CommonBehaviour(maze), 4, 0)


class Closed(World):
    """A maze that shows its factors and nothing else, as foreign environments do."""

    gives = frozenset()

    def __init__(self, inner: World) -> None:
        self.inner = inner
        for name in ("name", "observation_shape", "action_names", "discount", "time_limit", "factors", "headline", "exploration"):
            setattr(self, name, getattr(inner, name))

    def factor_values(self, state: State) -> dict[str, Tensor]:
        return self.inner.factor_values(state)

    def driver(self, n_envs: int, generator: torch.Generator) -> Driver:
        return ClosedDriver(self, self.inner.driver(n_envs, generator))


class ClosedDriver(Driver):
    """Hands on everything but the states, in tensors that it overwrites at the next step."""

    def __init__(self, world: World, inner: Driver) -> None:
        self.world, self.inner, self.n_envs = world, inner, inner.n_envs
        self.observation, self.t = inner.observation.clone(), inner.t
        self._factors = {name: values.clone() for name, values in inner.factor_values().items()}

    def reset(self) -> Tensor:
        return self.inner.reset()

    def step(self, action: Tensor) -> DriverStep:
        step = self.inner.step(action)
        self.observation.copy_(step.observation)
        for name, values in self.inner.factor_values().items():
            self._factors[name].copy_(values)
        return replace(step, final_state={}, observation=self.observation)

    def factor_values(self) -> dict[str, Tensor]:
        return self._factors

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(saved)


def test_a_world_that_hides_its_state_is_recorded_with_its_factors(
    network: RecurrentQNetwork, maze: World, whole: Recording, record_own: RecordOwn, tmp_path: Path
) -> None:
    closed = record_own(network, Closed(maze), tmp_path / "a.wpr")
    assert not any(key.split("/")[0].endswith(("state", "belief", "expected")) for key in closed)
    assert {"factor/goal", "final_factor/position", "site/core.c"} <= set(closed)
    for key in closed:
        np.testing.assert_array_equal(closed[key][:], whole[key][:], err_msg=key)


# --- every world --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_can_be_recorded(name: str, tmp_path: Path) -> None:
    world = make_world(name)
    network = make_network(world, NetworkConfig(hidden_size=4, encoder_sizes=()), seed=0)
    with record(network, world, tmp_path / "a.wpr", EpsilonGreedy(network, 1.0), 2, 0, n_envs=2) as recording:
        assert recording.n_episodes == 2
        assert recording["observation"].shape == (recording.n_steps, *world.observation_shape)
        for factor in world.factors:
            values = recording[f"factor/{factor.name}"]
            assert values.shape == ((recording.n_steps,) if factor.is_categorical else (recording.n_steps, factor.size))
            assert (f"expected/{factor.name}" in recording) == ("belief" in world.gives)
        assert any(key.startswith("state/") for key in recording) == ("simulation" in world.gives)
        assert recording["final_observation"].shape == (2, *world.observation_shape)
