"""Keys, and how they lie in a shard (docs/format.md, section 4)."""

from __future__ import annotations

import re
from typing import Literal

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
"""Dtypes an array may have."""

ROW_KEYS = {
    "observation": "observation o_t",
    "action": "action a_t",
    "reward": "reward r_t that a_t brought",
    "terminated": "whether the world ended the episode after a_t",
    "truncated": "whether the time limit ended the episode after a_t",
    "t": "step within the episode",
    "episode": "number of the episode",
}
"""Keys with a row per step, beside the prefixed ones."""

ROW_PREFIXES = {
    "factor": "factor of the state s_t",
    "state": "simulator state s_t",
    "belief": "exact belief b_t",
    "expected": "E[factor | belief b_t]",
    "site": "activation at step t",
}
"""Prefixes of keys with a row per step."""

EPISODE_KEYS = {
    "episode/number": "number of the episode",
    "episode/start": "first row of the episode within the shard",
    "episode/length": "number of rows of the episode",
    "episode/split": "0 train, 1 validation, 2 test",
    "episode/terminated": "whether the world ended the episode, not the time limit",
}
"""Keys with a row per episode, beside the `final_` ones."""

SPLITS = ("train", "validation", "test")
CHUNK_BYTES = 2**18

_NAME = r"[A-Za-z0-9_.\-\[\]]+"
_KEY = re.compile(
    rf"({'|'.join(ROW_KEYS)}|{'|'.join(EPISODE_KEYS)}|final_observation"
    rf"|({'|'.join(ROW_PREFIXES)})/{_NAME}(/{_NAME})*|final_(factor|state|belief|expected)/{_NAME}(/{_NAME})*)"
)


def is_key(key: str) -> bool:
    """Return whether `key` may name an array of a recording."""
    return _KEY.fullmatch(key) is not None


def along(key: str) -> Literal["step", "episode"]:
    """Return whether the array of `key` has a row per step or per episode."""
    return "episode" if key.startswith(("episode/", "final_")) else "step"


def long_name(key: str) -> str:
    """Return what the array of `key` holds, in words."""
    if key in EPISODE_KEYS:
        return EPISODE_KEYS[key]
    kind, _, name = key.removeprefix("final_").partition("/")
    words = ROW_KEYS.get(kind) or f"{ROW_PREFIXES[kind]}: {name}"
    return f"{words}, with t the end of the episode" if key.startswith("final_") else words


def stored_name(key: str) -> str:
    """Return the name of the dataset of `key`: HDF5 keeps the slash for groups."""
    return key.replace("/", ":")


def axis_name(key: str, axis: int) -> str:
    """Return the name of the dimension scale of axis `axis` of `key`."""
    if axis == 0:
        return stored_name("episode/number") if along(key) == "episode" else "step"
    return f"{stored_name(key.removeprefix('final_'))}@{axis}"


def chunk_rows(row_bytes: int, n_rows: int) -> int:
    """Return the rows of a chunk: the largest power of two within 256 KiB, at most `n_rows` and at least one."""
    fitting = max(1, CHUNK_BYTES // row_bytes)
    return min(n_rows, 1 << (fitting.bit_length() - 1))
