"""What a decoder may look at: histories, hidden states, learned features of them, and their concatenations.

Every source answers for the recorded rows of a stream and for forks of it, so that a decoder fitted on rows can be
carried, frozen, to a future that the agent never saw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import Forks, fork_core, replay
from worldprobe.agents import Agent, agent_inputs
from worldprobe.analysis._labels import Array
from worldprobe.analysis._stream import Stream
from worldprobe.probes import FeatureMap, history_windows
from worldprobe.worlds import Unavailable

FitMaps = Callable[[Array, Array, NDArray[np.int64], NDArray[np.int64]], list[FeatureMap]]
"""Learns one map per fold, on the other folds, from features (n, p), labels (n, m), folds (n,) and episodes (n,)."""


class Source(ABC):
    """Features of each row of a stream, and of each step of its forks."""

    name: str
    stream: Stream
    is_shared: bool = True
    """Whether the features are the same for every fold."""

    @abstractmethod
    def rows(self, fold: int) -> Array:
        """Return features (n_rows, width) as the decoders of `fold` see them."""

    @abstractmethod
    def forks(self, forks: Forks, fold: int) -> Array:
        """Return features (n_forks, horizon, width) after each forked step."""


class History(Source):
    """What the agent received at the last `window` + 1 steps, and the step number, one-hot: a floor without any network."""

    def __init__(self, stream: Stream, window: int = 0) -> None:
        self.name, self.stream, self.window = f"history[{window}]" if window else "input", stream, window

    @cached_property
    def _rows(self) -> Array:
        windows = history_windows(self.stream.received, self.stream.t, self.window)
        return np.concatenate([windows, self.stream.clock(self.stream.t)], axis=1)

    def rows(self, fold: int) -> Array:
        """Return the same features for every fold."""
        return self._rows

    def forks(self, forks: Forks, fold: int) -> Array:
        """Return histories that end in the forked steps."""
        width = self.stream.received.shape[1]
        past = self._rows[forks.rows][:, : (self.window + 1) * width].reshape(len(forks.rows), self.window + 1, width)
        sequence = np.concatenate([past[:, ::-1], fork_inputs(forks, self.stream)], axis=1)
        steps = range(1, forks.action.shape[1] + 1)
        lags = [sequence[:, step : step + self.window + 1][:, ::-1].reshape(len(past), -1) for step in steps]
        clocks = [self.stream.clock(self.stream.t[forks.rows] + step) for step in steps]
        return np.stack([np.concatenate(pair, axis=1) for pair in zip(lags, clocks, strict=True)], axis=1).astype(np.float32)


class Hidden(Source):
    """One site of one agent, replayed on the stream and stepped along its forks."""

    def __init__(self, stream: Stream, agent: Agent, site: str = "core.h") -> None:
        self.name, self.stream, self.agent, self.site = agent.name, stream, agent, site

    @cached_property
    def _replayed(self) -> dict[str, Array]:
        return replay(self.agent, self.stream.recording, (self.site, "core.state"))

    def rows(self, fold: int) -> Array:
        """Return the same activations for every fold."""
        return self._replayed[self.site]

    def forks(self, forks: Forks, fold: int) -> Array:
        """Return the site after each forked step, from the agent's own state at the row."""
        return fork_core(self.agent, forks, self._replayed["core.state"][forks.rows], (self.site,))[self.site]


class Kept(Source):
    """Activations that are there, of an agent that is not: the rows of a recording alone."""

    def __init__(self, stream: Stream, name: str, values: Array, site: str = "core.h") -> None:
        self.name, self.stream, self._values, self.site = name, stream, values, site

    def rows(self, fold: int) -> Array:
        """Return the same activations for every fold."""
        return self._values

    def forks(self, forks: Forks, fold: int) -> Array:
        """Refuse: nobody is there to step."""
        raise Unavailable(f"of {self.name!r} there are only recordings, which cannot be stepped along forks")


class Joined(Source):
    """Several sources side by side."""

    def __init__(self, *sources: Source) -> None:
        self.name, self.stream, self.sources = "+".join(source.name for source in sources), sources[0].stream, sources
        self.is_shared = all(source.is_shared for source in sources)

    def rows(self, fold: int) -> Array:
        """Return the concatenated features."""
        return np.concatenate([source.rows(fold) for source in self.sources], axis=1)

    def forks(self, forks: Forks, fold: int) -> Array:
        """Return the concatenated features."""
        return np.concatenate([source.forks(forks, fold) for source in self.sources], axis=2)


class Lifted(Source):
    """A source beside learned nonlinear features of it, learned for each fold on the other folds."""

    is_shared = False

    def __init__(self, source: Source, fit_maps: FitMaps, name: str) -> None:
        self.name, self.stream, self.source, self._fit_maps = name, source.stream, source, fit_maps
        self._rows: dict[int, Array] = {}

    @cached_property
    def _maps(self) -> list[FeatureMap]:
        stream, scored = self.stream, self.stream.scored
        return self._fit_maps(self.source.rows(0)[scored], stream.targets[scored], stream.folds[scored], stream.groups[scored])

    def rows(self, fold: int) -> Array:
        """Return the source's features and the map's."""
        if fold not in self._rows:
            features = self.source.rows(fold)
            self._rows[fold] = np.concatenate([features, self._maps[fold].transform(features)], axis=1, dtype=np.float32)
        return self._rows[fold]

    def forks(self, forks: Forks, fold: int) -> Array:
        """Return the source's features and the map's, on forks."""
        features = self.source.forks(forks, fold)
        lifted = self._maps[fold].transform(features.reshape(-1, features.shape[-1])).reshape(*features.shape[:2], -1)
        return np.concatenate([features, lifted], axis=2, dtype=np.float32)


def fork_inputs(forks: Forks, stream: Stream) -> Array:
    """Return what an agent receives after each forked step, (n_forks, horizon, input_size)."""
    inputs = agent_inputs(
        torch.from_numpy(forks.observation),
        torch.from_numpy(forks.action),
        torch.from_numpy(forks.reward),
        stream.recording.channels,
        stream.world.n_actions,
    )
    return inputs.numpy()
