"""Reading a manifest: untrusted input, checked against the tables of docs/format.md, section 3."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worldprobe.activations._files import RecordingError, one_line
from worldprobe.activations._layout import DTYPES, EPISODE_KEYS, along, is_key
from worldprobe.activations._manifest import FORMAT, READABLE, VERSION, ArraySpec, Identity, Manifest, ShardEntry, shard_file
from worldprobe.activations._storage import PRECISIONS, file_dtype, stored_dtype
from worldprobe.agents import unseal

Check = tuple[str, Callable[[Any], bool]]
"""What is expected in words, and whether a value is it."""

LARGEST_MANIFEST, DEEPEST = 2**26, 32
"""Bytes of a manifest, and levels of nesting in it."""
LARGEST_RATIO = 1000
"""Bytes in memory of a shard over bytes on the disk: more is made to fill the memory."""


def _is_integer(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _is_splits(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in value)
    return numbers and math.isclose(sum(value), 1)


def _is_list_of(check: Check) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check[1](entry) for entry in value)


def _is_widths(value: Any) -> bool:
    return isinstance(value, dict) and all(is_key(f"site/{name}") and COUNT[1](width) for name, width in value.items())


def _is_named(value: Any, *texts: str) -> bool:
    """Return whether a value is an object with a name and other texts."""
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("name", *texts))


def _is_world(value: Any) -> bool:
    has_lists = _is_named(value) and all(isinstance(value.get(name), list) for name in ("actions", "factors"))
    return has_lists and all(_is_named(factor) for factor in value["factors"])


def _is_loss(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_key(key) and isinstance(errors, dict) and errors.keys() == {"max", "relative_rms"} and all(map(_is_error, errors.values()))
        for key, errors in value.items()
    )


def _is_error(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


TEXT: Check = ("a string", lambda value: isinstance(value, str))
OBJECT: Check = ("an object", lambda value: isinstance(value, dict))
LIST: Check = ("a list", lambda value: isinstance(value, list))
NATURAL: Check = ("an integer >= 0", _is_integer(0))
COUNT: Check = ("an integer >= 1", _is_integer(1))
HASH: Check = ("a SHA-256 in hexadecimal", lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None)

MANIFEST_FIELDS: dict[str, Check] = {
    "format": (repr(FORMAT), lambda value: value == FORMAT),
    "version": (str(VERSION), lambda value: value == VERSION),
    "identity": OBJECT,
    "fingerprint": HASH,
    "convention": OBJECT,
    "environment": ("an object with versions", lambda value: isinstance(value, dict) and isinstance(value.get("versions"), dict)),
    "arrays": OBJECT,
    "shards": LIST,
}
IDENTITY_FIELDS: dict[str, Check] = {
    "world": ("an object with a name, actions and named factors", _is_world),
    "agent": ("an object with a name and a checkpoint, or null", lambda value: value is None or _is_named(value, "checkpoint")),
    "channels": ("a list of strings", _is_list_of(TEXT)),
    "behaviour": ("an object with a name", _is_named),
    "seed": NATURAL,
    "n_episodes": COUNT,
    "n_envs": COUNT,
    "episodes_per_shard": COUNT,
    "splits": ("three fractions that sum to 1", _is_splits),
    "sites": ("an object of widths >= 1", _is_widths),
    "stream": ("a SHA-256 or null", lambda value: value is None or HASH[1](value)),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
}
ARRAY_FIELDS: dict[str, Check] = {
    "dtype": (f"one of {', '.join(DTYPES)}", lambda value: value in DTYPES),
    "shape": ("a list of integers >= 1", _is_list_of(COUNT)),
    "along": ("'step' or 'episode'", lambda value: value in ("step", "episode")),
    "stored": TEXT,
}
SHARD_FIELDS: dict[str, Check] = {
    "file": TEXT,
    "index": NATURAL,
    "sha256": HASH,
    "size": COUNT,
    "n_episodes": COUNT,
    "n_steps": COUNT,
    "loss": ("an object of errors by site", _is_loss),
}
TABLE_KEYS = {"t": "int64", "episode": "int64", "terminated": "bool"} | {
    key: "bool" if key == "episode/terminated" else "int64" for key in EPISODE_KEYS
}
"""Arrays that every recording has, one number a row, and their dtypes."""


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Build a manifest from the bytes of its file.

    Raises
    ------
    RecordingError
        If it is no manifest, is of another version, or does not follow the specification.
    """
    try:
        decoded = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path} is damaged: expected JSON, got {one_line(error)}") from error
    _check_origin(decoded, path)
    _check_depth(decoded, path)
    migrated = _migrated(decoded) if decoded["version"] == 1 else _unsealed(decoded, path)
    _check_fields(migrated, MANIFEST_FIELDS, f"{path}")
    return _build(migrated, path)


def _build(content: dict[str, Any], path: Path) -> Manifest:
    """Build the manifest from checked fields."""
    identity = _parse_identity(content["identity"], path)
    if identity.fingerprint != content["fingerprint"]:
        raise RecordingError(f"{path} was changed by hand: its fingerprint is not that of its identity")
    arrays = {key: _parse_array(key, value, identity, path) for key, value in content["arrays"].items()}
    shards = tuple(_parse_shard(entry, identity, path) for entry in content["shards"])
    if [shard.index for shard in shards] != sorted({shard.index for shard in shards}):
        raise RecordingError(f"{path}: shards must be listed once each, in order")
    if bool(shards) != bool(arrays):
        raise RecordingError(f"{path}: expected arrays if and only if there are shards; got {len(arrays)} arrays, {len(shards)} shards")
    _check_tables(arrays, path)
    lossy = {key for key, spec in arrays.items() if spec.dtype == "float32" != spec.stored}
    for shard in shards:
        _check_size(shard, arrays, path)
        if shard.loss.keys() != lossy:
            raise RecordingError(f"{path}: expected the loss of {sorted(lossy)} in {shard.file}; got {sorted(shard.loss)}")
    return Manifest(identity, content["environment"], arrays, shards)


def _migrated(content: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of version 1 as one of version 2: nothing had a lower precision then. Broken fields are left to the checks."""
    new = json.loads(json.dumps(content)) | {"version": VERSION}
    if isinstance(new.get("identity"), dict):
        new["identity"]["precision"] = "float32"
    for key, spec in new["arrays"].items() if isinstance(new.get("arrays"), dict) else ():
        if isinstance(spec, dict):
            spec["stored"] = stored_dtype(str(spec.get("dtype")), key, "float32")
    for shard in new["shards"] if isinstance(new.get("shards"), list) else ():
        if isinstance(shard, dict):
            shard["loss"] = {}
    return dict(new)


def _check_origin(content: Any, path: Path) -> None:
    """Tell a foreign file and another version apart from a damaged one."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RecordingError(f'{path} is not the manifest of a recording: expected "format": "{FORMAT}"')
    version = content.get("version")
    if isinstance(version, bool) or version not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise RecordingError(f"{path} is of format version {str(version)[:60]}; this worldprobe reads versions {known}: update it")


def _unsealed(content: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        return unseal(content)
    except ValueError as error:
        raise RecordingError(f"{path} is damaged: {error}; restore it, or delete the recording and record again") from None


def _check_depth(content: Any, path: Path) -> None:
    """Raise if objects and lists are nested absurdly deep."""
    level = [content]
    for _ in range(DEEPEST):
        level = [
            inner for entry in level if isinstance(entry, dict | list) for inner in (entry.values() if isinstance(entry, dict) else entry)
        ]
        if not level:
            return
    raise RecordingError(f"{path} is damaged: its fields are nested more than {DEEPEST} levels deep")


def _check_fields(content: Mapping[str, Any], table: Mapping[str, Check], where: str) -> None:
    """Raise unless `content` has exactly the fields of `table`, each as expected."""
    if content.keys() != table.keys():
        missing, unknown = sorted(table.keys() - content.keys()), sorted(content.keys() - table.keys())
        raise RecordingError(f"{where}: fields missing {missing}, fields unknown {unknown}")
    for name, (expected, holds) in table.items():
        if not holds(content[name]):
            raise RecordingError(f"{where}: field {name!r} must be {expected}; got {str(content[name])[:60]!r}")


def _parse_identity(content: dict[str, Any], path: Path) -> Identity:
    _check_fields(content, IDENTITY_FIELDS, f"{path}: identity")
    tuples = {name: tuple(content[name]) for name in ("channels", "splits")}
    return Identity(**{**content, **tuples})


def _parse_array(key: str, content: Any, identity: Identity, path: Path) -> ArraySpec:
    if not is_key(key) or not isinstance(content, dict):
        raise RecordingError(f"{path}: arrays must map keys such as 'site/core.h' to objects; got {key[:60]!r}")
    _check_fields(content, ARRAY_FIELDS, f"{path}: array {key!r}")
    stored = stored_dtype(content["dtype"], key, identity.precision)
    if content["along"] != along(key) or content["stored"] != stored:
        raise RecordingError(f"{path}: array {key!r} must be along {along(key)!r} and stored as {stored}; got {str(content)[:120]}")
    return ArraySpec(content["dtype"], tuple(content["shape"]), along(key), stored)


def _check_tables(arrays: Mapping[str, ArraySpec], path: Path) -> None:
    """Raise unless the arrays that every recording has are there."""
    for key, dtype in TABLE_KEYS.items() if arrays else ():
        if key not in arrays or arrays[key].dtype != dtype or arrays[key].shape:
            raise RecordingError(f"{path}: every recording has {key!r}, one {dtype} a row; got {arrays.get(key)}")


def _check_size(shard: ShardEntry, arrays: Mapping[str, ArraySpec], path: Path) -> None:
    """Raise if a shard promises absurdly more than its file can hold."""
    n_rows = {"step": shard.n_steps, "episode": shard.n_episodes}
    promised = sum(n_rows[spec.along] * math.prod(spec.shape) * file_dtype(spec.stored).itemsize for spec in arrays.values())
    if promised > LARGEST_RATIO * shard.size:
        raise RecordingError(f"{path}: {shard.file} promises {promised:,} bytes in a file of {shard.size:,}: it is made to fill the memory")


def _parse_shard(content: Any, identity: Identity, path: Path) -> ShardEntry:
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: every shard must be an object; got {str(content)[:60]!r}")
    _check_fields(content, SHARD_FIELDS, f"{path}: shard")
    entry = ShardEntry(**content)
    if entry.file != shard_file(entry.index) or entry.n_episodes != len(identity.shard_episodes(entry.index)):
        raise RecordingError(f"{path}: expected {shard_file(entry.index)} with its planned number of episodes; got {entry}")
    if entry.n_steps < entry.n_episodes:
        raise RecordingError(f"{path}: shard {entry.index} cannot have {entry.n_steps} steps in {entry.n_episodes} episodes")
    return entry
