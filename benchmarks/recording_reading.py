"""How fast a recording is read: blocks of episodes in shuffled order against the same blocks in order, and the memory it takes.

`python benchmarks/recording_reading.py [--fast]` records a stream, runs an LSTM over it, and prints one JSON object: bytes read per
second of processor time in order and shuffled (the best of several rounds, files in the cache of the system), their ratio in percent,
and the peak of Python's memory while streaming a recording and one of four times its length.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import torch

from worldprobe.activations import CommonBehaviour, Recording, package_versions, record
from worldprobe.agents import NetworkConfig, make_network
from worldprobe.worlds import TMaze

SITES = ("core.h", "core.c")


def stream(recording: Recording, random_state: int | None) -> Iterator[int]:
    """Read all blocks and yield their bytes."""
    for batch in recording.batches(SITES, random_state=random_state):
        yield sum(values.nbytes for values in batch.values())


def bytes_per_second(recording: Recording, random_state: int | None) -> float:
    """Return the rate of one pass."""
    start = time.process_time()
    n_bytes = sum(stream(recording, random_state))
    return n_bytes / (time.process_time() - start)


def peak_memory(recording: Recording) -> int:
    """Return the peak of what Python and numpy hold during one shuffled pass, in bytes."""
    tracemalloc.start()
    sum(stream(recording, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a quarter of the episodes")
    n_episodes = 1024 if parser.parse_args().fast else 4096
    torch.set_num_threads(1)
    world = TMaze()
    world.gives = world.gives - {"belief"}
    agent = make_network(world, NetworkConfig(core="lstm", hidden_size=256), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        short, long = (
            record(agent, world, Path(folder) / f"{n}.wpr", CommonBehaviour(world), n, 0, SITES) for n in (n_episodes // 4, n_episodes)
        )
        rounds = [(bytes_per_second(long, None), bytes_per_second(long, seed)) for seed in range(5)]
        ordered, shuffled = (max(rates) for rates in zip(*rounds, strict=True))
        results = {
            "n_steps": long.n_steps,
            "ordered_MB_per_s": round(ordered / 1e6),
            "shuffled_MB_per_s": round(shuffled / 1e6),
            "shuffled_over_ordered_percent": round(100 * shuffled / ordered, 1),
            "peak_MB": round(peak_memory(short) / 1e6, 1),
            "peak_MB_of_four_times_the_length": round(peak_memory(long) / 1e6, 1),
        }
    print(json.dumps({"benchmark": "recording_reading", "versions": package_versions(), "threads": 1, **results}, indent=1))


if __name__ == "__main__":
    main()
