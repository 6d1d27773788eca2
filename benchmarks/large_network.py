"""How fast a network of 50 million weights learns on a GPU, and at what share of the rate at which the GPU multiplies matrices.

`python benchmarks/large_network.py [--device cuda] [--hidden-size 2560]` trains an LSTM by PQN(lambda) in the T-Maze, acting included, in
float32 and in bfloat16, and prints one JSON object: versions, the device, and for each precision environment steps per second, floating
point operations per second (2 per weight and row forwards, 4 backwards), the measured rate of the product of matrices of the same shape,
and their ratio. Where there is no GPU it says so and measures nothing; `--device cpu --hidden-size 512` measures a small one there.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from worldprobe.activations import package_versions
from worldprobe.agents import Actor, NetworkConfig, PqnConfig, PqnLearner, RecurrentQNetwork, make_network, seeded_generator
from worldprobe.worlds import make_world

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
N_WARM, N_TIMED = 2, 5
"""Rollouts before the clock starts, and on the clock."""


def synchronise(device: str) -> float:
    """Wait for the device and return the time."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def product_rate(device: str, rows: int, width: int, dtype: torch.dtype) -> float:
    """Return the operations per second of (rows, width) @ (width, 4 width), the best of several."""
    a, b = torch.randn(rows, width, device=device, dtype=dtype), torch.randn(width, 4 * width, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        start = synchronise(device)
        a @ b
        best = min(best, synchronise(device) - start)
    return 2 * rows * width * 4 * width / best


def measure(device: str, precision: str, hidden_size: int, config: PqnConfig) -> dict[str, Any]:
    """Act and learn, and return rates."""
    world = make_world("tmaze")
    network: RecurrentQNetwork = make_network(
        world, NetworkConfig(core="lstm", hidden_size=hidden_size, encoder_sizes=(hidden_size,)), seed=0
    )
    n_weights = sum(weight.numel() for weight in network.parameters())
    network.run_on(device, precision)  # type: ignore[arg-type]
    actor = Actor(network, world.driver(config.n_envs, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    learner = PqnLearner(network, config, world.discount, seeded_generator(0, "minibatches"))
    for _ in range(N_WARM):
        learner.update(actor.collect(config.n_steps, 0.1), 1e-4)
    start = synchronise(device)
    for _ in range(N_TIMED):
        learner.update(actor.collect(config.n_steps, 0.1), 1e-4)
    seconds = synchronise(device) - start
    n_steps = N_TIMED * config.n_envs * config.n_steps
    operations = n_steps * n_weights * (2 + 6 * config.n_epochs)
    rows = config.n_envs // config.n_minibatches * config.n_steps
    rate = product_rate(device, rows, hidden_size, DTYPES[precision])
    return {
        "precision": precision,
        "weights": n_weights,
        "steps_per_second": round(n_steps / seconds, 1),
        "operations_per_second": operations / seconds,
        "product_rate": rate,
        "share_of_product_rate": round(operations / seconds / rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu with a small network")
    parser.add_argument("--hidden-size", type=int, default=2560, help="2560: 52 million weights")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "large_network", "versions": package_versions()}
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print(json.dumps(result | {"skipped": "there is no GPU here: nothing was measured"}, indent=1))
        return
    torch.set_num_threads(1)
    on_gpu = arguments.device.startswith("cuda")
    config = PqnConfig(n_envs=256 if on_gpu else 16, n_steps=64 if on_gpu else 16, n_epochs=2, n_minibatches=4)
    name = torch.cuda.get_device_name() if on_gpu else "one thread"
    results = [measure(arguments.device, precision, arguments.hidden_size, config) for precision in DTYPES]
    print(json.dumps(result | {"device": name, "results": results}, indent=1))


if __name__ == "__main__":
    main()
