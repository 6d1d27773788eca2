"""Erasers: affine maps that take a concept out of activations, and their controls of equal rank and equal displacement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file
from scipy.optimize import brentq

from worldprobe.probes._fold_moments import FoldMoments, MomentAccumulator
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._validation import Floats, check_finite, check_real_targets

CORRELATION_TOLERANCE = 1e-6
"""Canonical correlations of activations and concept that are taken for rounding."""


@dataclass(frozen=True, eq=False)
class Eraser:
    r"""An affine map that removes a few directions from activations.

    .. math:: x \mapsto x - (x - \mu)\, R\, W, \qquad R\ (p \times r),\ W\ (r \times p),\ W R = I .

    Applying it twice is applying it once. An orthogonal projection has :math:`W = R^\top`; LEACE's is oblique.
    """

    mean: Floats
    """What erased directions are set to (n_features,)."""
    reading: Floats
    """R: how the removed coordinates are read (n_features, rank)."""
    writing: Floats
    """W: what is subtracted for each (rank, n_features)."""

    @property
    def rank(self) -> int:
        """Number of directions removed."""
        return int(self.reading.shape[1])

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return erased activations (n_samples, n_features) in the precision of X."""
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise ValueError(f"X must be (n_samples, {len(self.mean)}), as the eraser was fitted; got shape {rows.shape}")
        erased = rows - (rows - self.mean) @ self.reading @ self.writing
        return erased.astype(rows.dtype) if rows.dtype.kind == "f" else erased

    def displacement(self, X: ArrayLike) -> float:
        """Return the mean squared distance that the rows of X (n_samples, n_features) are moved by."""
        return float(np.square(np.asarray(X, dtype=np.float64) - self.transform(np.asarray(X, dtype=np.float64))).sum(axis=1).mean())

    def save(self, path: Path | str) -> None:
        """Write the three arrays as safetensors."""
        save_file({name: np.ascontiguousarray(array) for name, array in vars(self).items()}, path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote."""
        arrays = load_file(path)
        missing = {"mean", "reading", "writing"} - arrays.keys()
        if missing:
            raise ValueError(f"{path} holds no eraser: expected mean, reading and writing, got {', '.join(sorted(arrays)) or 'nothing'}")
        return cls(arrays["mean"], arrays["reading"], arrays["writing"])


class EraserFitter:
    r"""Streams activations and concept into covariances, from which erasers follow in closed form.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import EraserFitter, RidgeProbe
    >>> rng = np.random.default_rng(0)
    >>> goal = rng.integers(3, size=900)
    >>> X = rng.normal(size=(900, 8)) + np.eye(3, 8)[goal]
    >>> one_hot = np.eye(3)[goal]
    >>> fitter = EraserFitter()
    >>> for batch in np.split(np.arange(900), 3):
    ...     fitter = fitter.update(X[batch], one_hot[batch])
    >>> eraser = fitter.leace()
    >>> eraser.rank, round(RidgeProbe(alphas=(1e-9,)).fit(eraser.transform(X), one_hot).score(X, one_hot), 6) <= 0
    (2, True)
    """

    def __init__(self) -> None:
        self._accumulator = MomentAccumulator(n_folds=1)

    @classmethod
    def from_moments(cls, moments: FoldMoments) -> Self:
        """Take the sums of rows that were read before: X are the activations, Y is the concept (`moments.subset` selects columns).

        Raises
        ------
        ValueError
            If columns of the concept differ in their labelled rows.

        Examples
        --------
        >>> import numpy as np
        >>> from worldprobe.probes import EraserFitter, RidgeProbe, collect_moments
        >>> goal = np.random.default_rng(0).integers(3, size=900)
        >>> X = np.random.default_rng(1).normal(size=(900, 8)) + np.eye(3, 8)[goal]
        >>> moments = collect_moments([(X, np.eye(3)[goal], np.arange(900) // 10)])
        >>> probe, eraser = RidgeProbe().fit_moments(moments), EraserFitter.from_moments(moments).leace()
        >>> eraser.rank
        2
        """
        if len(moments.shares) > 1:
            raise ValueError(
                f"all columns of a concept must have the same labelled rows; these have {len(moments.shares)} different masks: select some "
                "by `moments.subset(targets=...)`"
            )
        fitter = cls()
        fitter._accumulator = MomentAccumulator.of_total(moments)
        return fitter

    def update(self, X: ArrayLike, Z: ArrayLike) -> Self:
        """Add rows.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
            Activations.
        Z : array_like, shape (n_samples,) or (n_samples, n_concepts)
            What is to be erased: real values, or one-hot classes. To erase a concept wherever it depends on what is seen, cross its
            classes with those of the observation.

        Raises
        ------
        ValueError
            If an entry is NaN or the lengths differ.
        """
        rows = np.asarray(X)
        check_finite(rows, "X")
        concept = check_real_targets(rows, Z).reshape(len(rows), -1)
        self._accumulator.update(rows, concept, np.zeros(len(rows), np.int64))
        return self

    def leace(self) -> Eraser:
        r"""Return the least change after which no linear classifier or regression beats a constant.

        Whitening is of standardised features, which gives the same map (LEACE commutes with every invertible one) with less rounding.

        .. math:: x \mapsto x - \Sigma^{1/2} P\, \Sigma^{-1/2} (x - \mu), \qquad
            P \text{ projects on the columns of } \Sigma^{-1/2} \mathrm{Cov}(x, z) .

        References
        ----------
        Belrose et al. 2023, "LEACE: perfect linear concept erasure in closed form", theorem 4.3.
        """
        mean, covariance, cross = self._covariances()
        unit = np.sqrt(covariance.diagonal())
        inverse_unit = np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)
        eigenvalues, vectors = np.linalg.eigh(covariance * np.outer(inverse_unit, inverse_unit))
        kept = eigenvalues > eigenvalues[-1] * len(mean) * np.finfo(np.float64).eps
        spread, vectors = np.sqrt(eigenvalues[kept]), vectors[:, kept]
        directions = _column_space(vectors.T @ (inverse_unit[:, None] * cross) / spread[:, None], CORRELATION_TOLERANCE)
        reading = inverse_unit[:, None] * (vectors @ (directions / spread[:, None]))
        return Eraser(mean, reading, (directions.T * spread) @ vectors.T * unit)

    def mean_difference(self) -> Eraser:
        """Return the orthogonal projection off the covariances with the concept: for classes, off the differences of their means.

        It erases as LEACE does, with more displacement.
        """
        mean, _, cross = self._covariances()
        directions = _column_space(cross, CORRELATION_TOLERANCE * float(np.linalg.norm(cross, 2)))
        return Eraser(mean, directions, directions.T)

    def random(self, like: Eraser, random_state: int, *, spare: bool = False) -> Eraser:
        """Return an orthogonal projection off random directions, of the rank and of the mean squared displacement of another eraser.

        Random directions, which LEACE moves several times as much as, are turned towards the directions of largest (or least) variance
        until the displacements on the fitted rows are equal.

        Parameters
        ----------
        like : Eraser
            Whose rank and displacement are matched.
        random_state : int
            Seed.
        spare : bool
            Leave what a linear probe reads of the concept as it is: directions are orthogonal to its covariances with the activations.
            Directions of large variance often hold the very concept, and erasing them is no control for erasing it. Where no such
            directions displace as much, or there are fewer than the rank, those that displace most are taken.

        Raises
        ------
        ValueError
            If no orthogonal projection of this rank displaces as much or as little, or the concept leaves no direction.
        """
        mean, covariance, cross = self._covariances()
        target = _displacement(covariance, like.reading, like.writing)
        frame = np.eye(len(mean))
        if spare:
            taken = _column_space(cross, CORRELATION_TOLERANCE * float(np.linalg.norm(cross, 2)))
            frame = np.linalg.svd(taken)[0][:, taken.shape[1] :]
            if not frame.shape[1]:
                raise ValueError(f"the concept takes all {len(mean)} directions, so that none can be erased beside it")
            covariance = frame.T @ covariance @ frame
        eigenvectors = np.linalg.eigh(covariance)[1]
        rank = min(like.rank, frame.shape[1])
        start = np.random.default_rng(random_state).normal(size=(frame.shape[1], rank))
        ends = {-1: eigenvectors[:, :rank], 1: eigenvectors[:, frame.shape[1] - rank :]}

        def turned(share: float) -> Floats:
            end = ends[1 if share > 0 else -1] * np.sqrt(frame.shape[1])
            basis: Floats = np.linalg.qr((1 - abs(share)) * start + abs(share) * end)[0]
            return basis

        def excess(share: float) -> float:
            return _displacement(covariance, turned(share), turned(share).T) - target

        lowest, highest = excess(-1.0), excess(1.0)
        if lowest > 0 or (highest < -1e-9 * target and not spare):
            raise ValueError(
                f"an orthogonal projection of rank {like.rank} displaces by {lowest + target:.3g} to {highest + target:.3g} here; "
                f"{target:.3g} is asked for: fit the other eraser on the same rows"
            )
        directions = frame @ turned(1.0 if highest <= 0 else float(brentq(excess, -1.0, 1.0, xtol=1e-14)))
        return Eraser(mean, directions, directions.T)

    def _covariances(self) -> tuple[Floats, Floats, Floats]:
        """Return the mean, the covariance of the activations, and theirs with the concept in units of its standard deviation."""
        if not self._accumulator.shares:
            raise ValueError("there are no rows yet; call `update` first")
        ((_, (moments,)),) = self._accumulator.shares
        xx, xz, zz = moments.about(moments.x_mean, moments.y_mean)
        varies = ~moments.constant_targets
        if not varies.any():
            raise ValueError("the concept is constant in these rows, so there is nothing to erase")
        scale = np.sqrt(zz[varies] / moments.n)
        moving = ~moments.constant_features
        cross = np.where(moving[:, None], xz[:, varies] / moments.n / scale, 0.0)
        return moments.shift + moments.x_mean, np.where(np.outer(moving, moving), xx / moments.n, 0.0), cross


def fit_inlp(
    X: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None, n_rounds: int = 8, probe: LogisticProbe | None = None
) -> Eraser:
    """Remove, round by round, the directions that a logistic probe reads the labels from.

    Each round takes up to (classes - 1) directions. How many rounds are enough is seen from a probe on the result: correlated activations,
    such as those of recurrent networks, hold the labels in many directions, and need many rounds where LEACE needs one step.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    labels : array_like, shape (n_samples,)
    groups : array_like, shape (n_samples,), optional
        Group (episode) of each row.
    n_rounds : int
        Probes that are fitted, at most (each on what the ones before left); fewer where nothing is left to remove.
    probe : LogisticProbe, optional
        `LogisticProbe(alphas=(1.0,))` by default: a strong penalty turns the weights towards the differences of class means, a weak one
        towards directions of little variance, whose removal changes little.

    Returns
    -------
    Eraser
        An orthogonal projection.

    References
    ----------
    Ravfogel et al. 2020, "Null it out: guarding protected attributes by iterative nullspace projection".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import fit_inlp
    >>> rng = np.random.default_rng(0)
    >>> goal = rng.integers(2, size=400)
    >>> fit_inlp(rng.normal(size=(400, 6)) + goal[:, None], goal, n_rounds=2).rank
    2
    """
    rows = np.asarray(X, dtype=np.float64)
    check_finite(rows, "X")
    mean, directions = rows.mean(axis=0), np.empty((rows.shape[1], 0))
    estimator = LogisticProbe(alphas=(1.0,)) if probe is None else probe
    for _ in range(n_rounds):
        fitted = estimator.fit(Eraser(mean, directions, directions.T).transform(rows), labels, groups=groups)
        weights = fitted.coef_ - fitted.coef_.mean(axis=0)
        weights = weights - weights @ directions @ directions.T
        if directions.shape[1] + 1 > rows.shape[1] or np.linalg.norm(weights) < CORRELATION_TOLERANCE:
            break
        new = _column_space(weights.T, CORRELATION_TOLERANCE * float(np.linalg.norm(weights, 2)))
        directions = np.concatenate([directions, new], axis=1)
    return Eraser(mean, directions, directions.T)


def _column_space(columns: Floats, tolerance: float) -> Floats:
    """Return an orthonormal basis of the columns, leaving out singular values that are no larger than the tolerance."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Floats = vectors[:, sizes > tolerance]
    return basis


def _displacement(covariance: Floats, reading: Floats, writing: Floats) -> float:
    """Return the mean squared displacement of rows with this covariance."""
    return float(np.sum((reading.T @ covariance @ reading) * (writing @ writing.T)))
