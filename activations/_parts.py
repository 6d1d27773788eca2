"""One recording from the manifests of several writers (docs/format.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from worldprobe.activations._files import RecordingError
from worldprobe.activations._manifest import MANIFEST, Manifest, differences, manifest_files
from worldprobe.activations._schema import parse_manifest


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifests of `directory`: what all its writers have finished.

    Raises
    ------
    RecordingError
        If there is none, one does not follow the specification, or two are not of one recording.
    """
    paths = manifest_files(directory)
    if not paths:
        raise RecordingError(f"{directory} is no recording: expected a directory (name.wpr) that holds {MANIFEST}, or one packed file")
    return merged([read_one(path) for path in paths], paths)


def read_one(path: Path) -> Manifest:
    """Read and check one manifest file."""
    try:
        content = path.read_bytes()
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
        changed = differences(asdict(whole.identity), asdict(manifest.identity)) or differences(whole.environment, manifest.environment)
        if changed:
            raise RecordingError(f"{path} is of another recording than {paths[0]} ({'; '.join(changed[:3])})")
        known = {entry.index: entry for entry in whole.shards}
        for entry in manifest.shards:
            if known.get(entry.index, entry) != entry:
                raise RecordingError(f"{path} lists another {entry.file} than {paths[0]}: one of them was made with other code")
            whole = whole.with_shard(entry, manifest.arrays)
    return whole
