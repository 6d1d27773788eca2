"""How fast actors-critics and Q-learners learn here, beside the recurrent PPO of sb3-contrib, in processor seconds of one thread.

`python benchmarks/ppo_speed.py [--fast]` prints one JSON object: environment steps per processor second of acting and learning in the
T-Maze, 16 environments x 64 steps, 4 epochs of 4 minibatches, an LSTM of 256 units and two layers of 64 behind it: our PPO and PQN, the
recurrent PPO as it comes (an LSTM for the actor and one for the critic), and in its `shared_lstm` form. Rounds are interleaved; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv

from worldprobe.activations import package_versions
from worldprobe.agents import ALGORITHMS, Actor, NetworkConfig, PpoConfig, PqnConfig, TrainingConfig, make_network, seeded_generator
from worldprobe.worlds import TMaze, WorldEnv

N_ENVS, N_STEPS = 16, 64


def ours(config: TrainingConfig, *, actor_critic: bool) -> Callable[[int], None]:
    """Return what acts and learns for some rollouts."""
    world = TMaze()
    shape = NetworkConfig(core="lstm", hidden_size=256, encoder_sizes=(), head_sizes=(64, 64), actor_critic=actor_critic)
    network = make_network(world, shape, 0)
    learner = ALGORITHMS[config.algorithm].learner(network, config, 0.98, seeded_generator(0, "minibatches"))
    actor = Actor(network, world.driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "actions"), samples=actor_critic)

    def rollouts(n: int) -> None:
        for _ in range(n):
            learner.update(actor.collect(N_STEPS, 0.1), 3e-4)

    return rollouts


def theirs(**policy: Any) -> Callable[[int], None]:
    """Return the same of RecurrentPPO."""
    envs = DummyVecEnv([lambda: WorldEnv(TMaze())] * N_ENVS)
    model = RecurrentPPO(
        "MlpLstmPolicy", envs, n_steps=N_STEPS, batch_size=N_ENVS * N_STEPS // 4, n_epochs=4, seed=0, device="cpu",
        policy_kwargs={"lstm_hidden_size": 256, "net_arch": [64, 64], **policy},
    )  # fmt: skip
    return lambda n: model.learn(n * N_ENVS * N_STEPS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="fewer rounds")
    fast = parser.parse_args().fast
    torch.set_num_threads(1)
    sizes: dict[str, Any] = {"n_envs": N_ENVS, "n_steps": N_STEPS, "n_epochs": 4, "n_minibatches": 4}
    learners = {
        "ppo": ours(PpoConfig(**sizes), actor_critic=True),
        "pqn": ours(PqnConfig(**sizes), actor_critic=False),
        "RecurrentPPO": theirs(),
        "RecurrentPPO, shared_lstm": theirs(shared_lstm=True, enable_critic_lstm=False),
    }
    n_rollouts, seconds = 1 if fast else 3, {name: list[float]() for name in learners}
    for round_number in range(2 if fast else 6):
        for name, learn in learners.items():
            began = time.process_time()
            learn(n_rollouts)
            if round_number:
                seconds[name].append(time.process_time() - began)
    rate = {name: n_rollouts * N_ENVS * N_STEPS / statistics.median(each) for name, each in seconds.items()}
    peers = [name for name in rate if name.startswith("Recurrent")]
    ratios = {f"{one} over {other}": round(rate[one] / rate[other], 2) for one in ("ppo", "pqn") for other in peers}
    print(json.dumps({"benchmark": "ppo_speed", "versions": package_versions(), "steps_per_cpu_s": rate, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
