"""The floors: what anybody could decode without a model, in linear, random-feature and learned form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._labels import Array
from worldprobe.analysis._sources import FeatureMap, FitMaps, Hidden, History, Joined, Lifted, Source
from worldprobe.analysis._stream import VALIDATION, Stream
from worldprobe.probes import MLPProbe, RandomFeatures, RidgeProbe

Folds = NDArray[np.int64]

FORMS = ("linear", "random", "mlp")
"""Each floor is read linearly, through random features at least as wide as the site, and through a trained network."""


@dataclass(frozen=True)
class FloorConfig:
    """How strong the floors are made."""

    forms: tuple[str, ...] = FORMS
    """Which forms are made; the ladder asks for all three."""
    max_width: int = 1500
    """Widest history, in columns, that F1 may choose; windows double up to the episode cap or to this."""
    mlp_epochs: int = 15
    """Epochs of the trained form; the ones with the smallest loss on held-out episodes are kept."""
    seed: int = 0
    """Seed of random features and trained forms."""


def floor_sources(stream: Stream, own_initialisation: Hidden | None, width: int, config: FloorConfig) -> dict[str, Source]:
    """Return every form of F0 and F1 by name, "F0 linear" to "F1 mlp".

    F0 is the present input and the step number; F1 adds a window of the past, its length chosen on validation episodes, and
    the untrained twin where there is one.

    Parameters
    ----------
    stream
        The stream that the floors are read on.
    own_initialisation
        The agent's untrained twin on this stream, or None.
    width
        Number of units of the site that the floors stand against.
    config
        Strength of the floors.
    """
    past = History(stream, choose_window(stream, config.max_width))
    bases = {"F0": History(stream), "F1": past if own_initialisation is None else Joined(past, own_initialisation)}
    return {f"{name} {form}": _form(form, source, width, config) for name, source in bases.items() for form in config.forms}


def _form(form: str, source: Source, width: int, config: FloorConfig) -> Source:
    """The source itself, or the source lifted by features that are random or learned for each fold."""
    units = max(128, width)

    def random(features: Array, _targets: Array, folds: Folds, _groups: Folds) -> list[FeatureMap]:
        return [RandomFeatures(2 * units, kind="cos", random_state=config.seed).fit(features)] * (int(folds.max()) + 1)

    def mlp(features: Array, targets: Array, folds: Folds, groups: Folds) -> list[FeatureMap]:
        network = MLPProbe((units, units), batch_size=1024, max_epochs=config.mlp_epochs, random_state=config.seed)
        return list(network.fit_folds(features, targets, folds, groups))

    learn: dict[str, FitMaps] = {"random": random, "mlp": mlp}
    return Lifted(source, learn[form], f"{source.name} {form}") if form in learn else source


def choose_window(stream: Stream, max_width: int) -> int:
    """Return the length of history, doubling up to the episode cap, whose linear decoder loses least on validation episodes.

    The loss is that of the headline factor. Windows wider than `max_width` columns are not tried.
    """
    windows = _windows(int(stream.t.max()), stream.received.shape[1], max_width)
    losses = [_validation_loss(History(stream, window)) for window in windows]
    return windows[int(np.argmin(losses))]


def _windows(longest: int, width: int, max_width: int) -> list[int]:
    """1, 2, 4, ... and the longest episode, as far as `max_width` columns allow."""
    affordable = max(1, min(longest, max_width // width - 1))
    return sorted({min(2**power, affordable) for power in range(affordable.bit_length() + 1)})


def _validation_loss(source: History) -> float:
    stream = source.stream
    columns = stream.labels.columns[stream.world.headline.factor]
    fit, validation, features = stream.fit_rows(VALIDATION), np.flatnonzero(stream.folds == VALIDATION), source.rows(VALIDATION)
    probe = RidgeProbe().fit(features[fit], stream.targets[fit][:, columns], groups=stream.groups[fit])
    return float(np.square(probe.predict(features[validation]) - stream.targets[validation][:, columns]).sum())
