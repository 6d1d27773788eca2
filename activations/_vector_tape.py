"""What happened in a vector of environments, cut into whole episodes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._watched import SiteError

COMPLETED_ROWS = 2**13
"""Rows whose gates are recomputed at once."""


class Tape:
    """What happened in all environments at once, step by step."""

    def __init__(self) -> None:
        self._live: list[Array] = []
        self._rows: list[dict[str, Array]] = []
        self._parts: list[dict[str, Tensor]] = []
        self._finals: list[dict[str, Array]] = []

    def add(self, live: Array, row: dict[str, Array], parts: dict[str, Tensor], final: dict[str, Array]) -> None:
        """Keep one step: rows of all environments, and what followed in those whose episode ended."""
        self._live.append(live)
        self._rows.append(row)
        self._parts.append(parts)
        if len(final["final_observation"]):
            self._finals.append(final)

    def cut(self, numbers: Array, quota: Array, recorder: Recorder) -> Episodes:
        """Return each environment's first `quota` episodes: the first of every environment, then the second, ..."""
        rows = {key: np.concatenate([row[key] for row in self._rows]) for key in self._rows[0]}
        ended = (rows["terminated"] | rows["truncated"]).reshape(-1, quota.size)
        ordinal = np.cumsum(ended, 0) - ended
        time, env = np.nonzero(np.stack(self._live) & (ordinal < quota))
        order = np.lexsort((time, env, ordinal[time, env]))
        picked = (time * quota.size + env)[order]
        last = np.flatnonzero(ended.ravel()[picked])
        final = (np.cumsum(ended) - 1)[picked[last]]
        arrays = {key: values[picked] for key, values in rows.items()}
        arrays |= {key: np.concatenate([each[key] for each in self._finals])[final] for key in self._finals[0]}
        kept = torch.from_numpy(picked)
        parts = {name: torch.cat([each[name] for each in self._parts])[kept] for name in self._parts[0]}
        arrays |= {f"site/{name}": values for name, values in completed_sites(parts, recorder).items()}
        return Episodes(numbers, np.diff(last, prepend=-1), arrays)


def completed_sites(parts: dict[str, Tensor], recorder: Recorder) -> dict[str, Array]:
    """Return the sites of all rows, block by block: recomputing gates takes several times the memory of the gates."""
    n_rows = len(next(iter(parts.values())))
    blocks = []
    for begin in range(0, n_rows, COMPLETED_ROWS):
        sites = recorder.complete({name: values[begin : begin + COMPLETED_ROWS] for name, values in parts.items()})
        blocks.append({name: flat_site(name, values, min(COMPLETED_ROWS, n_rows - begin)) for name, values in sites.items()})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def flat_site(name: str, values: Tensor, n_rows: int) -> Array:
    """Return a site as float32 (n_rows, width)."""
    if values.shape[:1] != (n_rows,):
        raise SiteError(f"site {name!r} has the shape {tuple(values.shape)}: expected a row for each of the {n_rows} environments")
    return values.reshape(n_rows, -1).float().cpu().numpy()
