"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that whoever looks sees the old content or the new one, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors in the safetensors format."""
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of `pack_tensors`, in memory of their own (aligned, so that kernels give the same bits).

    Raises
    ------
    ValueError
        If the bytes are not whole.
    """
    try:
        return {name: tensor.clone() for name, tensor in load(data).items()}
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"not a whole safetensors file ({error})") from error
