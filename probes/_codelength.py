"""Online (prequential) codelength: how many bits the labels cost whoever sees the representation and learns as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from worldprobe.probes._labels import Labels
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._losses import group_sums
from worldprobe.probes._validation import Floats, Integers, check_finite, group_codes

BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Shares of the rows after which the probe is fitted anew (Voita & Titov 2020)."""


@dataclass(frozen=True, eq=False)
class Codelength:
    """Bits that the labels cost."""

    total: float
    per_group: Floats
    """Bits of each group (n_groups,), in the order of `np.unique(groups)`, to be compared with another code's in pairs."""
    uniform: float
    """Bits under equal probabilities, the price of labels that nothing is known about."""
    boundaries: tuple[int, ...]
    """Rows known at the start of each block but the first, and at the end."""

    @property
    def compression(self) -> float:
        """How many times shorter than the uniform code."""
        return self.uniform / self.total


def online_codelength(
    X: ArrayLike,
    Y: ArrayLike,
    groups: ArrayLike,
    estimator: Any = None,
    mask: ArrayLike | None = None,
    blocks: Sequence[float] = BLOCKS,
    random_state: int = 0,
) -> Codelength:
    r"""Measure the online code of labels given a representation.

    Groups arrive in random order. The first block is coded with equal probabilities; each later one by a probe fitted on all before it:

    .. math:: L = n_1 \log_2 C - \sum_{b > 1} \sum_{i \in b} \log_2 \Big[(1 - \epsilon_b)\, p_{\theta(1 .. b-1)}(y_i \mid x_i)
        + \epsilon_b / C\Big], \qquad \epsilon_b = \frac1{1 + \text{groups seen}} .

    A representation that makes the labels easy *to learn* gives a short code, which accuracy does not show. The share of the uniform
    code keeps a class that was not met yet, or a probe of a few episodes, from costing everything. A block before which fewer than two
    classes or two groups were met is coded with equal probabilities as well.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    Y : array_like, shape (n_samples,)
        Class labels.
    groups : array_like, shape (n_samples,)
        Group (episode) of each row; a block holds whole groups, so it ends with the first group that reaches its share.
    estimator : scikit-learn classifier with `predict_proba`, optional
        `LogisticProbe(alphas=(1e-2,))` by default: one fixed penalty, so that codes of several representations differ in nothing else.
        With several penalties, each block chooses its own on the groups before it.
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist; others are neither coded nor learned from.
    blocks : sequence of float
        Increasing shares of the rows at which blocks end; the last is 1.
    random_state : int
        Seed of the order in which groups arrive: the same for codes that are to be compared.

    Returns
    -------
    Codelength

    Raises
    ------
    ValueError
        If the labels are of one class, or the shares do not increase to 1.

    References
    ----------
    Voita & Titov 2020, "Information-theoretic probing with minimum description length", section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import online_codelength
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(2000, 4)), np.repeat(np.arange(100), 20)
    >>> easy, impossible = X[:, 0] > 0, rng.integers(2, size=2000)
    >>> online_codelength(X, easy, groups).compression > 3
    True
    >>> round(online_codelength(X, impossible, groups).compression, 1)
    1.0
    """
    rows = np.asarray(X)
    check_finite(rows, "X")
    labels = Labels.of(rows, np.asarray(Y).reshape(-1), mask)
    known = labels.mask[:, 0]
    members = group_codes(groups, len(rows))
    seen = _Seen(rows[known], labels.codes[known, 0], members[known], labels.n_classes[0])
    order, ends = _arrivals(members[known], blocks, random_state)
    probe = LogisticProbe(alphas=(1e-2,)) if estimator is None else estimator
    bits = np.zeros(len(rows))
    for start, end in pairwise([0, *ends]):
        bits[np.flatnonzero(known)[order[start:end]]] = seen.cost(probe, order[:start], order[start:end])
    return Codelength(float(bits.sum()), group_sums(bits, members), len(order) * float(np.log2(seen.n_classes)), tuple(ends))


@dataclass(frozen=True, eq=False)
class _Seen:
    """The rows that have labels."""

    X: NDArray[Any]
    codes: Integers
    groups: Integers
    n_classes: int

    def cost(self, estimator: Any, before: Integers, block: Integers) -> Floats:
        """Return the bits of each row of a block, for one who knows the rows before it."""
        n_groups = len(np.unique(self.groups[before]))
        if n_groups < 2 or len(np.unique(self.codes[before])) < 2:
            return np.full(len(block), np.log2(self.n_classes))
        fitted = clone(estimator).fit(self.X[before], self.codes[before], groups=self.groups[before])
        p = np.zeros((len(block), self.n_classes))
        p[:, fitted.classes_] = fitted.predict_proba(self.X[block])
        doubt = 1 / (1 + n_groups)
        return -np.log2((1 - doubt) * p[np.arange(len(block)), self.codes[block]] + doubt / self.n_classes)


def _arrivals(groups: Integers, blocks: Sequence[float], random_state: int) -> tuple[Integers, list[int]]:
    """Return the rows, whole groups in random order, and the numbers of rows at which blocks end."""
    shares = np.asarray(blocks, dtype=np.float64)
    if not (np.all(np.diff(shares, prepend=0.0) > 0) and shares[-1] == 1.0):
        raise ValueError(f"blocks must be increasing shares that end in 1; got {tuple(blocks)}")
    present, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(random_state).permutation(len(present))
    place = np.empty_like(shuffled)
    place[shuffled] = np.arange(len(present))
    group_ends = sizes[shuffled].cumsum()
    ends = group_ends[np.searchsorted(group_ends, shares * len(groups) - 0.5)]
    return np.argsort(place[codes], kind="stable"), [int(end) for end in np.unique(ends)]
