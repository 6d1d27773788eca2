"""Shard files as untrusted input: inspected in a child process, then read block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from worldprobe.activations._episodes import Array
from worldprobe.activations._extents import Extent, proven_blocks
from worldprobe.activations._files import RecordingError, one_line
from worldprobe.activations._inspection import open_hdf5
from worldprobe.activations._inspector import INSPECTOR
from worldprobe.activations._layout import CHUNK_BYTES, axis_name, stored_name
from worldprobe.activations._manifest import READABLE, SHARD_FORMAT, ArraySpec, Manifest, ShardEntry
from worldprobe.activations._storage import PIPELINES, file_dtype, from_stored

SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Shards:
    """The shards of one recording, each opened when it is first read from, after the inspection."""

    def __init__(self, path: Path, extents: Mapping[str, Extent], manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._open: dict[int, h5py.File] = {}
        self._extents = [_present(path / entry.file, extents.get(entry.file), entry) for entry in manifest.shards]

    def read(self, position: int, key: str, rows: slice) -> Array:
        """Return consecutive rows of `key` from the shard at `position` of the manifest."""
        spec = self.manifest.arrays[key]
        with self._guarded(position):
            values: Array = self._file(position)[stored_name(key)][rows]
        return from_stored(values, spec.dtype, spec.stored)

    def chunk_rows(self, position: int, key: str) -> int:
        """Return the rows of a chunk of `key` in the shard at `position`."""
        with self._guarded(position):
            return int(self._file(position)[stored_name(key)].chunks[0])

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest, then read every block of every array against its checksum.

        Raises
        ------
        RecordingError
            At the first file, or the first array in it, that is damaged.
        """
        for extent, entry in zip(self._extents, self.manifest.shards, strict=True):
            deque(proven_blocks(extent, entry.sha256), maxlen=0)
        for position in range(len(self._extents)):
            for key in self.manifest.arrays:
                self._verify_blocks(position, key)

    def _verify_blocks(self, position: int, key: str) -> None:
        n_rows = rows_of(self.manifest.shards[position], self.manifest.arrays[key])
        step = self.chunk_rows(position, key)
        for first in range(0, n_rows, step):
            self.read(position, key, slice(first, first + step))

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, position: int) -> h5py.File:
        if position not in self._open:
            extent = self._extents[position]
            INSPECTOR.check(promise(extent, self.manifest.shards[position], self.manifest))
            self._open[position] = open_hdf5(extent.path, extent.offset, extent.size)
        return self._open[position]

    @contextmanager
    def _guarded(self, position: int) -> Iterator[None]:
        """Turn whatever the HDF5 library says of a damaged file into one line that names the file."""
        path = self.path / self.manifest.shards[position].file
        try:
            yield
        except RecordingError as error:
            raise RecordingError(f"{path}: {error}") from None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
            raise RecordingError(f"{path} is damaged: {one_line(error)}; restore it, or delete the recording and record again") from error


def promise(extent: Extent, entry: ShardEntry, manifest: Manifest) -> dict[str, Any]:
    """Return what the manifest promises of a shard, as the inspection wants it."""
    return {
        "path": str(extent.path.resolve()),
        "offset": extent.offset,
        "size": extent.size,
        "sha256": entry.sha256,
        "attributes": {
            "format": SHARD_FORMAT,
            "version": list(READABLE),
            "fingerprint": manifest.identity.fingerprint,
            "shard": entry.index,
        },
        "datasets": _datasets(entry, manifest.arrays),
        "filters": PIPELINES,
        "block": CHUNK_BYTES,
    }


def rows_of(entry: ShardEntry, spec: ArraySpec) -> int:
    """Return the rows of an array in a shard."""
    return entry.n_steps if spec.along == "step" else entry.n_episodes


def _datasets(entry: ShardEntry, arrays: Mapping[str, ArraySpec]) -> dict[str, tuple[str, list[int]]]:
    """Return dtype and shape of every dataset of a shard: arrays, and the scales of their axes."""
    datasets: dict[str, tuple[str, list[int]]] = {"step": ("<i8", [entry.n_steps])}
    for key, spec in arrays.items():
        datasets[stored_name(key)] = (file_dtype(spec.stored).str, [rows_of(entry, spec), *spec.shape])
        for axis, size in enumerate(spec.shape, 1):
            datasets[axis_name(key, axis)] = ("<i8", [size])
    return datasets


def _present(path: Path, extent: Extent | None, entry: ShardEntry) -> Extent:
    """Return where a shard lies, if it is there, of the right size, and begins like HDF5."""
    if extent is None:
        raise RecordingError(f"{path} is missing: the manifest lists it; restore it, or delete the recording and record again")
    if extent.size != entry.size:
        raise RecordingError(f"{path} is damaged: {extent.size:,} bytes, expected {entry.size:,}")
    with extent.open() as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise RecordingError(f"{path} is damaged: it does not begin like an HDF5 file")
    return extent
