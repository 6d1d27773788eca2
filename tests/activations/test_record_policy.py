"""Other people's agents in Gymnasium environments: what a row means in every autoreset mode, who plays how often, what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor, nn

from worldprobe.activations import Recording, RecordingError, SiteError, TorchPolicy, record_policy

Same = Callable[[Recording, Recording], None]
LIMIT = 7


class Walk(gymnasium.Env[Any, Any]):
    """A walk on the integers from a random place: pays its distance from 0 and ends there, or after seven steps."""

    def __init__(self, action_space: spaces.Space[Any] | None = None) -> None:
        self.observation_space = spaces.Box(-99, 99, (2,), np.float64)
        self.action_space = action_space or spaces.Discrete(3)
        self.place, self.t = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.t = int(self.np_random.integers(1, 6)), 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += int(np.sum(action)) - 1
        self.t += 1
        return self.seen(), float(self.place), self.place == 0, self.t == LIMIT, {}

    def seen(self) -> Any:
        return np.array([self.place, self.np_random.integers(100) / 100])


class Memory(nn.Module):
    """h_t = h_{t-1} / 2 + o_t, with h_{-1} = 0."""

    def forward(self, observation: Tensor, h: Tensor) -> Tensor:
        return h / 2 + observation


class Agent(nn.Module):
    """Walks by its memory; what it holds can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.q = nn.Linear(2, 3)
        with torch.no_grad():
            self.q.weight.copy_(torch.tensor([[1.0, 2.0], [0.3, 5.0], [0.0, 4.0]]))
            self.q.bias.zero_()

    def act(self, observation: Tensor, h: Tensor | None, reset: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.zeros_like(observation) if h is None else h * ~reset[:, None]
        h = self.memory(observation, before)
        return self.q(h).argmax(1), h


def make_policy() -> TorchPolicy:
    agent = Agent()
    return TorchPolicy(agent, agent.act, "walker")


def read_place(env: Any) -> dict[str, Any]:
    return {"place": np.array(env.get_attr("place")), "both": np.stack([env.get_attr("place"), env.get_attr("t")], 1) / 2}


def make_env(mode: AutoresetMode, n_envs: int = 3, kind: Any = SyncVectorEnv, **options: Any) -> VectorEnv[Any, Any, Any]:
    env: VectorEnv[Any, Any, Any] = kind([Walk] * n_envs, autoreset_mode=mode, **options)
    return env


def record_walk(env: Any, path: Path, **options: Any) -> Recording:
    settings: dict[str, Any] = {"sites": {"core.h": "memory", "q": "q"}, "n_episodes": 22, "seed": 3, "episodes_per_shard": 8}
    return record_policy(make_policy(), env, path, **settings | {"factors": read_place, "n_classes": {"place": 13}} | options)


def test_factors_state_their_number_of_classes(tmp_path: Path) -> None:
    def read(env: Any) -> dict[str, Any]:
        return read_place(env) | {"far": np.array(env.get_attr("place")) > 2}

    with record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "a.wpr", factors=read) as recording:
        assert [(factor["kind"], factor["size"]) for factor in recording.identity.world["factors"]] == [
            ("categorical", 13),
            ("continuous", 2),
            ("categorical", 2),
        ]
    for n_classes in ({}, {"place": 2}):
        with pytest.raises(ValueError, match=r"factor 'place' holds the integers .*: expected classes from 0 and their number"):
            record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "b.wpr", n_classes=n_classes)


# --- what a row means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_a_row_is_one_step_of_the_walk(mode: AutoresetMode, epsilon: float, tmp_path: Path) -> None:
    with record_walk(make_env(mode), tmp_path / "a.wpr", epsilon=epsilon) as recording:
        arrays = {key: recording[key][:] for key in recording}
        assert recording.n_episodes == 22
        n_followed = 0
        for i, (start, length) in enumerate(recording.episodes[["start", "length"]].to_numpy()):
            rows = slice(start, start + length)
            seen = np.vstack([arrays["observation"][rows], arrays["final_observation"][i]])
            place = seen[:, 0]
            np.testing.assert_array_equal(arrays["factor/place"][rows], place[:-1])
            np.testing.assert_array_equal(arrays["factor/both"][rows], np.stack([place[:-1], np.arange(length)], 1) / 2)
            np.testing.assert_array_equal(np.diff(place), arrays["action"][rows] - 1)
            np.testing.assert_array_equal(arrays["reward"][rows], place[1:])
            np.testing.assert_array_equal(arrays["terminated"][rows], place[1:] == 0)
            assert not arrays["truncated"][rows][:-1].any()
            assert arrays["truncated"][rows][-1] == (length == LIMIT and place[-1] != 0)
            assert length == LIMIT or place[-1] == 0
            if mode is not AutoresetMode.SAME_STEP:
                np.testing.assert_array_equal(arrays["final_factor/place"][i], place[-1])
            h = np.zeros(2)
            for t in range(start, start + length):
                h = h / 2 + arrays["observation"][t]
                np.testing.assert_allclose(arrays["site/core.h"][t], h, atol=1e-5)
            q = arrays["site/q"][rows]
            np.testing.assert_allclose(q, arrays["site/core.h"][rows] @ Agent().q.weight.detach().numpy().T, atol=1e-4)
            n_followed += (q.argmax(1) == arrays["action"][rows]).sum()
        share = n_followed / recording.n_steps
        assert share == 1 if epsilon == 0 else 0.4 < share < 0.9
        assert arrays["terminated"].any() or epsilon == 0
        assert arrays["truncated"].any()
    assert ("final_factor/place" in arrays) == (mode is not AutoresetMode.SAME_STEP)


def test_autoreset_modes_wrappers_and_processes_give_the_same_arrays(assert_same: Same, tmp_path: Path) -> None:
    environments = {
        "next": make_env(AutoresetMode.NEXT_STEP),
        "disabled": make_env(AutoresetMode.DISABLED),
        "wrapped": RecordEpisodeStatistics(make_env(AutoresetMode.NEXT_STEP)),
        "processes": make_env(AutoresetMode.NEXT_STEP, kind=AsyncVectorEnv),
        "one buffer": make_env(AutoresetMode.NEXT_STEP, copy=False),
    }
    recordings = {name: record_walk(env, tmp_path / name) for name, env in environments.items()}
    environments["processes"].close()
    for recording in recordings.values():
        assert_same(recordings["next"], recording)
    same_step = record_walk(make_env(AutoresetMode.SAME_STEP), tmp_path / "same")
    for key in same_step:
        assert same_step[key][:].tobytes() == recordings["next"][key][:].tobytes(), key
    assert set(recordings["next"]) - set(same_step) == {"final_factor/place", "final_factor/both"}


def test_a_single_environment_is_a_vector_of_one(assert_same: Same, tmp_path: Path) -> None:
    one = record_walk(Walk(), tmp_path / "one", n_episodes=5)
    vector = record_walk(make_env(AutoresetMode.DISABLED, n_envs=1), tmp_path / "vector", n_episodes=5)
    assert_same(one, vector)


def test_the_file_names_agent_world_and_behaviour(tmp_path: Path) -> None:
    env = gymnasium.make_vec("FrozenLake-v1", num_envs=2, vectorization_mode="sync", is_slippery=False)
    table = nn.Embedding(16, 4)
    policy = TorchPolicy(table, lambda x, state, reset: (table(x).argmax(1), state), "table")
    with record_policy(policy, env, tmp_path / "a.wpr", sites={"q": "self"}, n_episodes=4, seed=0, epsilon=1.0) as recording:
        identity = recording.identity
        assert identity.world["name"] == recording.world_name == "FrozenLake-v1"
        assert identity.world["parameters"]["kwargs"]["is_slippery"] is False
        assert identity.world["actions"] == ["0", "1", "2", "3"]
        assert identity.world["time_limit"] == 100
        assert identity.behaviour == {"name": "policy", "epsilon": 1.0, "policy": {"name": "table"}}
        assert identity.agent is not None
        assert identity.agent["name"] == "table"
        observation = recording["observation"][:]
        assert observation.shape[1:] == (16,)
        np.testing.assert_array_equal(observation.sum(1), 1)  # a class, as a one-hot
        np.testing.assert_allclose(recording["q"][:], observation @ table.weight.detach().numpy(), atol=1e-6)
        recording.verify()


# --- fairness, seeds and interruption -----------------------------------------------------------------------------


def test_every_environment_plays_the_same_number_of_episodes(tmp_path: Path) -> None:
    """Environment i begins at i + 1 and walks down: its length is its number; the first that finish would all be environment 0's."""

    class Stairs(Walk):
        def __init__(self, first: int) -> None:
            super().__init__()
            self.first = first

        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            super().reset(**options)
            self.place = self.first
            return self.seen(), {}

    def down(x: Tensor, state: Any, _: Tensor) -> tuple[Tensor, Any]:
        return 0 * identity(x)[:, 0].long(), state

    identity = nn.Identity()
    env = SyncVectorEnv([partial(Stairs, first) for first in (1, 3, 6)])
    with record_policy(TorchPolicy(identity, down), env, tmp_path / "a.wpr", sites=["self"], n_episodes=11, seed=0) as recording:
        assert recording.episodes["length"].tolist() == [1, 3, 6, 1, 3, 6, 1, 3, 6, 1, 3]
        assert recording["observation"][recording.episodes["start"]][:, 0].tolist() == recording.episodes["length"].tolist()
        assert recording["terminated"][:].sum() == 11


def test_equal_seeds_give_equal_bytes_and_the_global_generator_is_left_alone(assert_same: Same, tmp_path: Path) -> None:
    agent = Agent()

    def draw(x: Tensor, h: Any, reset: Tensor) -> tuple[Tensor, Any]:
        _, h = agent.act(x, h, reset)
        return torch.multinomial(torch.ones(len(x), 3), 1)[:, 0], h

    options: dict[str, Any] = {"sites": ["memory", "q"], "n_episodes": 12, "episodes_per_shard": 5}
    recordings: list[Recording] = []
    for name, seed in (("1", 5), ("2", 5), ("3", 6)):
        torch.manual_seed(len(recordings))
        before = torch.get_rng_state()
        env = make_env(AutoresetMode.NEXT_STEP)
        recordings.append(record_policy(TorchPolicy(agent, draw), env, tmp_path / name, seed=seed, **options))
        assert torch.equal(torch.get_rng_state(), before)
    assert_same(recordings[0], recordings[1])
    assert recordings[0]["observation"][:5].tobytes() != recordings[2]["observation"][:5].tobytes()


def test_an_interrupted_recording_goes_on_where_it_stopped(assert_same: Same, tmp_path: Path) -> None:
    def stop(n_done: int, _: int) -> None:
        if n_done >= 16:
            raise KeyboardInterrupt

    whole = record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "torn", progress=stop)
    assert_same(record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "torn"), whole)
    with pytest.raises(RecordingError, match=r"holds another recording \(behaviour\.epsilon: 0\.0, now 0\.3\)"):
        record_walk(make_env(AutoresetMode.NEXT_STEP), tmp_path / "torn", epsilon=0.3)


def test_chance_of_foreign_policies_is_seeded_and_given_back(tmp_path: Path) -> None:
    agent = Agent()

    def act(x: Tensor, state: Any, reset: Tensor) -> tuple[Tensor, Any]:
        agent.q(x)
        drawn = [random.randrange(3), np.random.randint(3), int(torch.randint(3, ()))]  # noqa: NPY002 (as foreign policies do)
        return torch.tensor(drawn), state

    def actions(name: str) -> Any:
        with record_policy(
            TorchPolicy(agent, act), make_env(AutoresetMode.DISABLED), tmp_path / name, sites=["q"], n_episodes=6, seed=0
        ) as recording:
            return recording["action"][:]

    def drawn_after(record: Callable[[], Any]) -> tuple[Any, list[float]]:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        return record(), [random.random(), np.random.random(), float(torch.rand(()))]  # noqa: NPY002

    first, following = drawn_after(lambda: actions("first"))
    assert following == drawn_after(lambda: None)[1]
    np.testing.assert_array_equal(actions("second"), first)
    assert len(np.unique(first)) == 3


# --- sites --------------------------------------------------------------------------------------------------------


def test_gates_of_a_recurrent_policy_are_those_of_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    core, head = nn.LSTM(2, 4, 2), nn.Linear(4, 3)
    agent = nn.ModuleDict({"core": core, "head": head})

    def act(x: Tensor, state: Any, reset: Tensor) -> tuple[Tensor, Any]:
        if state is not None:
            state = tuple(leaf * ~reset[:, None] for leaf in state)
        y, state = core(x.unsqueeze(0), state)
        return head(y[0]).argmax(1), state

    sites = ["core.h", "core.1.c", "core.0.gates.forget", "core.1.gates.*", "head"]
    monkeypatch.setattr("worldprobe.activations._vector_tape.COMPLETED_ROWS", 7)  # several blocks
    with record_policy(
        TorchPolicy(agent, act), make_env(AutoresetMode.NEXT_STEP), tmp_path / "a.wpr", sites=sites, n_episodes=9, seed=0
    ) as recording:
        for start, length in recording.episodes[["start", "length"]].to_numpy():
            rows = slice(start, start + length)
            with torch.no_grad():
                y, _ = core(torch.from_numpy(recording["observation"][rows]).unsqueeze(1))
            np.testing.assert_allclose(recording["core.h"][rows, 4:], y[:, 0], atol=1e-6)
            c, gates = recording["core.1.c"][rows], {name: recording[f"core.1.gates.{name}"][rows] for name in ("forget", "input", "cell")}
            before = np.vstack([np.zeros((1, 4)), c[:-1]])
            np.testing.assert_allclose(c, gates["forget"] * before + gates["input"] * gates["cell"], atol=1e-5)
            np.testing.assert_allclose(recording["core.1.gates.output"][rows] * np.tanh(c), y[:, 0], atol=1e-5)


def test_maps_are_flattened_row_by_row(tmp_path: Path) -> None:
    maps = nn.Sequential(nn.Unflatten(1, (1, 1, 2)), nn.Conv2d(1, 3, 1))
    policy = TorchPolicy(maps, lambda x, state, reset: (maps(x).flatten(1).argmax(1) % 3, state))
    with record_policy(policy, make_env(AutoresetMode.NEXT_STEP), tmp_path / "a.wpr", sites=["1"], n_episodes=6, seed=0) as recording:
        assert recording.sites == {"1": 6}
        with torch.no_grad():
            expected = maps(torch.from_numpy(recording["observation"][:])).flatten(1)
        np.testing.assert_allclose(recording["1"][:], expected, atol=1e-5)


def test_continuous_and_multiple_actions_are_recorded_as_they_are(tmp_path: Path) -> None:
    identity = nn.Identity()
    spaces_and_actions = {
        "box": (spaces.Box(-5, 5, (2,)), lambda x, state, reset: (identity(x).clip(-5, 5), state)),
        "many": (spaces.MultiDiscrete([2, 3]), lambda x, state, reset: (identity(x).long() * 0 + 1, state)),
    }
    for name, (space, act) in spaces_and_actions.items():
        env = SyncVectorEnv([partial(Walk, space)] * 2)
        with record_policy(TorchPolicy(identity, act), env, tmp_path / name, sites=["self"], n_episodes=4, seed=0) as recording:
            action, observation = recording["action"][:], recording["observation"][:]
            expected = observation.clip(-5, 5) if name == "box" else np.ones_like(action)
            np.testing.assert_array_equal(action, expected)
            assert action.dtype == (np.float32 if name == "box" else np.int64)
            assert recording.identity.world["actions"] == []


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_policy_that_is_asked_for_what_it_does_not_do_is_refused(tmp_path: Path) -> None:
    agent, env = Agent(), make_env(AutoresetMode.NEXT_STEP)

    def record_with(function: Any, **options: Any) -> None:
        settings: dict[str, Any] = {"sites": ["q"], "n_episodes": 4, "seed": 0}
        record_policy(TorchPolicy(agent, function), env, tmp_path / "a.wpr", **settings | options)

    with pytest.raises(SiteError, match=r"'q' never fired"):
        record_with(lambda x, state, reset: (x[:, 0].long() * 0, state))
    with pytest.raises(SiteError, match=r"site 'q' has the shape \(1, 3\): expected a row for each of the 3 environments"):
        record_with(lambda x, state, reset: (agent.q(x[:1]).argmax(1).expand(3), state))
    with pytest.raises(ValueError, match=r"expected actions of shape \(3,\).*gave \(3, 3\); one-hot actions become numbers"):
        record_with(lambda x, state, reset: (agent.q(x), state))
    with pytest.raises(ValueError, match=r"expected actions in Discrete\(3\); the policy gave \[1, 3\]"):
        record_with(lambda x, state, reset: (agent.q(x).argmax(1) * 0 + torch.tensor([1, 3, 1]), state))
    with pytest.raises(ValueError, match=r"factor 'place' must have a row per environment, 3; got the shape \(2,\)"):
        record_with(agent.act, factors=lambda _: {"place": [1, 2]})
    with pytest.raises(KeyError, match=r"no module is called 'core'"):
        record_with(agent.act, sites=["core"])
    with pytest.raises(ValueError, match="epsilon is a probability"):
        record_with(agent.act, epsilon=1.5)
    with pytest.raises(ValueError, match="n_episodes, n_envs, episodes_per_shard >= 1"):
        record_with(agent.act, n_episodes=0)
    assert not (tmp_path / "a.wpr").exists()
    assert not any(part._forward_hooks for part in agent.modules())


def test_environments_that_hide_what_is_needed_are_refused(tmp_path: Path) -> None:
    def record_in(env: Any, **options: Any) -> None:
        record_walk(env, tmp_path / "a.wpr", factors=None, **options)

    with pytest.raises(TypeError, match=r"expected a gymnasium\.Env or a gymnasium\.vector\.VectorEnv, got a dict"):
        record_in({})
    env = make_env(AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(ValueError, match=r"must state its autoreset mode"):
        record_in(env)
    with pytest.raises(ValueError, match=r"epsilon > 0 draws one of finitely many actions"):
        record_in(SyncVectorEnv([lambda: Walk(spaces.Box(-1, 1, (1,)))]), epsilon=0.1)
    with pytest.raises(ValueError, match=r"expected actions that are one array"):
        record_in(SyncVectorEnv([lambda: Walk(spaces.Tuple([spaces.Discrete(2)]))]))

    class Forgetful(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            *moved, infos = super().step(actions)
            return *moved, {name: info for name, info in infos.items() if name != "final_obs"}

    with pytest.raises(ValueError, match=r"gives no infos\['final_obs'\]: the last observation would be lost"):
        record_in(make_env(AutoresetMode.SAME_STEP, kind=Forgetful))


def test_observations_of_several_parts_are_flattened_for_the_file_and_whole_for_the_policy(tmp_path: Path) -> None:
    class Parts(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict({"class": spaces.Discrete(200, start=-100), "number": spaces.Box(0, 1, (1,))})

        def seen(self) -> Any:
            return {"class": np.int64(self.place), "number": np.array([self.t / LIMIT], np.float32)}

    head = nn.Linear(1, 3)

    def act(x: Any, state: Any, _: Tensor) -> tuple[Tensor, Any]:
        assert x["class"].dtype == torch.int64
        return head(x["number"]).argmax(1), state

    for mode in AutoresetMode:
        env = SyncVectorEnv([Parts] * 2, autoreset_mode=mode)
        with record_policy(
            TorchPolicy(head, act),
            env,
            tmp_path / mode.name,
            sites=["self"],
            n_episodes=6,
            seed=0,
            factors=read_place,
            n_classes={"place": 13},
        ) as recording:
            observation, final = recording["observation"][:], recording["final_observation"][:]
            assert observation.shape[1:] == final.shape[1:] == (201,)
            np.testing.assert_array_equal(observation[:, :200].argmax(1) - 100, recording["factor/place"][:])
            np.testing.assert_allclose(observation[:, 200] * LIMIT, recording["t"][:], atol=1e-5)
            np.testing.assert_allclose(final[:, 200] * LIMIT, recording.episodes["length"], atol=1e-5)
