"""A RecurrentPPO of sb3-contrib in a CartPole without velocities, from learning to the report: does its state hold what it never saw?

`python examples/recurrent_ppo_report.py [--steps N] [--twins N] [--directory DIR]`
"""

import argparse
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
from sb3_contrib import RecurrentPPO

from worldprobe.activations import StableBaselinesPolicy, record_policy, replay_policy
from worldprobe.analysis import ExamineConfig, FloorConfig, examine_recordings
from worldprobe.worlds import Headline


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1", max_episode_steps=200), lambda seen: seen[::2], space)


def make_policy(seed: int, steps: int = 0) -> StableBaselinesPolicy:
    """Return a policy, trained or not."""
    model = RecurrentPPO("MlpLstmPolicy", make_env(), seed=seed, device="cpu", n_steps=256, policy_kwargs={"lstm_hidden_size": 64})
    return StableBaselinesPolicy(model.learn(steps) if steps else model, deterministic=False)


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=512)
parser.add_argument("--twins", type=int, default=2)
parser.add_argument("--episodes", type=int, default=90)
parser.add_argument("--directory", type=Path)
chosen = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    envs, policy, sites = gymnasium.vector.SyncVectorEnv([make_env] * 8), make_policy(0, chosen.steps), ["lstm_actor.h"]
    recordings = {
        name: record_policy(
            policy, envs, f"{folder}/{name}.wpr", sites=sites, n_episodes=chosen.episodes, seed=0, epsilon=epsilon,
            factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2], "pole": np.stack(env.get_attr("state"))[:, 2] > 0},
        )
        for name, epsilon in (("own", 0.0), ("common", 1.0))
    }  # fmt: skip
    untrained = [{name: replay_policy(make_policy(n), each, sites) for name, each in recordings.items()} for n in range(chosen.twins)]
    cell = Headline("velocity", 1, site="lstm_actor.h", streams="common")
    config = ExamineConfig(floors=FloorConfig(max_width=200)) if chosen.directory else ExamineConfig(floors=FloorConfig(("linear",), 20))
    print(examine_recordings(chosen.directory or f"{folder}/report", recordings, cell, untrained=untrained, config=config).name)
