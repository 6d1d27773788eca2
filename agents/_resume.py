"""Going on after an interruption: whose directory it is, and where the training stood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldprobe.agents._storage import pack_tensors, seal, unpack_tensors, unseal, write_atomically, write_json

IDENTITY_NAME, RESUME_NAME = "training.json", "resume.safetensors"
SEAL = "seal"
"""Name of the tensor that holds the SHA-256 of all others in a resume file."""


class ResumeError(RuntimeError):
    """A directory holds another training, or one that cannot be gone on with."""


def claim_directory(directory: Path, identity: Mapping[str, Any]) -> None:
    """Write down which training a directory belongs to, or check that it is this one.

    Raises
    ------
    ResumeError
        If it belongs to another training, or it does not say to which.
    """
    path = directory / IDENTITY_NAME
    wanted = json.loads(json.dumps(identity))
    if path.exists():
        differing = _differences(_read_identity(path), wanted)
        if differing:
            raise ResumeError(f"{directory} holds another training: {'; '.join(differing)}; choose another directory or the same settings")
    elif (directory / RESUME_NAME).exists():
        raise ResumeError(f"{directory} has a {RESUME_NAME} but no {IDENTITY_NAME} that says of which training; choose an empty directory")
    else:
        write_json(path, seal(wanted))


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        return unseal(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise ResumeError(f"{path} is damaged ({error}); choose an empty directory") from error


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return "name: found there, asked for here" for every entry that differs."""
    lines = []
    for name in sorted(found.keys() | wanted.keys()):
        here, there = wanted.get(name), found.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            lines += _differences(there, here, f"{prefix}{name}.")
        elif here != there:
            lines.append(f"{prefix}{name} is {there!r} there and {here!r} here")
    return lines


def save_parts(directory: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the state of every part in one file, sealed, atomically."""
    flat = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    write_atomically(directory / RESUME_NAME, pack_tensors(flat | {SEAL: _digest(flat)}))


def load_parts(directory: Path) -> dict[str, dict[str, Tensor]] | None:
    """Return the state of every part, None if nothing was saved yet.

    Raises
    ------
    ResumeError
        If the file is damaged.
    """
    path = directory / RESUME_NAME
    if not path.exists():
        return None
    try:
        flat = unpack_tensors(path.read_bytes())
        found = flat.pop(SEAL, None)
        if found is None or not torch.equal(found, _digest(flat)):
            raise ValueError("its seal is missing or not that of its content")
    except ValueError as error:
        raise ResumeError(f"{path} is damaged: {error}; delete {directory} to begin anew") from error
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = tensor
    return parts


def _digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the SHA-256 of names, dtypes, shapes and bytes of tensors, uint8 (32,)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
