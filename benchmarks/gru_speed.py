"""How fast a GRU learns on a CPU: forward and backward per processor second of one thread, beside torch's own layer.

`python benchmarks/gru_speed.py [--fast]` prints one JSON object: versions, and for 64 and 256 units at several shapes (steps x rows) how
many times as fast our layer is, whose gradient is written out, as `torch.nn.GRU` with the same weights. Both take turns; ratios are
medians over turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from worldprobe.activations import package_versions
from worldprobe.agents import CORES, CoreShape

Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
SHAPES = ((13, 74), (36, 32), (64, 16), (540, 12))


def seconds(run: Run, x: Tensor, state: Tensor, weights: Sequence[Tensor], n_repeats: int) -> float:
    """Return the processor seconds of forward and backward passes."""
    start = time.process_time()
    for _ in range(n_repeats):
        torch.autograd.grad(run(x, state)[0].sum(), [x, *weights])
    return time.process_time() - start


def compare(width: int, n_steps: int, n_rows: int, n_turns: int, n_repeats: int) -> dict[str, object]:
    """Time both in turns."""
    core = CORES["gru"](CoreShape(width, width))
    core.initialise(torch.Generator().manual_seed(0))
    library = next(each for each in core.modules() if isinstance(each, torch.nn.GRU))
    x = torch.randn(n_steps, n_rows, width, requires_grad=True)
    runs: dict[str, tuple[Run, Tensor]] = {
        "ours": (core.sequence, torch.zeros(n_rows, width)),
        "torch": (library, torch.zeros(1, n_rows, width)),
    }
    turns = [
        {name: seconds(run, x, state, library.all_weights[0], n_repeats) for name, (run, state) in runs.items()} for _ in range(n_turns + 1)
    ][1:]
    ratio = statistics.median(turn["torch"] / turn["ours"] for turn in turns)
    return {"units": width, "steps": n_steps, "rows": n_rows, "ratio_to_torch": round(ratio, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="few short turns")
    n_turns, n_repeats = (3, 2) if parser.parse_args().fast else (9, 5)
    torch.set_num_threads(1)
    results = [compare(width, *shape, n_turns, n_repeats) for width in (64, 256) for shape in SHAPES]
    print(json.dumps({"benchmark": "gru_speed", "versions": package_versions(), "threads": 1, "results": results}, indent=1))


if __name__ == "__main__":
    main()
