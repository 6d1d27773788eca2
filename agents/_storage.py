"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
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


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON content with `seal`, the SHA-256 of all the rest: whoever reads it knows that nothing was changed.

    Parameters
    ----------
    content : Mapping
        Anything JSON can hold, without `seal`.

    Returns
    -------
    dict
        The content as JSON values, and its seal.

    Examples
    --------
    >>> from worldprobe.agents import seal, unseal
    >>> unseal(seal({"seed": 3}))
    {'seed': 3}
    """
    values = json.loads(json.dumps(dict(content)))
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return {**values, "seal": hashlib.sha256(text.encode()).hexdigest()}


def unseal(content: object) -> dict[str, Any]:
    """Return what `seal` was given.

    Raises
    ------
    ValueError
        If it is no object, has no seal, or not that of its content.

    Examples
    --------
    >>> from worldprobe.agents import seal, unseal
    >>> unseal(seal({"seed": 3}) | {"seed": 4})
    Traceback (most recent call last):
    ValueError: it was changed since it was written: its seal is not that of its content
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {type(content).__name__}")
    values = {name: value for name, value in content.items() if name != "seal"}
    if content.get("seal") != seal(values)["seal"]:
        raise ValueError("it was changed since it was written: its seal is not that of its content")
    return values
