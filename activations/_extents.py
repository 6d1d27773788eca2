"""Where the files of a recording lie: in a directory, or one after another in a packed file (docs/format.md, section 8)."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worldprobe.activations._files import RecordingError, one_line
from worldprobe.activations._inspection import Window

LOCAL_HEADER = struct.Struct("<26xHH")
"""The end of a zip archive's header before each file: the lengths of its name and of its extra field."""
COPIED_BLOCK = 2**22


@dataclass(frozen=True)
class Extent:
    """One file: `size` bytes of `path` from `offset` on."""

    path: Path
    offset: int
    size: int

    def open(self) -> io.BufferedReader:
        """Return the file, open for reading."""
        return io.BufferedReader(Window(self.path, self.offset, self.size))


def proven_blocks(extent: Extent, sha256: str) -> Iterator[bytes]:
    """Yield the content of a file block by block.

    Raises
    ------
    RecordingError
        At the end, if its SHA-256 is not `sha256`.
    """
    digest = hashlib.sha256()
    with extent.open() as file:
        while block := file.read(COPIED_BLOCK):
            digest.update(block)
            yield block
    if digest.hexdigest() != sha256:
        raise RecordingError(f"{extent.path} is damaged: SHA-256 {digest.hexdigest()[:12]}..., expected {sha256[:12]}...")


def find_extents(path: Path) -> dict[str, Extent]:
    """Return the files of a recording by name.

    Raises
    ------
    RecordingError
        If `path` is neither a directory nor a file made by `pack_recording`.
    """
    try:
        if path.is_dir():
            return {entry.name: Extent(entry, 0, entry.stat().st_size) for entry in path.iterdir() if entry.is_file()}
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if len({member.filename for member in members}) != len(members):
            raise RecordingError("a name comes twice")
        return {member.filename: _stored(path, member) for member in members}
    except FileNotFoundError:
        raise RecordingError(f"{path} is no recording: expected a directory (name.wpr) or a packed file; nothing is there") from None
    except Exception as error:  # what the archive library raises on damaged files has no common base
        raise RecordingError(f"{path} is no recording: expected a directory (name.wpr) or a packed file ({one_line(error)})") from error


def _stored(path: Path, member: zipfile.ZipInfo) -> Extent:
    """Return where the bytes of an uncompressed member lie."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.compress_size != member.file_size:
        raise RecordingError(f"{member.filename[:60]!r} is not stored as it is")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        offset = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
        if offset + member.file_size > file.seek(0, 2):
            raise RecordingError(f"{member.filename[:60]!r} is cut short")
    return Extent(path, offset, member.file_size)
