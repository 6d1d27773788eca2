"""Recordings as files to move about: one packed file, or one recording of the shards of several."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from worldprobe.activations._extents import find_extents, proven_blocks
from worldprobe.activations._files import PARTIAL, RecordingError, flush_to_disk, write_blocks, writing
from worldprobe.activations._manifest import MANIFEST, manifest_names
from worldprobe.activations._parts import merged, read_manifest
from worldprobe.activations._reader import Recording, open_recording


def pack_recording(path: str | Path, target: str | Path) -> Recording:
    """Write a recording into one file: an uncompressed zip archive of its manifest and shards, each byte for byte as it is.

    `open_recording` reads the file as it reads the directory; any unzip program gives the directory back.

    Parameters
    ----------
    path : str or Path
        The recording.
    target : str or Path
        The file, by custom `name.wpr.zip`; one that is there is replaced when the new one is whole.

    Returns
    -------
    Recording
        The packed recording, open.

    Raises
    ------
    RecordingError
        If a shard is damaged, or the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, pack_recording, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=20, seed=0).close()
    ...     with pack_recording(f"{folder}/common.wpr", f"{folder}/common.wpr.zip") as packed:
    ...         packed.verify()
    ...         packed.n_episodes
    20
    """
    extents, target = find_extents(Path(path)), Path(target)
    manifest = read_manifest(Path(path), extents)
    partial = target.with_name(f"{target.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            with archive.open(zipfile.ZipInfo(MANIFEST), "w") as member:
                member.write(manifest.content())
            for entry in manifest.shards:
                with archive.open(zipfile.ZipInfo(entry.file), "w", force_zip64=entry.size >= 2**31) as member:
                    for block in proven_blocks(extents[entry.file], entry.sha256):
                        member.write(block)
        flush_to_disk(partial)
        partial.replace(target)
    except OSError as error:
        raise RecordingError(f"cannot write {target}: {error.strerror}; make room and pack again") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return open_recording(target)


def merge_recordings(sources: Sequence[str | Path], target: str | Path) -> Recording:
    """Join what several processes recorded of one recording, in directories of their own or in one as parts.

    Parameters
    ----------
    sources : sequence of str or Path
        Recordings of equal identity and environment; a shard that several hold must be the same in all.
    target : str or Path
        The directory of the whole. It may be one of the sources: its parts are then folded into its `recording.json`.

    Returns
    -------
    Recording
        The joined recording, open; finished if the sources hold all shards.

    Raises
    ------
    RecordingError
        If the sources are not of one recording, a shard is damaged, or the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, merge_recordings, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(2):
    ...         record(None, world, f"{folder}/{i}.wpr", CommonBehaviour(world), 20, 0, episodes_per_shard=10, part=(i, 2)).close()
    ...     with merge_recordings([f"{folder}/0.wpr", f"{folder}/1.wpr"], f"{folder}/whole.wpr") as whole:
    ...         whole.is_complete
    True
    """
    target = Path(target)
    paths = [Path(source) for source in sources]
    if target.is_dir() and target not in paths and any(target.iterdir()):
        paths.insert(0, target)
    found = [find_extents(path) for path in paths]
    whole = merged([read_manifest(path, extents) for path, extents in zip(paths, found, strict=True)], paths)
    target.mkdir(parents=True, exist_ok=True)
    with writing(target, shared=False):
        for entry in whole.shards:
            holder = next(extents for extents in found if entry.file in extents)
            if holder[entry.file].path != target / entry.file:
                blocks = proven_blocks(holder[entry.file], entry.sha256)
                write_blocks(target / entry.file, blocks, f"a copy of {holder[entry.file].path}")
        whole.write(target)
        for name in manifest_names(path.name for path in target.iterdir()):
            if name != MANIFEST:
                (target / name).unlink()
    return open_recording(target)
