"""The inspection of one shard by the HDF5 library, run as a script in a child process: a hostile file can hang or crash only that.

Each line on stdin is a request (JSON), each line on stdout its answer: `{}` if the file is what it should be, else
`{"refused": reason}`. This file imports nothing of this package, so that the child starts at once. No data is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LARGEST_MEMORY = 2**32
"""Bytes of address space that the child may take."""
CHECKSUM_BYTES = 4
"""What fletcher32 adds to a block."""


class RefusedError(ValueError):
    """The file is not what it should be."""


class Window(io.RawIOBase):
    """A stretch of a file, read as if it were the whole."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move and return the position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the stretch goes, and return how far that was."""
        n = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        n_read = self._file.readinto(memoryview(buffer)[:n]) or 0
        self._at += n_read
        return n_read

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def open_hdf5(path: Path, offset: int, size: int) -> h5py.File:
    """Open an HDF5 file that may lie within another file."""
    if offset == 0 and size == path.stat().st_size:
        return h5py.File(path, "r")
    return h5py.File(io.BufferedReader(Window(path, offset, size)), "r")


def inspect(request: Mapping[str, Any]) -> None:
    """Raise `RefusedError` unless a file is exactly what `request` promises.

    Parameters
    ----------
    request : Mapping
        `path`, and `offset` and `size` within it; `sha256`; `attributes` of the root, each with its value or a list of such;
        `datasets`, name to [dtype, shape]; `filters`, the filter pipelines that may be used; `block`, bytes of the largest
        block of several rows.
    """
    where = Path(request["path"]), int(request["offset"]), int(request["size"])
    with io.BufferedReader(Window(*where)) as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != request["sha256"]:
        raise RefusedError(f"damaged: SHA-256 {found[:12]}..., expected {request['sha256'][:12]}...")
    with open_hdf5(*where) as file:
        _check_attributes(file, request["attributes"])
        _check_names(file, request["datasets"])
        for name, (dtype, shape) in request["datasets"].items():
            _check_dataset(file[name], np.dtype(dtype), tuple(shape), request)
        _check_blocks(file, list(request["datasets"]), request["size"])


def _check_attributes(file: h5py.File, expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        found = file.attrs.get(name)
        allowed = value if isinstance(value, list) else [value]
        if not isinstance(found, str | np.integer) or found not in allowed:
            raise RefusedError(f"expected the attribute {name} = {value!r}, got {str(found)[:60]!r}: a shard of another recording?")


def _check_names(file: h5py.File, expected: Mapping[str, Any]) -> None:
    """Raise unless the root holds hard links to the promised datasets and nothing else."""
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise RefusedError(f"{name!r} is a link; a recording holds its data itself")
        if name not in expected:
            raise RefusedError(f"{name!r} is not promised by the manifest")
    for name in expected:
        if not isinstance(file.get(name), h5py.Dataset):
            raise RefusedError(f"the array {name!r} is missing")


def _check_dataset(dataset: h5py.Dataset, dtype: np.dtype[Any], shape: tuple[int, ...], request: Mapping[str, Any]) -> None:
    """Raise unless a dataset has the promised form and nothing hidden in it."""
    name = dataset.name.removeprefix("/")
    if dataset.shape != shape or dataset.dtype != dtype:
        raise RefusedError(f"{name!r} is {dataset.dtype} {dataset.shape}, expected {dtype} {shape}")
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if dataset.is_virtual or dataset.external or dataset.chunks is None or filters not in request["filters"]:
        raise RefusedError(
            f"{name!r} must be chunked, with the one filter fletcher32 or one of the pipelines of the format; neither virtual nor external"
        )
    rows, row_bytes = dataset.chunks[0], math.prod(shape[1:]) * dtype.itemsize
    if dataset.chunks[1:] != shape[1:] or (rows > 1 and rows * row_bytes > request["block"]):
        raise RefusedError(f"{name!r} has blocks of {dataset.chunks}; expected whole rows within {request['block']:,} bytes")


def _check_blocks(file: h5py.File, names: list[str], size: int) -> None:
    """Raise unless every block is stored and passes every filter, and all of them find room in the file."""
    total = 0
    for name in names:
        dataset = file[name]
        largest = math.prod(dataset.chunks) * dataset.dtype.itemsize + CHECKSUM_BYTES
        is_plain = dataset.id.get_create_plist().get_nfilters() == 1
        blocks: list[h5py.h5d.StoreInfo] = []
        dataset.id.chunk_iter(blocks.append)
        if len(blocks) != -(-len(dataset) // dataset.chunks[0]):
            raise RefusedError(f"{name!r} is not all there: {len(blocks)} of {-(-len(dataset) // dataset.chunks[0])} blocks are stored")
        for block in blocks:
            fits = block.size == largest if is_plain else 0 < block.size <= 2 * largest + 1024
            if block.filter_mask or not fits or block.byte_offset is None or block.byte_offset + block.size > size:
                raise RefusedError(f"{name!r} has a block of {block.size} bytes at {block.byte_offset} that its checksum does not protect")
            total += block.size
    if total > size:
        raise RefusedError(f"its blocks take {total:,} bytes, the file {size:,}: it is made to fill the memory")


def main() -> None:
    """Answer requests until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answer = {}
        try:
            inspect(json.loads(line))
        except RefusedError as error:
            answer = {"refused": str(error)}
        except Exception as error:  # the library raises many kinds on damaged files, some of its own making
            answer = {"refused": f"damaged: {(str(error).strip() or type(error).__name__).splitlines()[0]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
