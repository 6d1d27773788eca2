"""A PPO of stable-baselines3, recorded and probed: actions are drawn, and the site is the last layer that the actor has for itself."""

import tempfile

import gymnasium
import numpy as np
from stable_baselines3 import PPO

from worldprobe.activations import StableBaselinesPolicy, record_policy
from worldprobe.probes import cross_fit, group_folds, r2


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


model = PPO("MlpPolicy", make_env(), n_steps=256, seed=0, device="cpu").learn(1024)

with tempfile.TemporaryDirectory() as folder:
    envs = gymnasium.vector.SyncVectorEnv([make_env] * 8)
    recording = record_policy(
        StableBaselinesPolicy(model, deterministic=False), envs, f"{folder}/ppo.wpr", sites={"actor": "mlp_extractor.policy_net"},
        n_episodes=80, seed=0, factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
    )  # fmt: skip
    velocity, episodes = recording["factor/velocity"][:], recording.groups
    for site in ("observation", "actor"):
        fit = cross_fit(recording[site][:], velocity, episodes, folds=group_folds(episodes))
        print(site, r2(velocity, fit.predictions).round(2))
