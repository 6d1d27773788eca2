"""A DQN of stable-baselines3, recorded and probed: without memory it holds of the velocities what its input holds."""

import tempfile

import gymnasium
import numpy as np
from stable_baselines3 import DQN

from worldprobe.activations import StableBaselinesPolicy, record_policy
from worldprobe.probes import cross_fit, group_folds, r2


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


model = DQN("MlpPolicy", make_env(), learning_starts=100, seed=0, device="cpu").learn(1000)

with tempfile.TemporaryDirectory() as folder:
    envs = gymnasium.vector.SyncVectorEnv([make_env] * 8)
    recording = record_policy(
        StableBaselinesPolicy(model), envs, f"{folder}/dqn.wpr", sites={"hidden": "q_net.q_net.3", "q": "q_net"}, n_episodes=80, seed=0,
        epsilon=0.2, factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
    )  # fmt: skip
    velocity, episodes = recording["factor/velocity"][:], recording.groups
    for site in ("observation", "hidden", "q"):
        fit = cross_fit(recording[site][:], velocity, episodes, folds=group_folds(episodes))
        print(site, r2(velocity, fit.predictions).round(2))
