"""Agents of other libraries: their conventions of state, reset and action, each against the library itself or torch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.modules import MLP, GRUModule, LSTMModule, QValueModule, set_recurrent_mode

from worldprobe.activations import Policy, Recorder, Recording, StableBaselinesPolicy, TensorDictPolicy, record_policy

Environment = gymnasium.Env[Any, Any]


def make_env() -> Environment:
    """CartPole without its velocities, of at most 40 steps."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    env: Environment = gymnasium.make("CartPole-v1", max_episode_steps=40)
    return gymnasium.wrappers.TransformObservation(env, lambda seen: seen[::2], space)


def record_few(policy: Policy, path: Path, sites: Any, **options: Any) -> Recording:
    return record_policy(policy, SyncVectorEnv([make_env] * 3), path, sites=sites, n_episodes=10, seed=0, **options)


def episodes_of(recording: Recording) -> Iterator[slice]:
    for start, length in recording.episodes[["start", "length"]].to_numpy():
        yield slice(start, start + length)


def run_from_zero(core: nn.LSTM | nn.GRU, observation: Any) -> Any:
    """The outputs of a core over one episode that begins with a state of zeros, (T, width)."""
    with torch.no_grad():
        return core(torch.from_numpy(observation).unsqueeze(0 if core.batch_first else 1))[0].reshape(len(observation), -1)


# --- stable-baselines3 --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dqn() -> DQN:
    return DQN("MlpPolicy", make_env(), seed=0, device="cpu", policy_kwargs={"net_arch": [8]})


@pytest.fixture(scope="module")
def ppo() -> PPO:
    model = PPO("MlpPolicy", make_env(), seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    with torch.no_grad():  # so that its probabilities lie between one half and one
        model.policy.action_net.weight.mul_(300)
    return model


def test_a_dqn_is_greedy_in_the_values_of_its_row(dqn: DQN, tmp_path: Path) -> None:
    dqn.exploration_rate = 1.0  # asked itself, it would only explore, and not run its network
    with record_few(StableBaselinesPolicy(dqn, deterministic=False), tmp_path / "a", {"q": "q_net"}) as recording:
        np.testing.assert_array_equal(recording["action"][:], recording["q"][:].argmax(1))
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(recording["q"][:]), dqn.q_net(torch.from_numpy(recording["observation"][:])))
    with record_few(StableBaselinesPolicy(dqn), tmp_path / "b", {"q": "q_net"}, epsilon=1.0) as recording:
        chosen = recording["action"][:] == recording["q"][:].argmax(1)
        assert abs(chosen.mean() - 0.5) < 4 * 0.5 / chosen.size**0.5


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_ppo_acts_by_the_probabilities_of_its_row(ppo: PPO, deterministic: bool, tmp_path: Path) -> None:
    policy = StableBaselinesPolicy(ppo, deterministic)
    with record_few(policy, tmp_path / "a", {"actor": "mlp_extractor.policy_net", "logits": "action_net"}) as recording:
        action, logits = recording["action"][:], torch.from_numpy(recording["logits"][:])
        with torch.no_grad():
            torch.testing.assert_close(ppo.policy.action_net(torch.from_numpy(recording["actor"][:])), logits)
        if deterministic:
            np.testing.assert_array_equal(action, ppo.predict(recording["observation"][:], deterministic=True)[0])
            np.testing.assert_array_equal(action, logits.argmax(1))
        else:
            p = logits.softmax(1)[:, 1].double().numpy()
            assert 0.05 < np.minimum(p, 1 - p).mean() < 0.45
            assert abs((action - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())
            p_taken = np.where(action == 1, p, 1 - p)
            assert p_taken.mean() > 0.5


def test_observations_are_normalised_as_in_training_and_recorded_as_they_came(tmp_path: Path) -> None:
    normalised = VecNormalize(DummyVecEnv([make_env]))
    normalised.obs_rms.mean, normalised.obs_rms.var = np.array([0.1, -0.2]), np.array([4.0, 0.01])
    model = PPO("MlpPolicy", normalised, seed=0, device="cpu")
    with record_few(StableBaselinesPolicy(model), tmp_path / "a", ["features_extractor"]) as recording:
        expected = (recording["observation"][:] - [0.1, -0.2]) / np.sqrt([4.0, 0.01])
        np.testing.assert_allclose(recording["features_extractor"][:], expected, atol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_state_of_a_recurrent_ppo_is_that_after_the_observation(n_layers: int, tmp_path: Path) -> None:
    options = {"lstm_hidden_size": 6, "n_lstm_layers": n_layers}
    model = RecurrentPPO("MlpLstmPolicy", make_env(), seed=0, device="cpu", policy_kwargs=options)
    with record_few(StableBaselinesPolicy(model), tmp_path / "a", ["lstm_actor"]) as recording:
        assert recording.sites["lstm_actor.h"] == 6 * n_layers
        for rows in episodes_of(recording):
            observation, h, c = (recording[key][rows] for key in ("observation", "lstm_actor.h", "lstm_actor.c"))
            state, starts = None, np.array([True])
            for t in range(len(observation)):
                action, state = model.predict(observation[t : t + 1], state=state, episode_start=starts, deterministic=True)
                starts = np.array([False])
                assert action[0] == recording["action"][rows][t]
                np.testing.assert_allclose(h[t], state[0][:, 0].reshape(-1), atol=1e-6)
                np.testing.assert_allclose(c[t], state[1][:, 0].reshape(-1), atol=1e-6)
            np.testing.assert_allclose(h[:, -6:], run_from_zero(model.policy.lstm_actor, observation), atol=1e-6)


# --- TorchRL ------------------------------------------------------------------------------------------------------


def make_network(core: Any, one_hot: bool = False) -> TensorDictSequential:
    head = TensorDictModule(MLP(in_features=6, out_features=2, num_cells=[]), ["embed"], ["action_value"])
    return TensorDictSequential(core, head, QValueModule(action_space="one-hot" if one_hot else "categorical"))


CORES: dict[str, Any] = {
    "lstm": lambda: LSTMModule(input_size=2, hidden_size=6, in_key="observation", out_key="embed"),
    "two layers": lambda: LSTMModule(input_size=2, hidden_size=6, num_layers=2, in_key="observation", out_key="embed"),
    "in python": lambda: LSTMModule(input_size=2, hidden_size=6, in_key="observation", out_key="embed", python_based=True),
    "gru": lambda: GRUModule(input_size=2, hidden_size=6, in_key="observation", out_key="embed"),
}


@pytest.mark.parametrize("name", CORES)
def test_the_state_of_a_torchrl_module_is_that_of_its_own_rollouts(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = make_network(CORES[name]())
    kind = "gru" if name == "gru" else "lstm"
    sites = {"core.h": f"module.0.{kind}.h", "q": "module.1.module"}
    with record_few(TensorDictPolicy(network), tmp_path / "a", sites, epsilon=0.3) as recording:
        # all episodes as one sequence: TorchRL itself begins anew where "is_init" says so
        observation = torch.from_numpy(recording["observation"][:])
        begins = torch.from_numpy(recording["t"][:] == 0)
        data = TensorDict({"observation": observation, "is_init": begins.unsqueeze(1)}, [len(begins)]).unsqueeze(0)
        with torch.no_grad(), set_recurrent_mode(True):
            out = network(data)
        np.testing.assert_allclose(recording["core.h"][:, -6:], out["embed"][0], atol=1e-6)
        np.testing.assert_allclose(recording["q"][:], out["action_value"][0], atol=1e-6)
        followed = recording["action"][:] == recording["q"][:].argmax(1)
        assert abs(followed.mean() - 0.85) < 4 * np.sqrt(0.85 * 0.15 / followed.size)
        if name != "in python":
            for rows in episodes_of(recording):
                expected = run_from_zero(getattr(network[0], kind), recording["observation"][rows])
                np.testing.assert_allclose(recording["core.h"][rows, -6:], expected, atol=1e-6)


def test_one_hot_actions_are_the_same_actions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    core = CORES["lstm"]()
    one_hot = make_network(core, one_hot=True)
    with pytest.raises(ValueError, match=r"one-hot actions become numbers"):
        record_few(TensorDictPolicy(one_hot), tmp_path / "wrong", ["module.1.module"])
    with record_few(TensorDictPolicy(one_hot, one_hot=True), tmp_path / "a", {"q": "module.1.module"}) as recording:
        np.testing.assert_array_equal(recording["action"][:], recording["q"][:].argmax(1))


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_probabilistic_module_draws_or_takes_its_mode(deterministic: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(2, 2)
    drawn = ProbabilisticTensorDictModule(["logits"], ["action"], distribution_class=torch.distributions.Categorical)
    policy = TensorDictSequential(TensorDictModule(linear, ["observation"], ["logits"]), drawn)
    with record_few(TensorDictPolicy(policy, deterministic), tmp_path / "a", {"logits": "module.0.module"}) as recording:
        action, logits = recording["action"][:], torch.from_numpy(recording["logits"][:])
        p = logits.softmax(1)[:, 1].double().numpy()
        if deterministic:
            np.testing.assert_array_equal(action, p > 0.5)
        else:
            assert 0 < action.mean() < 1
            assert abs((action - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_all_of_them_compute_the_same_with_and_without_hooks(dqn: DQN, ppo: PPO) -> None:
    torch.manual_seed(0)
    observation, begins = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32), np.ones(4, bool)
    recurrent = RecurrentPPO("MlpLstmPolicy", make_env(), seed=0, device="cpu", policy_kwargs={"lstm_hidden_size": 6})
    policies: list[tuple[Policy, list[str]]] = [
        (StableBaselinesPolicy(dqn), ["q_net.q_net.*"]),
        (StableBaselinesPolicy(ppo, deterministic=False), ["mlp_extractor.policy_net.*", "action_net"]),
        (StableBaselinesPolicy(recurrent, deterministic=False), ["lstm_actor", "action_net"]),
        (TensorDictPolicy(make_network(CORES["lstm"]())), ["module.0.lstm", "module.1.module.*"]),
    ]

    def answers(policy: Policy, end_step: Callable[[], object]) -> list[Tensor]:
        torch.manual_seed(1)
        state, every = None, []
        for t in range(3):
            action, state = policy.act(observation, state, begins & (t == 0))
            held = state.values() if isinstance(state, dict) else state or ()
            every += [torch.as_tensor(action), *map(torch.as_tensor, held)]
            end_step()
        return every

    for policy, sites in policies:
        plain = answers(policy, lambda: None)
        with Recorder(policy.module, sites) as recorder:
            hooked = answers(policy, recorder.take)
        assert all(torch.equal(one, other) for one, other in zip(plain, hooked, strict=True))
