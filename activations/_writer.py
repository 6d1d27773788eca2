"""Shards: built in memory, put on the disk whole (docs/format.md, sections 4 and 5)."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._files import RecordingError, write_whole
from worldprobe.activations._layout import DTYPES, SPLITS, along, axis_name, chunk_rows, is_key, long_name, stored_name
from worldprobe.activations._manifest import (
    SHARD_FORMAT,
    STEP_CONVENTION,
    TICK_CONVENTION,
    VERSION,
    ArraySpec,
    Identity,
    Manifest,
    ShardEntry,
    canonical_json,
    shard_file,
)
from worldprobe.agents import seeded_generator


def commit_shard(directory: Path, manifest: Manifest, index: int, episodes: Episodes) -> Manifest:
    """Write one shard, then the manifest that lists it, and return that manifest.

    Raises
    ------
    RecordingError
        If an array may not be stored (`check_arrays`), differs in form from the shards before, or the disk refuses.
    """
    arrays = _with_tables(episodes, manifest.identity)
    specs = check_arrays(arrays, episodes)
    content = _shard_bytes(index, arrays, manifest)
    entry = ShardEntry(shard_file(index), index, hashlib.sha256(content).hexdigest(), len(content), episodes.number.size, episodes.n_steps)
    longer = manifest.with_shard(entry, specs)
    write_whole(directory / entry.file, content)
    longer.write(directory)
    return longer


def check_arrays(arrays: Mapping[str, Array], episodes: Episodes) -> dict[str, ArraySpec]:
    """Return the form of every array.

    Raises
    ------
    RecordingError
        If a key, a dtype or a number of rows is not legal, an array has no entries, or a site holds NaN or infinities.
    """
    n_rows = {"step": episodes.n_steps, "episode": episodes.number.size}
    for key, values in arrays.items():
        if not is_key(key):
            raise RecordingError(f"{key!r} is no key of a recording; names use letters, digits and _ . - [ ], as in 'site/core.h'")
        if str(values.dtype) not in DTYPES:
            raise RecordingError(f"{key!r} is of dtype {values.dtype}; a recording holds {', '.join(DTYPES)}")
        if values.ndim == 0 or len(values) != n_rows[along(key)] or values.size == 0:
            raise RecordingError(f"{key!r} has shape {values.shape}; expected {n_rows[along(key)]} rows of at least one entry")
        if key.startswith("site/") and not np.isfinite(values).all():
            raise RecordingError(f"{key!r} holds NaN or infinities: the agent is broken here, nothing was written")
    return {key: ArraySpec(str(values.dtype), values.shape[1:], along(key)) for key, values in arrays.items()}


def assign_splits(numbers: Array, seed: int, fractions: tuple[float, ...]) -> Array:
    """Return 0 (train), 1 (validation) or 2 (test) for each episode number: a function of (seed, number) alone, int64 (n,)."""
    words = seeded_generator(seed, "splits").initial_seed()
    uniform = np.random.default_rng(words).random(int(numbers.max()) + 1)[numbers]
    return np.searchsorted(np.cumsum(fractions)[: len(SPLITS) - 1], uniform, side="right").astype(np.int64)


def _with_tables(episodes: Episodes, identity: Identity) -> dict[str, Array]:
    """Add step and episode numbers and the episode table."""
    last = episodes.start + episodes.length - 1
    return {
        **episodes.arrays,
        "t": episodes.t,
        "episode": episodes.episode,
        "episode/number": episodes.number,
        "episode/start": episodes.start,
        "episode/length": episodes.length,
        "episode/split": assign_splits(episodes.number, identity.seed, identity.splits),
        "episode/terminated": episodes.arrays["terminated"][last],
    }


def _shard_bytes(index: int, arrays: Mapping[str, Array], manifest: Manifest) -> bytes:
    """Return the HDF5 file of one shard."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        file.attrs.update(shard_attributes(index, manifest))
        factors = {factor["name"]: factor for factor in manifest.identity.world.get("factors", [])}
        _write_dataset(file, "step", np.arange(len(arrays["t"]))).make_scale("step")
        for key in sorted(arrays, key=lambda key: (key != "episode/number", key)):
            _write_array(file, key, arrays[key], factors.get(key.rpartition("/")[2], {}))
    return buffer.getvalue()


def shard_attributes(index: int, manifest: Manifest) -> dict[str, Any]:
    """Return the attributes that a shard's root must have."""
    return {
        "format": SHARD_FORMAT,
        "version": VERSION,
        "fingerprint": manifest.identity.fingerprint,
        "identity": canonical_json(asdict(manifest.identity)),
        "shard": index,
        "step_convention": STEP_CONVENTION,
        "tick_convention": TICK_CONVENTION,
        "versions": canonical_json(manifest.environment["versions"]),
    }


def _write_array(file: h5py.File, key: str, values: Array, factor: Mapping[str, Any]) -> None:
    """Write one key with its axes and attributes."""
    dataset = _write_dataset(file, stored_name(key), values)
    dataset.attrs.update({"key": key, "long_name": long_name(key)})
    if key.split("/")[0].endswith(("factor", "expected")) and factor.get("unit"):
        dataset.attrs["units"] = factor["unit"]
    if key == "episode/number":
        dataset.make_scale(stored_name(key))
        return
    if along(key) == "step" and key not in ("t", "episode"):
        dataset.attrs["coordinates"] = "t episode"
    for axis, size in enumerate(values.shape):
        dataset.dims[axis].attach_scale(_scale(file, axis_name(key, axis), size, factor.get("labels", []), key))


def _scale(file: h5py.File, name: str, size: int, labels: list[str], key: str) -> h5py.Dataset:
    """Return the dimension scale `name`, made at its first use."""
    if name not in file:
        scale = _write_dataset(file, name, np.arange(size))
        scale.make_scale(name)
        if len(labels) == size and "@" in name:
            scale.attrs["labels"] = json.dumps(labels)
    if len(file[name]) != size:
        raise RecordingError(f"{key!r} has {size} entries along the axis {name!r}, which has {len(file[name])}")
    return file[name]


def _write_dataset(file: h5py.File, name: str, values: Array) -> h5py.Dataset:
    """Write one checksummed, chunked dataset; booleans as int8, the netCDF way."""
    stored = values.astype(np.int8) if values.dtype == bool else values.astype(values.dtype.newbyteorder("<"), copy=False)
    rows = chunk_rows(max(1, stored[:1].nbytes), len(stored))
    dataset = file.create_dataset(name, data=stored, chunks=(rows, *stored.shape[1:]), fletcher32=True, track_times=False)
    if values.dtype == bool:
        dataset.attrs["dtype"] = "bool"
    return dataset
