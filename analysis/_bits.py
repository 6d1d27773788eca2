"""The second score: usable information in bits, relative to families of probes with a log-loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._examine import Examination
from worldprobe.analysis._labels import Array
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, measure
from worldprobe.analysis._sources import History, Joined
from worldprobe.analysis._stream import Stream
from worldprobe.probes import LogisticProbe, MLPProbe, cross_fit, group_log_losses
from worldprobe.worlds import Factor


@dataclass(frozen=True)
class BitsConfig:
    """The families V of predictors that usable information is relative to."""

    families: tuple[str, ...] = ("mlp",)
    """"logistic" (multinomial, linear) and "mlp"."""
    hidden: tuple[int, ...] = (64,)
    """Widths of the hidden layers of "mlp"."""
    max_epochs: int = 15
    """Epochs of "mlp"; those with the smallest loss on held-out episodes are kept."""


IN_FAMILY = "belief, in family"
"""What stands for the agent where a family of probes reads the exact belief."""

FAMILIES: dict[str, Callable[[BitsConfig, int], LogisticProbe | MLPProbe]] = {
    "logistic": lambda _, seed: LogisticProbe(alphas=(1e-2, 1e-4, 1e-6), random_state=seed),
    "mlp": lambda config, seed: MLPProbe(config.hidden, "log", batch_size=1024, max_epochs=config.max_epochs, random_state=seed),
}
"""Name -> `(config, seed)` -> probe."""


def usable_bits(examination: Examination, config: BitsConfig) -> list[Measurement]:
    r"""Measure I_V(h -> y | F0) = (L_F0 - L_F0+h) / n, in bits per label, for every categorical factor (Xu et al. 2020).

    L is the held-out log-loss of probes of one family V, their probabilities clipped at 1e-6; the ceiling is the log-loss of the
    exact belief's own probabilities. Bayes predictions are linear in the belief, but no softmax of a linear map is, so what the
    family makes of the exact belief ("belief, in family") stands beside the agent.

    Parameters
    ----------
    examination
        The agent on a stream; every scored row is predicted by a probe that never saw its episode.
    config
        The families.

    Returns
    -------
    One measurement per family, source and categorical factor; its floor is "F0 <family>".
    """
    stream, floor = examination.stream, History(examination.stream)
    sources = {examination.agent.name: Joined(floor, examination.hidden).rows(0)}
    if stream.expected is not None:
        sources[IN_FAMILY] = np.concatenate([floor.rows(0), _belief(stream)], axis=1)
    categorical = [factor for factor in stream.labels.factors if factor.is_categorical]
    return [
        measured
        for family in config.families
        for factor in categorical
        for measured in _against_input(stream, floor.rows(0), sources, factor, examination.cell("bits", f"F0 {family}"), config)
    ]


def _against_input(
    stream: Stream, floor: Array, sources: dict[str, Array], factor: Factor, cell: Cell, config: BitsConfig
) -> list[Measurement]:
    """Measure what each source saves of one factor's code."""
    labels = stream.targets[stream.scored][:, stream.labels.columns[factor.name]].argmax(1)
    probe = FAMILIES[cell.floor.removeprefix("F0 ")](config, stream.seed)
    if len(np.unique(labels)) < 2:
        return []
    floor_bits, n_rows = _bits(stream, floor, labels, probe), len(labels)
    measured = []
    for name, features in sources.items():
        sums = LossSums(floor_bits, _bits(stream, features, labels, probe), bayes_bits(stream, factor), float(n_rows), n_rows, unit="bits")
        measured.append(measure(sums, replace(cell, agent=name), factor, horizon=0))
    return measured


def _bits(stream: Stream, features: Array, labels: NDArray[np.int64], probe: LogisticProbe | MLPProbe) -> NDArray[np.float64]:
    """Cross-fitted log-loss of each episode, (n_episodes,)."""
    rows, groups = stream.scored, stream.groups[stream.scored]
    fit = cross_fit(features[rows], labels, groups, stream.folds[rows], probe)
    return group_log_losses(labels, fit.predictions, groups, fit.classes)


def bayes_bits(stream: Stream, factor: Factor) -> NDArray[np.float64] | None:
    """Return the log-loss of the exact belief's probabilities in each episode, (n_episodes,), or None without a filter."""
    if stream.expected is None:
        return None
    columns, rows = stream.labels.columns[factor.name], stream.scored
    return group_log_losses(stream.targets[rows][:, columns].argmax(1), stream.expected[rows][:, columns], stream.groups[rows])


def _belief(stream: Stream) -> Array:
    """Return the exact belief as features, (n_rows, width): as recorded, or its expectations where it is too large to be recorded."""
    stored = [stream.recording[key][:] for key in stream.recording if key.startswith("belief/")]
    if not stored:
        assert stream.expected is not None
        return stream.expected
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in stored], axis=1, dtype=np.float32)
