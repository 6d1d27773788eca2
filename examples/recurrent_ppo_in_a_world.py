"""A recurrent PPO of sb3-contrib in our T-Maze, beside the exact belief: its state holds what the first cell told, its input does not."""

import tempfile

from sb3_contrib import RecurrentPPO

from worldprobe.activations import StableBaselinesPolicy, record_in_world
from worldprobe.probes import cross_fit, group_folds, r2
from worldprobe.worlds import TMaze, WorldEnv

world = TMaze(length=4)
model = RecurrentPPO("MlpLstmPolicy", WorldEnv(world), n_steps=128, seed=0, device="cpu", policy_kwargs={"lstm_hidden_size": 64}).learn(512)

with tempfile.TemporaryDirectory() as folder:
    recording = record_in_world(
        StableBaselinesPolicy(model, deterministic=False), world, f"{folder}/ppo.wpr", sites=["lstm_actor.h", "lstm_actor.c"],
        n_episodes=300, seed=0,
    )  # fmt: skip
    belief, episodes = recording["expected/goal"][:], recording.groups
    for site in ("observation", "lstm_actor.h", "lstm_actor.c"):
        fit = cross_fit(recording[site][:], belief, episodes, folds=group_folds(episodes))
        print(site, r2(belief, fit.predictions).round(2))
