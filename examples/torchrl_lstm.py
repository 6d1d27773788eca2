"""A Q-network of TorchRL with an LSTM, recorded and probed: what it writes to ("next", key) is carried on by itself."""

import tempfile

import gymnasium
import numpy as np
import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import MLP, LSTMModule, QValueModule

from worldprobe.activations import TensorDictPolicy, record_policy
from worldprobe.probes import cross_fit, group_folds, r2


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


torch.manual_seed(0)
lstm = LSTMModule(input_size=2, hidden_size=32, in_key="observation", out_key="embed")
head = TensorDictModule(MLP(in_features=32, out_features=2, num_cells=[]), ["embed"], ["action_value"])
network = TensorDictSequential(lstm, head, QValueModule(action_space="categorical"))  # yours, trained, here

with tempfile.TemporaryDirectory() as folder:
    envs = gymnasium.vector.SyncVectorEnv([make_env] * 8)
    recording = record_policy(
        TensorDictPolicy(network), envs, f"{folder}/network.wpr", sites={"core.h": "module.0.lstm.h", "q": "module.1.module"},
        n_episodes=80, seed=0, epsilon=0.2, factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
    )  # fmt: skip
    velocity, episodes = recording["factor/velocity"][:], recording.groups
    for site in ("observation", "core.h", "q"):
        fit = cross_fit(recording[site][:], velocity, episodes, folds=group_folds(episodes))
        print(site, r2(velocity, fit.predictions).round(2))
