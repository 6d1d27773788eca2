"""Reading a recording: lazy arrays, the episode table, splits and batches (docs/format.md, section 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from worldprobe.activations._array import RecordedArray
from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._extents import find_extents
from worldprobe.activations._files import RecordingError
from worldprobe.activations._layout import SPLITS, along
from worldprobe.activations._manifest import Identity
from worldprobe.activations._parts import read_manifest
from worldprobe.activations._shards import Shards


class Recording:
    """One agent in one world under one behaviour policy, read lazily.

    `recording["site/core.h"]`, or `recording["core.h"]` for short, is an array that is read when it is indexed. Rows of all
    step arrays agree: row t holds o_t, the sites after o_t, a_t chosen from them, the r_t it brought, s_t and b_t. Made by
    `open_recording`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        extents = find_extents(path)
        self.manifest = read_manifest(path, extents)
        self._shards = Shards(path, extents, self.manifest)

    # --- arrays ---------------------------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Return the names of all arrays."""
        return sorted(self.manifest.arrays)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: str) -> bool:
        return key in self.manifest.arrays or f"site/{key}" in self.manifest.arrays

    def __getitem__(self, key: str) -> RecordedArray:
        """Return the array of a key, or of a site by its bare name.

        Raises
        ------
        KeyError
            If there is none; the message lists those there are.
        """
        if key not in self:
            raise KeyError(f"{self.path} has no array {key!r}; it has {', '.join(self.keys()) or 'none yet'}")
        return RecordedArray(self._shards, key if key in self.manifest.arrays else f"site/{key}")

    def batches(
        self, names: Sequence[str], *, split: str | None = None, n_steps: int = 8192, random_state: int | None = None
    ) -> Iterator[dict[str, Array]]:
        """Yield arrays over blocks of whole episodes, so that recordings larger than memory can be streamed.

        Parameters
        ----------
        names : sequence of str
            Keys with a row per step.
        split : str, optional
            Keep only the episodes of "train", "validation" or "test".
        n_steps : int
            Rows of a block, about; at least one episode.
        random_state : int, optional
            Shuffle the blocks by this seed; by default they come in order.

        Yields
        ------
        dict of str to ndarray
            Every name, and "groups": the episode number of each row.
        """
        arrays = {name: self[name] for name in names}
        blocks = self._blocks(n_steps)
        if random_state is not None:
            blocks = [blocks[i] for i in np.random.default_rng(random_state).permutation(len(blocks))]
        kept = np.ones(self.n_steps, dtype=bool) if split is None else self._in_split(split)
        for block in blocks:
            if kept[block].any():
                yield {name: array[block][kept[block]] for name, array in {**arrays, "groups": self["episode"]}.items()}

    def to_pandas(self, names: Sequence[str], *, split: str | None = None) -> pd.DataFrame:
        """Return step arrays as a table with one row per step, indexed by episode and t.

        Parameters
        ----------
        names : sequence of str
            Keys with a row per step; one with a row shape becomes a column per entry, `core.h[0]`, `core.h[1]`, ...
        split : str, optional
            Keep only the episodes of "train", "validation" or "test".
        """
        rows = slice(None) if split is None else self.split(split)
        columns: dict[str, Array] = {}
        for name in names:
            values = self[name][rows]
            for place in np.ndindex(values.shape[1:]):
                columns[f"{name}[{','.join(map(str, place))}]" if place else name] = values[(slice(None), *place)]
        return pd.DataFrame(columns, index=pd.MultiIndex.from_arrays([self["episode"][rows], self["t"][rows]], names=["episode", "t"]))

    def _blocks(self, n_steps: int) -> list[slice]:
        """Cut the rows into runs of whole episodes of about `n_steps`."""
        ends = self.episodes["start"].to_numpy() + self.episodes["length"].to_numpy()
        last_of_block = np.flatnonzero(np.diff(ends // max(1, n_steps), append=-1))
        stops = ends[last_of_block].tolist()
        return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]

    # --- episodes -------------------------------------------------------------------------------------------------

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """The episode table: `start`, `length`, `split` (0 train, 1 validation, 2 test), `terminated`, by episode number."""
        if not self.manifest.shards:
            return pd.DataFrame({"start": np.empty(0, np.int64), "length": np.empty(0, np.int64)}, index=pd.Index([], name="episode"))
        number, length, split = (self[f"episode/{name}"][:] for name in ("number", "length", "split"))
        self._check_table(number, length, split)
        columns = {"start": np.cumsum(length) - length, "length": length, "split": split, "terminated": self["episode/terminated"][:]}
        return pd.DataFrame(columns, index=pd.Index(number, name="episode"))

    def _check_table(self, number: Array, length: Array, split: Array) -> None:
        """Raise unless the table is that of the planned episodes and adds up to the rows of every shard."""
        shards = self.manifest.shards
        planned = np.concatenate([np.asarray(self.identity.shard_episodes(entry.index)) for entry in shards])
        first = np.cumsum([0, *(entry.n_episodes for entry in shards[:-1])])
        plausible = (number == planned).all() and ((length >= 1) & (length <= self.n_steps)).all() and np.isin(split, range(3)).all()
        if not plausible or (np.add.reduceat(length, first) != [entry.n_steps for entry in shards]).any():
            raise RecordingError(f"{self.path} is damaged: its episode table does not fit its rows; restore it, or record again")

    @cached_property
    def groups(self) -> Array:
        """Episode number of each row, int64 (n_steps,): the `groups` of a probe."""
        return np.repeat(self.episodes.index.to_numpy(), self.episodes["length"].to_numpy())

    def split(self, name: str) -> Array:
        """Return the rows of "train", "validation" or "test", int64 ascending.

        Raises
        ------
        ValueError
            If there is no such split.
        """
        return np.flatnonzero(self._in_split(name))

    def _in_split(self, name: str) -> Array:
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; the splits are {', '.join(SPLITS)}")
        return np.repeat(self.episodes["split"].to_numpy() == SPLITS.index(name), self.episodes["length"].to_numpy())

    # --- what was recorded ----------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """What decides the arrays: world, agent, behaviour, seed, plan."""
        return self.manifest.identity

    @property
    def config(self) -> dict[str, Any]:
        """The identity as JSON."""
        return deepcopy(self.identity.content)

    @property
    def world_name(self) -> str:
        """Name of the world."""
        return str(self.identity.world["name"])

    @property
    def channels(self) -> frozenset[str]:
        """What the agent received and the belief conditions on."""
        return frozenset(self.identity.channels)

    @property
    def sites(self) -> dict[str, int]:
        """Recorded sites and their widths."""
        return dict(self.identity.sites)

    @property
    def n_steps(self) -> int:
        """Number of rows."""
        return sum(entry.n_steps for entry in self.manifest.shards)

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return sum(entry.n_episodes for entry in self.manifest.shards)

    @property
    def is_complete(self) -> bool:
        """Whether all shards of the plan are there."""
        return len(self.manifest.shards) == self.identity.n_shards

    # --- the files ------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Compare every file with its SHA-256 in the manifest.

        Raises
        ------
        RecordingError
            At the first file that differs.
        """
        self._shards.verify()

    def close(self) -> None:
        """Close the files; reading again opens them again."""
        self._shards.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Recording], tuple[Path]]:
        """Travel to another process as a path: open files cannot."""
        return Recording, (self.path,)

    def __repr__(self) -> str:
        agent = self.identity.agent
        who = f"agent {agent['name']!r} (checkpoint {agent['checkpoint'][:8]})" if agent else "no agent"
        count = f"{self.n_episodes:,} of {self.identity.n_episodes:,} episodes, {self.n_steps:,} steps"
        head = f"{self.path.name}: {count} of {self.world_name!r}, {who}, behaviour {self.identity.behaviour.get('name')!r}"
        rows = [f"  {key:<28} {self[key].shape!s:<16} {self[key].dtype}" for key in self.keys()]
        return "\n".join([head, *rows])


def load_episodes(recording: Recording, keys: Sequence[str], which: Array | None = None) -> Episodes:
    """Return arrays of the episodes at some positions of the table (all of them by default), in memory."""
    table = recording.episodes if which is None else recording.episodes.iloc[which]
    length = table["length"].to_numpy()
    rows: Array | slice = slice(None)
    if which is not None:
        rows = np.repeat(table["start"].to_numpy() - np.cumsum(length) + length, length) + np.arange(length.sum())
    picked: Array | slice = slice(None) if which is None else which
    arrays = {key: recording[key][rows if along(key) == "step" else picked] for key in keys}
    return Episodes(table.index.to_numpy(), length, arrays)


def open_recording(path: str | Path) -> Recording:
    """Open a recording: manifest and shard headers are checked now, arrays are read when indexed.

    Parameters
    ----------
    path : str or Path
        The directory `name.wpr`, or the file that `pack_recording` made of it.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        If the directory is no recording, is of another format version, or a shard is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, open_recording, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=20, seed=0).close()
    ...     with open_recording(f"{folder}/common.wpr") as recording:
    ...         rows = recording.split("train")
    ...         recording["belief/state"][rows].shape == (rows.size, 26), recording.groups[rows].max() < 20
    (True, np.True_)
    """
    return Recording(Path(path))
