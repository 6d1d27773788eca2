"""Reading a manifest: untrusted input, checked against the tables of docs/format.md, section 3."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worldprobe.activations._files import RecordingError, one_line
from worldprobe.activations._layout import DTYPES, is_key
from worldprobe.activations._manifest import FORMAT, MANIFEST, VERSION, ArraySpec, Identity, Manifest, ShardEntry, shard_file

Check = tuple[str, Callable[[Any], bool]]
"""What is expected in words, and whether a value is it."""


def _is_integer(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _is_splits(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in value)
    return numbers and math.isclose(sum(value), 1)


def _is_list_of(check: Check) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check[1](entry) for entry in value)


def _is_widths(value: Any) -> bool:
    return isinstance(value, dict) and all(is_key(f"site/{name}") and COUNT[1](width) for name, width in value.items())


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
    "environment": OBJECT,
    "arrays": OBJECT,
    "shards": LIST,
}
IDENTITY_FIELDS: dict[str, Check] = {
    "world": ("an object with a name", lambda value: isinstance(value, dict) and TEXT[1](value.get("name"))),
    "agent": ("an object or null", lambda value: value is None or isinstance(value, dict)),
    "channels": ("a list of strings", _is_list_of(TEXT)),
    "behaviour": OBJECT,
    "seed": NATURAL,
    "n_episodes": COUNT,
    "n_envs": COUNT,
    "episodes_per_shard": COUNT,
    "splits": ("three fractions that sum to 1", _is_splits),
    "sites": ("an object of widths >= 1", _is_widths),
    "stream": ("a SHA-256 or null", lambda value: value is None or HASH[1](value)),
}
ARRAY_FIELDS: dict[str, Check] = {
    "dtype": (f"one of {', '.join(DTYPES)}", lambda value: value in DTYPES),
    "shape": ("a list of integers >= 1", _is_list_of(COUNT)),
    "along": ("'step' or 'episode'", lambda value: value in ("step", "episode")),
}
SHARD_FIELDS: dict[str, Check] = {
    "file": TEXT,
    "index": NATURAL,
    "sha256": HASH,
    "size": COUNT,
    "n_episodes": COUNT,
    "n_steps": COUNT,
}


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifest of `directory`.

    Raises
    ------
    RecordingError
        If it is not there, is no manifest, is of another version, or does not follow the specification.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise RecordingError(f"{directory} is no recording: expected a directory (name.wpr) that holds {MANIFEST}")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecordingError(f"{path} is damaged: expected JSON, got {one_line(error)}") from error
    return _parse_manifest(content, path)


def _parse_manifest(content: Any, path: Path) -> Manifest:
    """Build the manifest from decoded JSON."""
    _check_origin(content, path)
    _check_fields(content, MANIFEST_FIELDS, f"{path}")
    identity = _parse_identity(content["identity"], path)
    if identity.fingerprint != content["fingerprint"]:
        raise RecordingError(f"{path} was changed by hand: its fingerprint is not that of its identity")
    arrays = {key: _parse_array(key, value, path) for key, value in content["arrays"].items()}
    shards = tuple(_parse_shard(entry, identity, path) for entry in content["shards"])
    if [shard.index for shard in shards] != sorted({shard.index for shard in shards}):
        raise RecordingError(f"{path}: shards must be listed once each, in order")
    if bool(shards) != bool(arrays):
        raise RecordingError(f"{path}: expected arrays if and only if there are shards; got {len(arrays)} arrays, {len(shards)} shards")
    return Manifest(identity, content["environment"], arrays, shards)


def _check_origin(content: Any, path: Path) -> None:
    """Tell a foreign file and another version apart from a damaged one."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RecordingError(f'{path} is not the manifest of a recording: expected "format": "{FORMAT}"')
    if str(content.get("version")) != str(VERSION):
        raise RecordingError(f"{path} is of format version {content.get('version')!r}; this worldprobe reads version {VERSION}: update it")


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


def _parse_array(key: str, content: Any, path: Path) -> ArraySpec:
    if not is_key(key) or not isinstance(content, dict):
        raise RecordingError(f"{path}: arrays must map keys such as 'site/core.h' to objects; got {key[:60]!r}")
    _check_fields(content, ARRAY_FIELDS, f"{path}: array {key!r}")
    return ArraySpec(content["dtype"], tuple(content["shape"]), content["along"])


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
