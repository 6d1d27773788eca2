"""A RecurrentPPO of sb3-contrib, recorded and probed: velocities that it never saw stand in h, c and the gates of its actor."""

import tempfile

import gymnasium
import numpy as np
from sb3_contrib import RecurrentPPO

from worldprobe.activations import StableBaselinesPolicy, record_policy
from worldprobe.probes import cross_fit, group_folds, r2


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


settings = {"n_steps": 128, "n_epochs": 2, "policy_kwargs": {"lstm_hidden_size": 32}}
model = RecurrentPPO("MlpLstmPolicy", make_env(), seed=0, device="cpu", **settings).learn(512)

with tempfile.TemporaryDirectory() as folder:
    envs = gymnasium.vector.SyncVectorEnv([make_env] * 8)
    recording = record_policy(
        StableBaselinesPolicy(model, deterministic=False), envs, f"{folder}/recurrent.wpr", sites=["lstm_actor"], n_episodes=80, seed=0,
        factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
    )  # fmt: skip
    velocity, episodes = recording["factor/velocity"][:], recording.groups
    for site in ("observation", "lstm_actor.h", "lstm_actor.c", "lstm_actor.gates.forget"):
        fit = cross_fit(recording[site][:], velocity, episodes, folds=group_folds(episodes))
        print(site, r2(velocity, fit.predictions).round(2))
