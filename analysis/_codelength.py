"""Rung 3: is it the representation, or the probe? Online codelengths of the labels from h, from memory, and of control labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import LossSums, Measurement, measure
from worldprobe.analysis._stream import Stream
from worldprobe.probes import control_labels, history_types, online_codelength

TYPES_PER_UNIT = 20
"""History types per hidden unit below which a control task could be memorised by a linear probe for free."""


def representation(examination: Examination) -> list[Measurement]:
    """Measure the bits per label that coding the headline factor from h saves, against F1 and against control labels.

    Control labels are drawn once per history type, the last w received inputs, with w the smallest window that has
    `TYPES_PER_UNIT` types per hidden unit (Hewitt & Liang 2019, for agents); both codes are online codes over blocks of whole
    episodes (Voita & Titov 2020).

    Returns
    -------
    Two measurements whose gain is in bits per label; none for a continuous headline factor.
    """
    stream, factor = examination.stream, examination.world.factor(examination.world.headline.factor)
    if not factor.is_categorical:
        return []
    rows, hidden = stream.scored, examination.hidden.rows(0)[stream.scored]
    labels = stream.targets[rows][:, stream.labels.columns[factor.name]].argmax(1)
    types = history_types(stream.received, stream.t, TYPES_PER_UNIT * hidden.shape[1])
    code = _bits(hidden, labels, stream)
    against = {"F1 linear": _bits(examination.floors["F1 linear"].source.rows(0)[rows], labels, stream)}
    if types is not None:
        against["control"] = _bits(hidden, control_labels(labels, types[rows], stream.seed), stream)
    n = len(rows)
    sums = {name: LossSums(other, code, None, float(n), n, unit="bits") for name, other in against.items()}
    return [measure(each, examination.cell("codelength", name), factor, horizon=0) for name, each in sums.items()]


def _bits(features: NDArray[np.float32], labels: NDArray[np.int64], stream: Stream) -> NDArray[np.float64]:
    """Codelength of each episode's labels, (n_episodes,)."""
    return online_codelength(features, labels, stream.groups[stream.scored]).per_group
