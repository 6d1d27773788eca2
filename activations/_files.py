"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PARTIAL = ".partial"


class RecordingError(ValueError):
    """A recording is missing, damaged, foreign, or would have to become another one."""


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Put `content` at `path` in one step: write beside it, flush to the disk, rename.

    Raises
    ------
    RecordingError
        If the disk is full or not writable; what stood at `path` before is untouched.
    """
    write_blocks(path, [content], f"{len(content):,} bytes")


def write_blocks(path: Path, blocks: Iterable[bytes | memoryview], what: str) -> None:
    """Put blocks, one after another, at `path` in one step; `what` they are is said if it fails."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        flush_to_disk(path.parent)
    except OSError as error:
        raise RecordingError(
            f"cannot write {what} to {path}: {error.strerror}; finished shards are kept, make room and record again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_partials(directory: Path, names: Iterable[str]) -> None:
    """Remove what a crash left of some files half written."""
    for name in names:
        for partial in directory.glob(f"{name}*{PARTIAL}"):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(directory: Path, *, shared: bool) -> Iterator[None]:
    """Hold a directory for writing: alone, or among writers of other parts. The system lets go when the process dies.

    Raises
    ------
    RecordingError
        If another process is writing there.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        _lock(handle, directory, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordingError(f"another process is writing to {directory}: wait for it, or record parts of it side by side") from None


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def flush_to_disk(path: Path) -> None:
    """Make what a file holds, or a rename in a directory, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
