"""How fast a recording is read: blocks of episodes in shuffled order against the same blocks in order, and the memory it takes.

`python benchmarks/recording_reading.py [--fast]` records a stream, runs an LSTM over it, and prints one JSON object: bytes read per
second of processor time in order and shuffled (the best of several rounds, files in the cache of the system), their ratio in percent,
and the peak of Python's memory while streaming a recording and one of four times its length; and, for every precision with and without
compression, bytes on the disk per step, processor seconds of writing beside plain float32, the rate of reading, and the largest
and the relative root mean square error of what is read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import CommonBehaviour, Recording, package_versions, record
from worldprobe.agents import NetworkConfig, RecurrentQNetwork, make_network
from worldprobe.worlds import TMaze, World

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


def storage(folder: Path, agent: RecurrentQNetwork, world: World, n_episodes: int) -> list[dict[str, object]]:
    """Record the same with every precision and compression."""
    rows, base = list[dict[str, object]](), 0.0
    plain = dict[str, NDArray[np.float32]]()
    for precision in ("float32", "float16", "bfloat16"):
        for compression in ("none", "zstd"):
            path = folder / f"{precision}-{compression}.wpr"
            start = time.process_time()
            kept = record(agent, world, path, CommonBehaviour(world), n_episodes, 0, SITES, precision=precision, compression=compression)
            seconds = time.process_time() - start
            size = sum(file.stat().st_size for file in path.rglob("*.h5"))
            values = {site: kept[site][:] for site in SITES}
            plain, base = plain or values, base or seconds
            wrong = np.concatenate([values[site] - plain[site] for site in SITES])
            scale = np.sqrt(np.mean(np.square(np.concatenate(list(plain.values())))))
            rows.append(
                {
                    "precision": precision,
                    "compression": compression,
                    "bytes_per_step": round(size / kept.n_steps),
                    "writing_over_plain": round(seconds / base, 2),
                    "reading_MB_per_s": round(max(bytes_per_second(kept, seed) for seed in range(3)) / 1e6),
                    "max_error": float(np.abs(wrong).max()),
                    "relative_rms_error": float(np.sqrt(np.mean(np.square(wrong))) / scale),
                }
            )
    return rows


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
            "storage": storage(Path(folder), agent, world, n_episodes // 2),
        }
    print(json.dumps({"benchmark": "recording_reading", "versions": package_versions(), "threads": 1, **results}, indent=1))


if __name__ == "__main__":
    main()
