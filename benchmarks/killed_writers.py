"""Kill the writer of a recording, again and again, and see that nothing is lost but the shard in the making.

`python benchmarks/killed_writers.py [--kills 200] [--seed 0]` records the same episodes in child processes, alone and as two parts side
by side, and kills them (signal 9) at random times of the recording. After every kill the recording is opened, every file and block
in it is verified, and every array is compared with that of an uninterrupted recording; then the same call goes on. It prints one
JSON object: kills, kills that fell between two shards or before the first, recordings that were finished, and what differed (nothing,
or the exit status is 1).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from worldprobe.activations import EpsilonGreedy, Recording, RecordingError, open_recording, package_versions, record
from worldprobe.agents import NetworkConfig, RecurrentQNetwork, make_network
from worldprobe.worlds import TMaze

N_SHARDS, PER_SHARD = 10, 4
PARTS: tuple[list[tuple[int, int] | None], ...] = ([None], [(0, 2), (1, 2)])
"""Who records: one process, or two side by side."""


def write(network: RecurrentQNetwork, path: Path, part: tuple[int, int] | None) -> Recording:
    """Record, or go on recording."""
    behaviour, sites = EpsilonGreedy(network, 0.2), ("core.h", "core.c", "q")
    return record(
        network, TMaze(length=3), path, behaviour, N_SHARDS * PER_SHARD, 9, sites, n_envs=4, episodes_per_shard=PER_SHARD, part=part
    )


def start(network: RecurrentQNetwork, path: Path, part: tuple[int, int] | None) -> int:
    """Record in a child process and return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        write(network, path, part).close()
        status = 0
    finally:
        os._exit(status)


def differing(path: Path, whole: Recording) -> list[str]:
    """Return what is wrong with a recording that was interrupted: nothing, if every listed shard is whole and the one that was made."""
    if not path.is_dir() or not list(path.glob("*.json")):
        return []
    try:
        with open_recording(path) as torn:
            torn.verify()
            kept = torn.episodes.index.to_numpy()
            rows = whole.groups[:, None] == kept
            expected = {key: whole[key][kept if key.startswith(("episode/", "final_")) else rows.any(1)] for key in torn}
            expected.pop("episode/start", None)
            return [key for key, values in expected.items() if torn[key][:].tobytes() != values.tobytes()]
    except RecordingError as error:
        return [str(error)]


def kill_all(n_kills: int, seed: int) -> dict[str, Any]:
    """Kill writers until `n_kills` of them have died, and return what was seen."""
    torch.set_num_threads(1)
    network, delays = make_network(TMaze(length=3), NetworkConfig(hidden_size=8), seed=0), random.Random(seed)
    seen: dict[str, Any] = {"kills": 0, "kills_before_the_first_shard": 0, "kills_between_shards": 0, "finished": 0, "differing": []}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        whole = write(network, Path(folder) / "whole.wpr", None)
        longest = time.monotonic() - begin
        while seen["kills"] < n_kills:
            path = Path(folder) / "torn.wpr"
            parts = PARTS[seen["finished"] % 2]
            children = [start(network, path, part) for part in parts]
            time.sleep(delays.uniform(0, 0.6 * longest))
            for child in children:
                os.kill(child, signal.SIGKILL)
            statuses = [os.waitpid(child, 0)[1] for child in children]
            seen["kills"] += sum(map(os.WIFSIGNALED, statuses))
            seen["differing"] += differing(path, whole) + [
                f"exit status {status}" for status in statuses if status not in (0, signal.SIGKILL)
            ]
            n_shards = len(list(path.glob("*.h5")))
            seen["kills_before_the_first_shard"] += n_shards == 0
            seen["kills_between_shards"] += 0 < n_shards < N_SHARDS
            if not any(statuses):
                seen["finished"] += 1
                with open_recording(path) as recording:
                    seen["differing"] += [] if recording.is_complete else ["incomplete"]
                    seen["differing"] += [key for key in whole if recording[key][:].tobytes() != whole[key][:].tobytes()]
                shutil.rmtree(path)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seen = kill_all(arguments.kills, arguments.seed)
    print(json.dumps({"benchmark": "killed_writers", "versions": package_versions(), "seed": arguments.seed, **seen}, indent=1))
    sys.exit(bool(seen["differing"]))


if __name__ == "__main__":
    main()
