"""One recording from the manifests of several writers (docs/format.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from worldprobe.activations._extents import Extent
from worldprobe.activations._files import RecordingError
from worldprobe.activations._manifest import MANIFEST, Manifest, differences, manifest_names
from worldprobe.activations._schema import LARGEST_MANIFEST, parse_manifest


def read_manifest(path: Path, extents: Mapping[str, Extent]) -> Manifest:
    """Read and check the manifests among the files of a recording: what all its writers have finished.

    Raises
    ------
    RecordingError
        If there is none, one does not follow the specification, or two are not of one recording.
    """
    names = manifest_names(extents)
    if not names:
        raise RecordingError(f"{path} is no recording: expected a directory (name.wpr) or a packed file that holds {MANIFEST}")
    return merged([read_one(path / name, extents[name]) for name in names], [path / name for name in names])


def read_one(path: Path, extent: Extent) -> Manifest:
    """Read and check one manifest, which messages call `path`."""
    if extent.size > LARGEST_MANIFEST:
        raise RecordingError(f"{path} is damaged: a manifest takes at most {LARGEST_MANIFEST:,} bytes, this has {extent.size:,}")
    try:
        with extent.open() as file:
            content = file.read()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    return parse_manifest(content, path)


def merged(manifests: Sequence[Manifest], paths: Sequence[Path]) -> Manifest:
    """Return the manifest that lists the shards of all.

    Raises
    ------
    RecordingError
        If they are not of one recording, were made with other versions, or list one shard with different content.
    """
    whole = manifests[0]
    for manifest, path in zip(manifests[1:], paths[1:], strict=True):
        changed = differences(whole.identity.content, manifest.identity.content) or differences(whole.environment, manifest.environment)
        if changed:
            raise RecordingError(f"{path} is of another recording than {paths[0]} ({'; '.join(changed[:3])})")
        known = {entry.index: entry for entry in whole.shards}
        for entry in manifest.shards:
            if known.get(entry.index, entry) != entry:
                raise RecordingError(f"{path} lists another {entry.file} than {paths[0]}: one of them was made with other code")
            whole = whole.with_shard(entry, manifest.arrays)
    return whole
