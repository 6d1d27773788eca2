"""From made episodes to committed shards: what is missing is made, and written while the next is in the making."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from worldprobe.activations._describe import environment
from worldprobe.activations._episodes import Episodes
from worldprobe.activations._extents import find_extents
from worldprobe.activations._files import PARTIAL, RecordingError, remove_partials, writing
from worldprobe.activations._manifest import MANIFEST, Identity, Manifest, Part, differences, manifest_names, shard_file
from worldprobe.activations._parts import read_manifest, read_one
from worldprobe.activations._reader import Recording, open_recording
from worldprobe.activations._storage import COMPRESSIONS, file_dtype, stored_dtype
from worldprobe.activations._writer import commit_shard

Progress = Callable[[int, int], None]
"""Told, after every shard, how many episodes are recorded, and of how many."""

OVERHEAD_OF_ROW, OVERHEAD_OF_SHARD = 24, 40_000
"""Bytes that a row takes beside its arrays (step, t, episode), and a shard beside its rows (headers, scales)."""

LOGGER = logging.getLogger("worldprobe")


@dataclass(frozen=True)
class Target:
    """Where a recording goes, and how it lies there."""

    path: Path
    compression: str = "none"
    """One of `COMPRESSIONS`."""
    part: Part | None = None
    """Which of several processes this is; None records everything."""

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"unknown compression {self.compression!r}; expected one of {', '.join(COMPRESSIONS)}")

    @property
    def manifest(self) -> str:
        """Name of the manifest that this writer alone writes."""
        return self.part.manifest if self.part else MANIFEST

    def mine(self, index: int) -> bool:
        """Return whether this writer makes shard `index`."""
        return self.part is None or index % self.part.count == self.part.index


Finish = Callable[[], Episodes]
"""Completes the episodes of a shard that were played; called once, in another thread, beside the making of the next shard."""


def record_shards(target: Target, identity: Identity, make: Callable[[int], Finish], progress: Progress | None) -> Recording:
    """Make and commit every shard of the target that is missing; one is completed and written while the next is made."""
    _make_directory(target.path)
    with writing(target.path, shared=target.part is not None):
        manifest, todo = _begun(target, identity)
        with ThreadPoolExecutor(1) as pool:
            pending: Future[Manifest] | None = None
            for index in todo:
                finish = make(index)
                if pending:
                    manifest = _committed(pending, progress)
                announced = 0 if pending else sum(len(identity.shard_episodes(i)) for i in todo)
                pending = pool.submit(_finish_and_commit, target, manifest, index, finish, announced)
            if pending:
                _committed(pending, progress)
    return open_recording(target.path)


def done(episodes: Episodes) -> Finish:
    """Return what gives episodes that are complete already."""
    return lambda: episodes


def _finish_and_commit(target: Target, manifest: Manifest, index: int, finish: Finish, announced: int) -> Manifest:
    """Complete a shard and write it; before the first one, say what `announced` episodes will need."""
    episodes = finish()
    if announced:
        announce(target.path, _bytes_per_episode(manifest, episodes), announced)
    return commit_shard(target.path, manifest, index, episodes, compression=target.compression, name=target.manifest)


def _committed(pending: Future[Manifest], progress: Progress | None) -> Manifest:
    """Wait for a shard and return the manifest that lists it."""
    manifest = pending.result()
    if progress:
        progress(sum(entry.n_episodes for entry in manifest.shards), manifest.identity.n_episodes)
    return manifest


def _begun(target: Target, identity: Identity) -> tuple[Manifest, list[int]]:
    """Return the writer's own manifest and the shards it is to make, after checking that what is there is of the same thing."""
    path, new = target.path, Manifest(identity, environment())
    remove_partials(path, [target.manifest, *map(shard_file, filter(target.mine, new.missing))] if target.part else [""])
    extents = find_extents(path)
    if not manifest_names(extents):
        new.write(path, target.manifest)
        return new, [index for index in new.missing if target.mine(index)]
    whole = read_manifest(path, extents)
    changed = differences(whole.identity.content, identity.content)
    if changed:
        raise RecordingError(f"{path} holds another recording ({'; '.join(changed[:3])}): choose another path, or delete it")
    todo = [index for index in whole.missing if target.mine(index)]
    changed = differences(whole.environment, new.environment)
    if todo and changed:
        raise RecordingError(f"{path} was begun elsewhere ({'; '.join(changed[:3])}): go on with the same, or delete it and record anew")
    if target.part is None:
        return whole, todo
    own = extents.get(target.manifest)
    return (read_one(path / target.manifest, own) if own else new), todo


def _make_directory(path: Path) -> None:
    """Make the directory, or check that it is one of ours."""
    if path.exists() and not path.is_dir():
        raise RecordingError(f"{path} exists and is no recording: choose another path")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"cannot make the directory {path}: {error.strerror}") from error
    foreign = [entry.name for entry in path.iterdir() if not entry.name.endswith(PARTIAL)]
    if foreign and not manifest_names(foreign):
        raise RecordingError(f"{path} is no recording: choose another path (it holds {foreign[0]!r})")


def announce(path: Path, bytes_per_episode: float, n_episodes: int) -> None:
    """Say what the disk will have to hold, before it is asked to."""
    need, free = bytes_per_episode * n_episodes, shutil.disk_usage(path).free
    message = f"{path}: about {need / 1e6:,.1f} MB for {n_episodes:,} episodes; {free / 1e6:,.0f} MB are free"
    if need > free:
        LOGGER.warning("%s: it will not fit; what is finished will be kept", message)
    else:
        LOGGER.info("%s", message)


def _bytes_per_episode(manifest: Manifest, made: Episodes) -> float:
    """Return the size on the disk: of the shards that are there, or of the episodes that were just made."""
    if manifest.shards:
        return sum(entry.size for entry in manifest.shards) / sum(entry.n_episodes for entry in manifest.shards)
    precision = manifest.identity.precision
    sizes = [values.size * file_dtype(stored_dtype(str(values.dtype), key, precision)).itemsize for key, values in made.arrays.items()]
    return (sum(sizes) + OVERHEAD_OF_ROW * made.n_steps + OVERHEAD_OF_SHARD) / made.number.size
