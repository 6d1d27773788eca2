"""The floors: what anybody could decode without a model, in linear, random-feature and learned form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._labels import Array
from worldprobe.analysis._sources import History, Joined, Lifted, Source
from worldprobe.analysis._stream import VALIDATION, Stream
from worldprobe.probes import FLOOR_FORMS, LEAST_FLOOR_UNITS, FeatureMap, FloorForm, choose_window, fit_floor_maps

Folds = NDArray[np.int64]


@dataclass(frozen=True)
class FloorConfig:
    """How strong the floors are made."""

    forms: tuple[FloorForm, ...] = FLOOR_FORMS
    """Which forms are made; the ladder asks for all three."""
    max_width: int = 1500
    """Widest history, in columns, that F1 may choose; windows double up to the episode cap or to this."""
    mlp_epochs: int = 15
    """Epochs of the trained form; the ones with the smallest loss on held-out episodes are kept."""
    seed: int = 0
    """Seed of random features and trained forms."""


def floor_sources(stream: Stream, own_initialisation: Source | None, width: int, config: FloorConfig) -> dict[str, Source]:
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
    past = History(stream, _window(stream, config.max_width))
    bases = {"F0": History(stream), "F1": past if own_initialisation is None else Joined(past, own_initialisation)}
    return {f"{name} {form}": _form(form, source, width, config) for name, source in bases.items() for form in config.forms}


def _form(form: FloorForm, source: Source, width: int, config: FloorConfig) -> Source:
    """The source itself, or the source lifted by features that are random or learned for each fold."""
    if form == "linear":
        return source

    def fit_maps(features: Array, targets: Array, folds: Folds, groups: Folds) -> list[FeatureMap]:
        return fit_floor_maps(form, features, targets, groups, folds, max(LEAST_FLOOR_UNITS, width), config.mlp_epochs, config.seed)

    return Lifted(source, fit_maps, f"{source.name} {form}")


def _window(stream: Stream, max_width: int) -> int:
    """Return the length of history whose linear decoder loses least of the headline factor on validation episodes."""
    targets = stream.targets[:, stream.labels.columns[stream.world.headline.factor]]
    is_validation = stream.folds == VALIDATION
    return choose_window(
        stream.received, stream.t, targets, stream.groups, is_validation, beside=stream.clock(stream.t), max_width=max_width
    )
