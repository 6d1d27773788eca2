"""What a recording holds, in words."""

from __future__ import annotations

import numpy as np

from worldprobe.activations._reader import Recording


def describe_recording(recording: Recording) -> str:
    """Return what `repr` says, and below it sizes, versions and what a lower precision took from each site.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, describe_recording, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=20, seed=0) as recording:
    ...         print(describe_recording(recording).splitlines()[-2])
    11 train, 7 validation, 2 test episodes; seed 0; beliefs on action, observation
    """
    manifest, identity = recording.manifest, recording.identity
    disk, memory = sum(entry.size for entry in manifest.shards), sum(recording[key].nbytes for key in recording)
    split = np.bincount(recording.episodes["split"], minlength=3) if recording.n_episodes else np.zeros(3, int)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.environment.get("versions", {}).items())
    return "\n".join(
        [
            repr(recording),
            *_losses(recording),
            f"{len(manifest.shards)} of {identity.n_shards} shards, {disk / 1e6:,.1f} MB on the disk, {memory / 1e6:,.1f} MB in memory",
            f"{split[0]:,} train, {split[1]:,} validation, {split[2]:,} test episodes; seed {identity.seed}; "
            f"beliefs on {', '.join(identity.channels)}",
            f"made with {versions}",
        ]
    )


def _losses(recording: Recording) -> list[str]:
    """Return a line for every site of lower precision: its largest error, and the root mean square one over that of the site."""
    lines, shards = [], recording.manifest.shards
    for key in sorted({key for entry in shards for key in entry.loss}):
        largest, relative = (max(entry.loss[key][name] for entry in shards) for name in ("max", "relative_rms"))
        lines.append(f"{key} is stored as {recording.manifest.arrays[key].stored}: error at most {largest:.2g}, {relative:.1e} of its size")
    return lines
