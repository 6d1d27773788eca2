"""Shard files as untrusted input: opened once, checked, read block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from worldprobe.activations._episodes import Array
from worldprobe.activations._files import RecordingError, one_line
from worldprobe.activations._layout import stored_name
from worldprobe.activations._manifest import SHARD_FORMAT, VERSION, ArraySpec, Manifest, ShardEntry

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FLETCHER32 = h5py.h5z.FILTER_FLETCHER32


class Shards:
    """The shards of one recording, opened and checked when first read from."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._open: dict[int, h5py.File] = {}
        for entry in manifest.shards:
            _check_presence(directory / entry.file, entry)

    def read(self, position: int, key: str, rows: slice) -> Array:
        """Return consecutive rows of `key` from the shard at `position` of the manifest."""
        with self._guarded(position):
            values: Array = self._file(position)[stored_name(key)][rows]
        return values.astype(bool) if self.manifest.arrays[key].dtype == "bool" else values

    def chunk_rows(self, position: int, key: str) -> int:
        """Return the rows of a chunk of `key` in the shard at `position`."""
        with self._guarded(position):
            return int(self._file(position)[stored_name(key)].chunks[0])

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest.

        Raises
        ------
        RecordingError
            At the first file that differs.
        """
        for entry in self.manifest.shards:
            with (self.directory / entry.file).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry.sha256:
                raise RecordingError(f"{self.directory / entry.file} is damaged: SHA-256 {digest[:12]}..., expected {entry.sha256[:12]}...")

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, position: int) -> h5py.File:
        if position not in self._open:
            entry = self.manifest.shards[position]
            file = h5py.File(self.directory / entry.file, "r")
            try:
                _check_content(file, entry, self.manifest)
            except BaseException:
                file.close()
                raise
            self._open[position] = file
        return self._open[position]

    @contextmanager
    def _guarded(self, position: int) -> Iterator[None]:
        """Turn whatever the HDF5 library says of a damaged file into one line that names the file."""
        path = self.directory / self.manifest.shards[position].file
        try:
            yield
        except RecordingError as error:
            raise RecordingError(f"{path}: {error}") from None
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordingError(f"{path} is damaged: {one_line(error)}; restore it, or delete the recording and record again") from error


def _check_presence(path: Path, entry: ShardEntry) -> None:
    """Raise unless the file is there, of the right size, and begins like HDF5."""
    if not path.is_file():
        raise RecordingError(f"{path} is missing: the manifest lists it; restore it, or delete the recording and record again")
    if path.stat().st_size != entry.size:
        raise RecordingError(f"{path} is damaged: {path.stat().st_size:,} bytes, expected {entry.size:,}")
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise RecordingError(f"{path} is damaged: it does not begin like an HDF5 file")


def _check_content(file: h5py.File, entry: ShardEntry, manifest: Manifest) -> None:
    """Raise unless the shard is that of the manifest and holds plain checked arrays only."""
    expected = {"format": SHARD_FORMAT, "version": VERSION, "fingerprint": manifest.identity.fingerprint, "shard": entry.index}
    for name, value in expected.items():
        found = file.attrs.get(name)
        if not isinstance(found, str | np.integer) or found != value:
            raise RecordingError(f"expected the attribute {name} = {value!r}, got {str(found)[:60]!r}: a shard of another recording?")
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise RecordingError(f"{name!r} is a link; a recording holds its data itself")
    for key, spec in manifest.arrays.items():
        n_rows = entry.n_steps if spec.along == "step" else entry.n_episodes
        _check_dataset(file, key, spec, n_rows)


def _check_dataset(file: h5py.File, key: str, spec: ArraySpec, n_rows: int) -> None:
    """Raise unless the dataset of `key` has the promised form and nothing hidden in it."""
    dataset = file.get(stored_name(key))
    if not isinstance(dataset, h5py.Dataset):
        raise RecordingError(f"the array {key!r} is missing")
    dtype = np.dtype("int8" if spec.dtype == "bool" else spec.dtype)
    if dataset.shape != (n_rows, *spec.shape) or dataset.dtype != dtype:
        raise RecordingError(f"{key!r} is {dataset.dtype} {dataset.shape}, expected {dtype} {(n_rows, *spec.shape)}")
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if dataset.is_virtual or dataset.external or dataset.chunks is None or filters != [FLETCHER32]:
        raise RecordingError(f"{key!r} must be chunked with the one filter fletcher32, neither virtual nor external")
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise RecordingError(f"{key!r} is not all there: {dataset.id.get_storage_size():,} of {dataset.nbytes:,} bytes are stored")
