"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PARTIAL = ".partial"


class RecordingError(ValueError):
    """A recording is missing, damaged, foreign, or would have to become another one."""


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: write beside it, flush to the disk, rename.

    Raises
    ------
    RecordingError
        If the disk is full or not writable; what stood at `path` before is untouched.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _flush_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RecordingError(
            f"cannot write {len(content):,} bytes to {path}: {error.strerror}; finished shards are kept, make room and record again"
        ) from error


def remove_partials(directory: Path) -> None:
    """Remove what a crash left half written."""
    for partial in directory.glob(f"*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _flush_directory(directory: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
