"""The manifest `recording.json`: what was recorded, and which shards are finished (docs/format.md, section 3)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from worldprobe.activations._files import RecordingError, write_whole
from worldprobe.agents import seal

FORMAT, SHARD_FORMAT, VERSION = "worldprobe recording", "worldprobe shard", 2
READABLE = (1, 2)
"""Versions that are read; older ones than the present are migrated in memory."""
MANIFEST = "recording.json"

STEP_CONVENTION = (
    "Row t holds observation o_t, sites after o_t was processed and before action a_t was chosen, action a_t, reward r_t that it brought, "
    "state s_t and belief b_t = P(s_t | all received up to o_t). What follows the last action of an episode is in the final_ arrays."
)
TICK_CONVENTION = "One core update per step; a module called several times a step has one site per tick."


@dataclass(frozen=True)
class ArraySpec:
    """Dtype and row shape of one key."""

    dtype: str
    shape: tuple[int, ...]
    """Shape of one row."""
    along: Literal["step", "episode"]
    """Whether it has a row per step or per episode."""
    stored: str
    """What it is stored as: `dtype` itself, int8 for bool, or the precision of a site."""


@dataclass(frozen=True)
class ShardEntry:
    """One finished shard."""

    file: str
    index: int
    sha256: str
    size: int
    """Bytes of the file."""
    n_episodes: int
    n_steps: int
    loss: dict[str, dict[str, float]] = field(default_factory=dict)
    """What a lower precision took from each site: `max` and `relative_rms` error."""


@dataclass(frozen=True)
class Identity:
    """Everything that decides the arrays of a recording, up to package versions and thread count."""

    world: dict[str, Any]
    agent: dict[str, Any] | None
    channels: tuple[str, ...]
    behaviour: dict[str, Any]
    seed: int
    n_episodes: int
    n_envs: int
    episodes_per_shard: int
    splits: tuple[float, ...]
    """Fractions of train, validation and test."""
    sites: dict[str, int]
    """Site to width."""
    stream: str | None
    """Fingerprint of the recording whose episodes another network was run on."""
    precision: str = "float32"
    """What sites are stored as."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """The fields as JSON, not to be changed."""
        return asdict(self)

    @cached_property
    def json(self) -> str:
        """The fields as canonical JSON."""
        return canonical_json(self.content)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity as canonical JSON; full precision goes without saying, as in version 1."""
        content = dict(self.content)
        if self.precision == "float32":
            del content["precision"]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()

    @property
    def n_shards(self) -> int:
        """Number of shards of the finished recording."""
        return -(-self.n_episodes // self.episodes_per_shard)

    def shard_episodes(self, index: int) -> range:
        """Return the numbers of the episodes of shard `index`."""
        first = index * self.episodes_per_shard
        return range(first, min(first + self.episodes_per_shard, self.n_episodes))


@dataclass(frozen=True)
class Manifest:
    """The content of `recording.json`, or of one part of it; every change is a new manifest."""

    identity: Identity
    environment: dict[str, Any]
    arrays: dict[str, ArraySpec] = field(default_factory=dict)
    shards: tuple[ShardEntry, ...] = ()

    @property
    def missing(self) -> list[int]:
        """Indices of the shards that are still to be made."""
        finished = {shard.index for shard in self.shards}
        return [index for index in range(self.identity.n_shards) if index not in finished]

    def with_shard(self, entry: ShardEntry, arrays: Mapping[str, ArraySpec]) -> Manifest:
        """Return the manifest that lists one more shard.

        Raises
        ------
        RecordingError
            If the shard holds other arrays than those before it.
        """
        if self.arrays and self.arrays != arrays:
            odd = sorted(key for key in {*self.arrays, *arrays} if self.arrays.get(key) != arrays.get(key))
            raise RecordingError(f"shard {entry.index} differs from those before it in {', '.join(odd)}; world and agent must not change")
        others = [shard for shard in self.shards if shard.index != entry.index]
        return replace(self, arrays=dict(arrays), shards=tuple(sorted([*others, entry], key=lambda shard: shard.index)))

    def content(self) -> bytes:
        """Return the content of its file."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.identity.fingerprint,
            "convention": {"step": STEP_CONVENTION, "tick": TICK_CONVENTION},
            "identity": self.identity.content,
            "environment": self.environment,
            "arrays": {key: asdict(spec) for key, spec in self.arrays.items()},
            "shards": [asdict(entry) for entry in self.shards],
        }
        return (json.dumps(seal(content), indent=1) + "\n").encode()

    def write(self, directory: Path, name: str = MANIFEST) -> None:
        """Replace a manifest of `directory` in one step."""
        write_whole(directory / name, self.content())


@dataclass(frozen=True)
class Part:
    """The shards of one of several processes that record side by side: index, index + count, index + 2 count, ..."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"a part is (index, count) with 0 <= index < count, such as (0, 4); got ({self.index}, {self.count})")

    @property
    def manifest(self) -> str:
        """Name of the file that lists its shards."""
        return f"part-{self.index}-of-{self.count}.json"


_MANIFEST_NAME = re.compile(r"recording\.json|part-\d+-of-\d+\.json")


def manifest_names(names: Iterable[str]) -> list[str]:
    """Return those of some file names that are manifests: `recording.json`, and those of parts."""
    return sorted(filter(_MANIFEST_NAME.fullmatch, names))


def shard_file(index: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{index:05d}.h5"


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: equal values, equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Return where two JSON values differ, each as "path: old, now new"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))]
    old_text, new_text = canonical_json(old), canonical_json(new)
    return [] if old_text == new_text else [f"{at}: {old_text[:60]}, now {new_text[:60]}"]
