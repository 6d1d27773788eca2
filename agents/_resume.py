"""Going on after an interruption: whose directory it is, and where the training stood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from worldprobe.agents._storage import pack_tensors, unpack_tensors, write_atomically, write_json

IDENTITY_NAME, RESUME_NAME = "training.json", "resume.safetensors"


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
        write_json(path, wanted)


def _read_identity(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ResumeError(f"{path} is damaged ({error}); choose an empty directory") from error
    if not isinstance(content, dict):
        raise ResumeError(f"{path} is damaged (no dictionary); choose an empty directory")
    return content


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
    """Write the state of every part in one file, atomically."""
    flat = {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    write_atomically(directory / RESUME_NAME, pack_tensors(flat))


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
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        for key, tensor in unpack_tensors(path.read_bytes()).items():
            part, name = key.split("/", 1)
            parts.setdefault(part, {})[name] = tensor
    except ValueError as error:
        raise ResumeError(f"{path} is damaged: {error}; delete {directory} to begin anew") from error
    return parts
