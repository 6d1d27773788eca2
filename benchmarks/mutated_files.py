"""Damaged and hostile files: each must end in a clear error, or in the data that was written.

`python benchmarks/mutated_files.py [--n 1200] [--seed 0]` mutates recordings, checkpoints, resume files and configurations
(bits, blocks, lengths, fields, datasets, links, attributes; half of the damaged shards with size and SHA-256 made to agree, as a
forger would) and opens each in a process with a time limit. It prints one JSON object with the number of outcomes by kind of
mutation: `refused` (an error of ours, one line), `proven` (everything read equals what was written), and what must not be: `wrong`,
`traceback`, `crash`, `hang`.
The exit status is 1 if there is any of those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from worldprobe.activations import CommonBehaviour, RecordingError, open_recording, pack_recording, package_versions, record
from worldprobe.agents import (
    CheckpointError,
    NetworkConfig,
    PqnConfig,
    ResumeError,
    load_checkpoint,
    make_network,
    save_checkpoint,
    seal,
    train_pqn,
    unseal,
)
from worldprobe.analysis import ConfigError, preset, read_config
from worldprobe.worlds import TMaze

TIME_LIMIT = 60
"""Seconds after which opening counts as a hang."""
EXPECTED = (RecordingError, CheckpointError, ConfigError, ResumeError)
MUST_NOT_BE = ("wrong", "traceback", "crash", "hang")

TRAINING = PqnConfig(total_steps=64, n_envs=8, n_steps=8, n_checkpoints=2, n_evaluations=1, n_evaluation_episodes=8)
"""The shortest of trainings."""

Mutate = Callable[[Path, np.random.Generator], None]


# --- what is mutated ----------------------------------------------------------------------------------------------


def make_originals(folder: Path) -> None:
    """Write two small recordings (plain; compressed and rounded), a checkpoint, a training and a configuration."""
    world = TMaze(length=2)
    network = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    for name, how in {"plain.wpr": {}, "rounded.wpr": {"precision": "bfloat16", "compression": "zstd"}}.items():
        record(network, world, folder / name, CommonBehaviour(world), 24, 0, n_envs=8, episodes_per_shard=8, **how).close()  # type: ignore[arg-type]
    pack_recording(folder / "plain.wpr", folder / PACKED).close()
    save_checkpoint(folder / "network", network, world="tmaze", step=7, seed=3, evaluation={"mean_return": 0.5})
    train_pqn(world, NetworkConfig(hidden_size=8), TRAINING, folder / TRAINED, seed=0)
    (folder / "config.json").write_text(json.dumps(seal(preset("tmaze").to_json()), indent=2))


def contents(folder: Path, subject: str) -> dict[str, Any]:
    """Return all that can be read of a subject, in a form that can be compared."""
    if subject == "config.json":
        return read_config(folder).to_json()
    if subject == "network":
        network, info = load_checkpoint(folder / subject)
        return {"info": repr(info)} | {name: values.numpy().tobytes() for name, values in network.state_dict().items()}
    if subject == TRAINED:
        train_pqn(TMaze(length=2), NetworkConfig(hidden_size=8), TRAINING, folder / subject, seed=0)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / subject).rglob("*")) if path.is_file()}
    with open_recording(folder / subject) as recording:
        arrays = {key: recording[key][:].tobytes() for key in recording}
        batches = [batch["t"].tobytes() for batch in recording.batches(["t"], n_steps=16)]
        return arrays | {"shown": repr(recording), "config": recording.config, "table": recording.episodes.to_csv(), "batches": batches}


# --- bytes --------------------------------------------------------------------------------------------------------


def flip_bits(content: bytearray, rng: np.random.Generator) -> bytearray:
    for where in rng.integers(0, len(content), rng.integers(1, 4)):
        content[where] ^= 1 << int(rng.integers(8))
    return content


def truncate(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content[: int(rng.integers(len(content)))]


def cut_out(content: bytearray, rng: np.random.Generator) -> bytearray:
    start = int(rng.integers(len(content)))
    del content[start : start + int(rng.integers(1, 4096))]
    return content


def overwrite(content: bytearray, rng: np.random.Generator) -> bytearray:
    start, n = int(rng.integers(len(content))), int(rng.integers(1, 512))
    filling = bytes(n) if rng.random() < 0.3 else b"\xff" * n if rng.random() < 0.3 else rng.bytes(n)
    return content[:start] + filling + content[start + n :]


def append(content: bytearray, rng: np.random.Generator) -> bytearray:
    return content + rng.bytes(int(rng.integers(1, 512)))


BYTES: dict[str, Callable[[bytearray, np.random.Generator], bytearray]] = {
    "flipped bits": flip_bits, "truncated": truncate, "a piece cut out": cut_out, "overwritten": overwrite, "longer": append,
}  # fmt: skip


def on_bytes(name: str, pattern: str) -> Mutate:
    """Return the mutation of one of the files that match a pattern."""

    def mutate(folder: Path, rng: np.random.Generator) -> None:
        path = rng.choice(np.array(sorted(folder.glob(pattern)), object))
        path.write_bytes(bytes(BYTES[name](bytearray(path.read_bytes()), rng)))

    return mutate


# --- JSON ---------------------------------------------------------------------------------------------------------

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 2**70, 1e308, float("nan")),
    *("", "x" * 5000, "../../etc/passwd", [], {}, [[]], {"a": {}}),
)


def change_a_field(pattern: str, *, sealed: bool) -> Mutate:
    """Return the mutation that removes, adds or replaces a field somewhere in a JSON file, and seals it again or not."""

    def mutate(folder: Path, rng: np.random.Generator) -> None:
        path = rng.choice(np.array(sorted(folder.glob(pattern)), object))
        content = unseal(json.loads(path.read_text()))
        at: Any = content
        while True:
            name = rng.choice(np.array(list(at), object)) if isinstance(at, dict) else int(rng.integers(len(at)))
            if not isinstance(at[name], dict | list) or not at[name] or rng.random() < 0.3:
                break
            at = at[name]
        if rng.random() < 0.3:
            del at[name]
        else:
            at[name] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
        path.write_text(json.dumps(seal(content) if sealed else content))

    return mutate


# --- HDF5 ---------------------------------------------------------------------------------------------------------


def forged(change: Callable[[Path, np.random.Generator], None]) -> Mutate:
    """Return the mutation of a shard whose size and SHA-256 the manifest is made to agree with."""

    def mutate(folder: Path, rng: np.random.Generator) -> None:
        manifest = folder / "recording.json"
        content = unseal(json.loads(manifest.read_text()))
        entry = content["shards"][int(rng.integers(len(content["shards"])))]
        shard = folder / entry["file"]
        change(shard, rng)
        entry |= {"size": max(1, shard.stat().st_size), "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
        manifest.write_text(json.dumps(seal(content)))

    return mutate


def in_hdf5(change: Callable[[h5py.File, str, np.random.Generator], None]) -> Mutate:
    """Return the forgery that changes something about one dataset."""

    def mutate(shard: Path, rng: np.random.Generator) -> None:
        with h5py.File(shard, "r+", libver="latest") as file:
            change(file, str(rng.choice(sorted(file))), rng)

    return forged(mutate)


def replace(file: h5py.File, name: str, **how: Any) -> None:
    """Put another dataset in the place of one."""
    values = file[name][:]
    del file[name]
    file.create_dataset(name, **{"data": values, "chunks": True, "fletcher32": True, **how})


def change_dtype(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    dtypes = [dtype for dtype in ("float64", "int32", ">f4", "uint8", "float16", "complex64") if np.dtype(dtype) != file[name].dtype]
    replace(file, name, data=file[name][:].astype(str(rng.choice(dtypes))))


def swap_attributes(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    one, other = rng.choice(sorted(file.attrs), 2, replace=False)
    file.attrs[one], file.attrs[other] = file.attrs[other], file.attrs[one]
    file[name].attrs["key"] = "site/other"


def swap_datasets(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    other = str(rng.choice([entry for entry in file if file[entry].shape != file[name].shape or file[entry].dtype != file[name].dtype]))
    file.move(name, "between")
    file.move(other, name)
    file.move("between", other)


def make_virtual(file: h5py.File, name: str, _: np.random.Generator) -> None:
    layout = h5py.VirtualLayout(file[name].shape, file[name].dtype)
    layout[...] = h5py.VirtualSource("/etc/passwd", name, file[name].shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def make_external(file: h5py.File, name: str, _: np.random.Generator) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def make_link(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/x") if rng.random() < 0.5 else h5py.SoftLink("/action")


def make_absurd(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    dtype = file[name].dtype
    del file[name]
    file.create_dataset(name, (2**40, 2**10), dtype, chunks=(2**10, 2**10), fletcher32=bool(rng.random() < 0.5))


def make_bomb(file: h5py.File, name: str, _: np.random.Generator) -> None:
    del file[name]
    file.create_dataset(name, data=np.zeros(2**22), compression="gzip", fletcher32=True)


def make_objects(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    n = len(file[name])
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, data=["x"] * n, dtype=h5py.string_dtype())
    else:
        file.create_dataset(name, (n,), h5py.vlen_dtype("int8"))


HDF5: dict[str, Callable[[h5py.File, str, np.random.Generator], None]] = {
    "a dataset dropped": lambda file, name, rng: file.__delitem__(name),
    "another dtype": change_dtype,
    "another shape": lambda file, name, rng: replace(file, name, data=file[name][:-1], chunks=True),
    "swapped attributes": swap_attributes,
    "swapped datasets": swap_datasets,
    "a virtual dataset": make_virtual,
    "external storage": make_external,
    "a link": make_link,
    "an absurd shape": make_absurd,
    "a compression bomb": make_bomb,
    "objects": make_objects,
}

# --- all of them --------------------------------------------------------------------------------------------------

RECORDINGS = ("plain.wpr", "rounded.wpr")
PACKED, TRAINED = "packed.zip", "training"
SEALED = ("*.safetensors", "*.json")


def all_mutations() -> list[tuple[str, str, Mutate]]:
    """Return (subject, what is done to it, how) for every kind of mutation."""
    kinds: list[tuple[str, str, Mutate]] = []
    for subject in RECORDINGS:
        for name, change in BYTES.items():
            kinds += [(subject, f"shard: {name}", on_bytes(name, "*.h5")), (subject, f"manifest: {name}", on_bytes(name, "*.json"))]
            resealed = forged(lambda shard, rng, change=change: _rewrite(shard, change, rng))  # type: ignore[misc]
            kinds.append((subject, f"shard, forged: {name}", resealed))
        kinds += [(subject, f"shard, forged: {name}", in_hdf5(change)) for name, change in HDF5.items()]
        kinds += [(subject, f"manifest: a field, {how}", change_a_field("*.json", sealed=how == "sealed")) for how in ("sealed", "plain")]
    kinds += [(PACKED, name, on_bytes(name, PACKED)) for name in BYTES]
    for subject, patterns in {"network": SEALED, TRAINED: SEALED, "config.json": ("*.json",)}.items():
        kinds += [(subject, f"{pattern}: {name}", on_bytes(name, pattern)) for pattern in patterns for name in BYTES]
        kinds += [(subject, f"a field, {how}", change_a_field("*.json", sealed=how == "sealed")) for how in ("sealed", "plain")]
    return kinds


@cache
def expected_contents(originals: Path, subject: str) -> dict[str, Any]:
    """Return what was written."""
    return contents(originals, subject)


def _rewrite(shard: Path, change: Callable[[bytearray, np.random.Generator], bytearray], rng: np.random.Generator) -> None:
    shard.write_bytes(bytes(change(bytearray(shard.read_bytes()), rng)))


def outcome(originals: Path, index: int, seed: int, *, is_sealed_change: bool) -> tuple[str, str]:
    """Make mutation `index`, open the result, and return how it ended and what was said."""
    kinds = all_mutations()
    subject, _, mutate = kinds[index % len(kinds)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in originals.glob(f"{subject}*"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        mutated = folder / subject if subject in (*RECORDINGS, TRAINED) else folder
        mutate(mutated, np.random.default_rng([seed, index]))
        try:
            found = contents(folder, subject)
        except EXPECTED as error:
            return ("refused" if "\n" not in str(error) else "traceback"), str(error)
        except Exception as error:  # any other kind is what this looks for
            return "traceback", repr(error)
        if found == expected_contents(originals, subject):
            return "proven", ""
        return "resealed" if is_sealed_change else "wrong", ""


def collect(n: int, seed: int) -> dict[str, Any]:
    """Return the outcomes of `n` mutations, spread evenly over all kinds."""
    kinds, counts, bad = all_mutations(), Counter[str](), []
    by_kind: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        make_originals(Path(name))
        pool = _pool()
        for index in range(n):
            subject, what, _ = kinds[index % len(kinds)]
            try:
                ended, said = pool.submit(outcome, Path(name), index, seed, is_sealed_change="sealed" in what).result(TIME_LIMIT)
            except (BrokenProcessPool, TimeoutError) as error:
                ended, said = ("hang" if isinstance(error, TimeoutError) else "crash"), repr(error)
                for process in pool._processes.values():
                    process.kill()
                pool = _pool()
            counts[ended] += 1
            by_kind.setdefault(f"{subject}: {what}", Counter())[ended] += 1
            if ended in MUST_NOT_BE:
                bad.append({"index": index, "kind": f"{subject}: {what}", "outcome": ended, "said": said[:300]})
        pool.shutdown()
    return {"n": n, "outcomes": dict(counts), "bad": bad, "by_kind": {kind: dict(found) for kind, found in by_kind.items()}}


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1200, help="number of mutated files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = collect(arguments.n, arguments.seed)
    print(json.dumps({"benchmark": "mutated_files", "versions": package_versions(), "seed": arguments.seed, **found}, indent=1))
    sys.exit(bool(found["bad"]))


if __name__ == "__main__":
    main()
