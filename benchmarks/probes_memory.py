"""What a fit over a recording of 20 GB holds in memory.

`python benchmarks/probes_memory.py [--gigabytes G] [--fast]` records h and c of an LSTM of 512 units in a T-Maze, and fits probes of the
position at 4 horizons to batches of it until 20 GB of activations have gone by: the recording is read over and over, its episodes under
new numbers, so that neither disk nor waiting grows with what is measured. Every probe has a process of its own, which prints what it held
when the first batch came and its peak; the last line is one JSON object with all of it. Ridge reads the rows once, and chooses a penalty
on folds of episodes; the logistic probe goes over them again and again (a hundredth of the bytes, each read a hundred times).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import CommonBehaviour, Recording, open_recording, package_versions, record
from worldprobe.agents import NetworkConfig, make_network
from worldprobe.probes import LogisticProbe, RidgeProbe
from worldprobe.worlds import TMaze

SITES = ("core.h", "core.c")
HORIZONS = (0, 1, 2, 4)
SHARES = {"ridge": 1.0, "logistic": 0.01}
"""Share of the bytes that goes by in each pass."""

Batch = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass
class Stream:
    """Batches of a recording, read again and again until enough bytes have gone by."""

    recording: Recording
    n_bytes: float
    passed: float = 0.0
    resident_at_first: float = 0.0

    def batches(self) -> Iterator[Batch]:
        """Yield activations, the position at each horizon, and episode numbers that never repeat."""
        left, again = self.n_bytes, 0
        while left > 0:
            for batch in self.recording.batches((*SITES, "factor/position"), n_steps=4096):
                X = np.concatenate([batch[site] for site in SITES], axis=1)
                position, groups = batch["factor/position"], batch["groups"]
                ahead = [np.concatenate([position[k:], np.repeat(position[-1:], k)]) for k in HORIZONS]
                self.resident_at_first = self.resident_at_first or resident()
                self.passed += X.nbytes
                left -= X.nbytes
                yield X, np.stack(ahead, axis=1), groups + again * self.recording.n_episodes
                if left <= 0:
                    return
            again += 1


def resident(field: str = "VmRSS") -> float:
    """Return the megabytes that this process holds now, or ("VmHWM") at its peak."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def fit(what: str, path: Path, n_bytes: float) -> dict[str, Any]:
    """Fit one probe, and return what it held."""
    torch.set_num_threads(2)
    start = time.perf_counter()
    with open_recording(path) as recording:
        stream = Stream(recording, n_bytes * SHARES[what])
        if what == "ridge":
            RidgeProbe(precision="float32").fit_batches((X, Y.astype(np.float64), groups) for X, Y, groups in stream.batches())
        else:
            LogisticProbe(alphas=(1e-4,)).fit_batches(stream.batches)
    return {
        "GB": round(n_bytes * SHARES[what] / 1e9, 2),
        "GB_read": round(stream.passed / 1e9, 2),
        "resident_MB_at_first_batch": round(stream.resident_at_first),
        "peak_resident_MB": round(resident("VmHWM")),
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--fast", action="store_true", help="0.5 GB")
    parser.add_argument("--fit", choices=tuple(SHARES), help=argparse.SUPPRESS)
    parser.add_argument("--recording", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    gigabytes = 0.5 if arguments.fast else arguments.gigabytes
    if arguments.fit:
        print(json.dumps(fit(arguments.fit, arguments.recording, gigabytes * 1e9)))
        return
    world = TMaze()
    world.gives = world.gives - {"belief"}
    agent = make_network(world, NetworkConfig(core="lstm", hidden_size=512), seed=0)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "common.wpr"
        record(agent, world, path, CommonBehaviour(world), 2048, 0, SITES).close()
        for what in SHARES:
            command = [sys.executable, __file__, "--fit", what, "--recording", str(path), "--gigabytes", str(gigabytes)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[what] = json.loads(out)
            print(f"{what}: {results[what]}", file=sys.stderr)
    print(json.dumps({"benchmark": "probes_memory", "versions": package_versions(), "threads": 2, "result": results}, indent=1))


if __name__ == "__main__":
    main()
