"""Shards: built in memory, put on the disk whole (docs/format.md, sections 4 and 5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._extents import Extent
from worldprobe.activations._files import RecordingError, write_whole
from worldprobe.activations._inspector import INSPECTOR
from worldprobe.activations._layout import DTYPES, SPLITS, along, axis_name, chunk_rows, is_key, long_name, stored_name
from worldprobe.activations._manifest import (
    MANIFEST,
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
from worldprobe.activations._shards import promise
from worldprobe.activations._storage import filter_arguments, loss, stored_dtype, to_stored
from worldprobe.agents import seeded_generator

Losses = dict[str, dict[str, float]]
"""What a lower precision took from each site."""


def commit_shard(
    directory: Path, manifest: Manifest, index: int, episodes: Episodes, *, compression: str = "none", name: str = MANIFEST
) -> Manifest:
    """Write one shard, then the manifest `name` that lists it, and return that manifest.

    Raises
    ------
    RecordingError
        If an array may not be stored (`check_arrays`), differs in form from the shards before, or the disk refuses.
    """
    arrays = _with_tables(episodes, manifest.identity)
    specs = check_arrays(arrays, episodes, manifest.identity.precision)
    stored = {key: to_stored(values, specs[key].stored, key) for key, values in arrays.items()}
    losses = {key: loss(arrays[key], stored[key], spec.stored) for key, spec in specs.items() if spec.stored not in ("int8", spec.dtype)}
    content = _shard_bytes(index, stored, specs, manifest, losses, compression)
    digest = hashlib.sha256(content).hexdigest()
    entry = ShardEntry(shard_file(index), index, digest, len(content), episodes.number.size, episodes.n_steps, losses)
    longer = manifest.with_shard(entry, specs)
    write_whole(directory / entry.file, content)
    INSPECTOR.trust(promise(Extent(directory / entry.file, 0, entry.size), entry, longer))
    longer.write(directory, name)
    return longer


def check_arrays(arrays: Mapping[str, Array], episodes: Episodes, precision: str = "float32") -> dict[str, ArraySpec]:
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
        if key.startswith("site/") and not np.isfinite([values.min(), values.max()]).all():
            raise RecordingError(f"{key!r} holds NaN or infinities: the agent is broken here, nothing was written")
    return {
        key: ArraySpec(dtype := str(values.dtype), values.shape[1:], along(key), stored_dtype(dtype, key, precision))
        for key, values in arrays.items()
    }


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


def _shard_bytes(
    index: int, arrays: Mapping[str, Array], specs: Mapping[str, ArraySpec], manifest: Manifest, losses: Losses, compression: str
) -> memoryview:
    """Return the HDF5 file of one shard; `arrays` hold what is stored."""
    with h5py.File(shard_file(index), "w", driver="core", backing_store=False, block_size=2**24, libver="latest") as file:
        file.attrs.update(shard_attributes(index, manifest))
        factors = {factor["name"]: factor for factor in manifest.identity.world.get("factors", [])}
        write = _DatasetWriter(file, filter_arguments(compression))
        write.scale("step", len(arrays["t"]))
        for key in sorted(arrays, key=lambda key: (key != "episode/number", key)):
            dataset = write.array(key, arrays[key], factors.get(key.rpartition("/")[2], {}))
            if specs[key].dtype == "bool":
                write_text(dataset, "dtype", "bool")
            if key in losses:
                dataset.attrs.update({"precision": specs[key].stored, **{f"{name}_error": value for name, value in losses[key].items()}})
        file.flush()
        return memoryview(file.id.get_file_image())


def shard_attributes(index: int, manifest: Manifest) -> dict[str, Any]:
    """Return the attributes that a shard's root must have."""
    return {
        "format": SHARD_FORMAT,
        "version": VERSION,
        "fingerprint": manifest.identity.fingerprint,
        "identity": manifest.identity.json,
        "shard": index,
        "step_convention": STEP_CONVENTION,
        "tick_convention": TICK_CONVENTION,
        "versions": canonical_json(manifest.environment["versions"]),
    }


class _DatasetWriter:
    """Writes arrays with their axes into a file."""

    def __init__(self, file: h5py.File, filters: Mapping[str, Any]) -> None:
        self._file = file
        self._filters = filters
        self._scales: dict[str, h5py.Dataset] = {}

    def array(self, key: str, values: Array, factor: Mapping[str, Any]) -> h5py.Dataset:
        """Write one key with its axes and attributes."""
        dataset = self._dataset(stored_name(key), values)
        write_text(dataset, "key", key)
        write_text(dataset, "long_name", long_name(key))
        if key.split("/")[0].endswith(("factor", "expected")) and factor.get("unit"):
            write_text(dataset, "units", factor["unit"])
        if key == "episode/number":
            self._make_scale(stored_name(key), dataset)
            return dataset
        if along(key) == "step" and key not in ("t", "episode"):
            write_text(dataset, "coordinates", "t episode")
        for axis, size in enumerate(values.shape):
            dataset.dims[axis].attach_scale(self.scale(axis_name(key, axis), size, factor.get("labels", []), key))
        return dataset

    def scale(self, name: str, size: int, labels: Sequence[str] = (), key: str = "") -> h5py.Dataset:
        """Return the dimension scale `name`, made at its first use, which `key` has along an axis."""
        if name not in self._scales:
            scale = self._dataset(name, np.arange(size))
            self._make_scale(name, scale)
            if len(labels) == size and "@" in name:
                write_text(scale, "labels", json.dumps(labels))
        if len(self._scales[name]) != size:
            raise RecordingError(f"{key!r} has {size} entries along the axis {name!r}, which has {len(self._scales[name])}")
        return self._scales[name]

    def _make_scale(self, name: str, dataset: h5py.Dataset) -> None:
        dataset.make_scale(name)
        self._scales[name] = dataset

    def _dataset(self, name: str, values: Array) -> h5py.Dataset:
        """Write one checksummed, chunked dataset of little-endian numbers."""
        rows = chunk_rows(max(1, values[:1].nbytes), len(values))
        stored = values.astype(values.dtype.newbyteorder("<"), copy=False)
        return self._file.create_dataset(name, data=stored, chunks=(rows, *values.shape[1:]), track_times=False, **self._filters)


TEXT = h5py.string_dtype()
TEXT_TYPE, SCALAR = h5py.h5t.py_create(TEXT, logical=True), h5py.h5s.create(h5py.h5s.SCALAR)


def write_text(dataset: h5py.Dataset, name: str, text: str) -> None:
    """Set an attribute that is not there yet, as `dataset.attrs[name] = text` does in more than twice the time."""
    h5py.h5a.create(dataset.id, name.encode(), TEXT_TYPE, SCALAR).write(np.array(text, TEXT))
