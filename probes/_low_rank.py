"""A linear probe of few directions: how many dimensions of the activations hold all targets together?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._splits import check_folds, inner_folds
from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._validation import Floats, check_alphas, check_features, check_mask, check_real_targets, unfitted_copy


class RankLimitedProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Linear probe that reads all targets through few directions (reduced-rank regression with a penalty).

    With :math:`z` the features standardised on the training rows, it minimises

    .. math:: \frac1n \sum_i \lVert y_i - \bar y - W^\top z_i \rVert^2 + \alpha \lVert W \rVert^2
        \quad \text{over } W \text{ of rank} \le r .

    The minimum is the unlimited solution, projected on the r leading directions of
    :math:`C^\top (G + \alpha I)^{-1} C`, with :math:`G = Z^\top Z / n` and :math:`C = Z^\top Y / n`. One penalty serves all targets.

    Parameters
    ----------
    rank : int
        Directions that may be read; with as many as targets (or features) it is the unlimited probe.
    alphas : sequence of float
        Penalties per row to choose from, positive. A single one is used as it is.
    n_folds : int
        Inner folds of whole groups that the penalty is chosen on.
    random_state : int
        Seed of the deal of groups into inner folds.

    Attributes
    ----------
    alpha_ : float
        Penalty chosen.
    directions_ : ndarray (n_features, rank)
        What is read, in weights of the raw features; predictions are a linear map of these.
    coef_, intercept_
        Weights of the raw features, shaped as scikit-learn's `Ridge` shapes them.

    References
    ----------
    Izenman 1975, "Reduced-rank regression for the multivariate linear model"; Mukherjee & Zhu 2011, "Reduced rank ridge regression".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import RankLimitedProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(500, 8)), np.repeat(np.arange(50), 10)
    >>> Y = X[:, :2] @ rng.normal(size=(2, 6))
    >>> [round(RankLimitedProbe(rank).fit(X, Y, groups=groups).score(X, Y), 2) for rank in (1, 2)]
    [0.4, 1.0]
    """

    def __init__(
        self,
        rank: int = 1,
        alphas: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.rank = rank
        self.alphas = alphas
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None, folds: ArrayLike | None = None
    ) -> Self:
        """Choose the penalty on inner folds, and solve on all rows.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
        Y : array_like, shape (n_samples,) or (n_samples, n_targets)
            Real targets in comparable units: the errors of all are added up.
        groups : array_like, shape (n_samples,), optional
            Group (episode) of each row; without it every row is a group of its own.
        mask : array_like of bool, shape (n_samples,), optional
            Which rows have labels.
        folds : array_like, shape (n_samples,), optional
            Inner folds to use in place of a deal.

        Raises
        ------
        ValueError
            If an entry is NaN, a group lies in two folds, the rank is below one, or no target varies.
        """
        X, targets = check_features(self, X, reset=True), check_real_targets(X, Y)
        if self.rank < 1:
            raise ValueError(f"rank must be 1 or more; got {self.rank}")
        known = check_mask(mask, (len(X), 1))[:, 0]
        alphas, Y = check_alphas(self.alphas), targets.reshape(len(X), -1)
        self.alpha_ = float(alphas[0])
        if len(alphas) > 1:
            parts = inner_folds(self, X, groups, folds)
            losses = [self._losses(X, Y, known & (parts != fold), known & (parts == fold), alphas) for fold in range(int(parts.max()) + 1)]
            self.alpha_ = float(alphas[np.argmin(np.sum(losses, axis=0))])
        if not np.any(np.ptp(Y[known], axis=0) > 0):
            raise ValueError("every target is constant on the training rows, so there is nothing to decode (see `estimability`)")
        self._standardiser = Standardiser.of(X[known])
        reading, writing, mean = _Products.of(self._standardiser.apply(X[known]), Y[known]).solve(self.rank, self.alpha_)
        first = 0 if targets.ndim == 1 else slice(None)
        self.directions_ = self._standardiser.inverse_scale[:, None] * reading
        self.coef_ = (self.directions_ @ writing).T[first]
        self._offset = mean[first]
        self.intercept_ = self._offset - self._standardiser.mean @ self.coef_.T
        return self

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[RankLimitedProbe]:
        """Return one probe per outer fold, fitted on the other folds, which are its inner folds as well. Parameters are those of `fit`."""
        X, targets = check_features(self, X, reset=True), check_real_targets(X, Y)
        outer, known = check_folds(folds, groups, len(X), least=3), check_mask(mask, (len(X), 1))[:, 0]
        training = [np.flatnonzero((outer != fold) & known) for fold in range(int(outer.max()) + 1)]
        return [unfitted_copy(self).fit(X[rows], targets[rows], folds=outer[rows]) for rows in training]

    def predict(self, X: ArrayLike) -> Floats:
        """Return predictions, (n_samples,) or (n_samples, n_targets) as Y was."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        predictions: Floats = (X - self._standardiser.mean) @ self.coef_.T + self._offset
        return predictions

    def __sklearn_tags__(self) -> Any:
        """Say that Y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _losses(self, X: NDArray[Any], Y: Floats, seen: NDArray[np.bool_], unseen: NDArray[np.bool_], alphas: Floats) -> Floats:
        """Return the summed squared error of each penalty (n_alphas,) on rows that were not fitted to."""
        standardiser = Standardiser.of(X[seen])
        products, z = _Products.of(standardiser.apply(X[seen]), Y[seen]), standardiser.apply(X[unseen])
        losses = np.empty(len(alphas))
        for number, alpha in enumerate(alphas):
            reading, writing, mean = products.solve(self.rank, float(alpha))
            losses[number] = np.square(Y[unseen] - mean - z @ reading @ writing).sum()
        return losses


class _Products:
    """G and C of standardised rows, G in its eigenbasis."""

    def __init__(self, eigenvalues: Floats, vectors: Floats, projected: Floats, mean: Floats) -> None:
        self.eigenvalues, self.vectors, self.projected, self.mean = eigenvalues, vectors, projected, mean

    @classmethod
    def of(cls, Z: NDArray[Any], Y: Floats) -> Self:
        """Take products of rows (n, n_features) and (n, n_targets)."""
        z, mean = Z.astype(np.float64), Y.mean(axis=0)
        eigenvalues, vectors = np.linalg.eigh(z.T @ z / len(z))
        return cls(np.maximum(eigenvalues, 0.0), vectors, vectors.T @ (z.T @ (Y - mean)) / len(z), mean)

    def solve(self, rank: int, alpha: float) -> tuple[Floats, Floats, Floats]:
        """Return what is read (n_features, rank), what is made of it (rank, n_targets), and the mean of the targets."""
        root = self.projected / np.sqrt(self.eigenvalues + alpha)[:, None]
        leading = np.linalg.svd(root, full_matrices=False)[2][:rank]
        reading = self.vectors @ (self.projected @ leading.T / (self.eigenvalues + alpha)[:, None])
        return reading, leading, self.mean
