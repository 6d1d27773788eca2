"""How numbers are kept in a shard: precision of sites, and the filters of a block (docs/format.md, section 4)."""

from __future__ import annotations

from typing import Any

import h5py
import hdf5plugin
import numpy as np

from worldprobe.activations._episodes import Array
from worldprobe.activations._files import RecordingError

PRECISIONS = ("float32", "float16", "bfloat16")
"""What sites may be stored as; they are read as float32 whatever it is."""
COMPRESSIONS = ("none", "zstd")
"""What blocks may be compressed with."""

FLETCHER32, SHUFFLE = h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_SHUFFLE
PIPELINES = [[FLETCHER32], [SHUFFLE, int(hdf5plugin.Zstd.filter_id), FLETCHER32]]
"""Filters of a block, in the order in which they are applied on writing: the checksum is that of what lies on the disk."""


def filter_arguments(compression: str) -> dict[str, Any]:
    """Return the arguments of `h5py.Group.create_dataset` for a compression of `COMPRESSIONS`."""
    if compression == "none":
        return {"fletcher32": True}
    return {"fletcher32": True, "shuffle": True, **hdf5plugin.Zstd(clevel=1)}


def stored_dtype(dtype: str, key: str, precision: str) -> str:
    """Return what an array of `dtype` is stored as: booleans as int8, float32 sites in the precision asked for."""
    if dtype == "bool":
        return "int8"
    return precision if key.startswith("site/") and dtype == "float32" else dtype


def file_dtype(stored: str) -> np.dtype[Any]:
    """Return the little-endian dtype of the dataset: HDF5 has no bfloat16, its bits are kept as uint16."""
    return np.dtype("uint16" if stored == "bfloat16" else stored).newbyteorder("<")


def to_stored(values: Array, stored: str, key: str) -> Array:
    """Return values as they are stored, rounded to nearest even.

    Raises
    ------
    RecordingError
        If a finite value is beyond the range of the precision.
    """
    if stored == "bfloat16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        result = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        with np.errstate(over="ignore"):
            result = values.astype(file_dtype(stored), copy=False)
    if stored in ("float16", "bfloat16") and not np.isfinite(from_stored(result, "float32", stored)).all():
        largest = float(np.abs(values).max())
        raise RecordingError(f"{key!r} reaches {largest:.3g}, beyond {stored}: record it with a higher precision")
    return result


def from_stored(values: Array, dtype: str, stored: str) -> Array:
    """Return stored values as the array they are read as."""
    if stored == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(dtype, copy=False)


def loss(values: Array, stored_values: Array, stored: str) -> dict[str, float]:
    """Return what rounding took: the largest error, and the root mean square error over that of the values."""
    error = from_stored(stored_values, "float32", stored).astype(np.float64) - values
    scale = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    rms = float(np.sqrt(np.mean(np.square(error))))
    return {"max": float(np.abs(error).max()), "relative_rms": rms / scale if scale else 0.0}
