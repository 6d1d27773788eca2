"""The linear probe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._fold_moments import BLOCK_ENTRIES, Batch, FoldMoments, MomentAccumulator, collect_moments
from worldprobe.probes._moments import Moments
from worldprobe.probes._nested import inner_losses, nested_losses
from worldprobe.probes._ridge_choice import RidgeShare
from worldprobe.probes._ridge_path import RidgeProblem, block_multipliers
from worldprobe.probes._splits import check_folds, inner_folds
from worldprobe.probes._validation import (
    Floats,
    Integers,
    check_alphas,
    check_features,
    check_float_targets,
    check_mask,
    unfitted_copy,
)

DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-7, 3, 21))
"""Half decades, from the rounding of recorded activations (their correlations have condition numbers up to 1e7) to no signal at all."""


class RidgeProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Linear probe with a squared loss and a penalty per target, chosen on held-out groups.

    With :math:`z` the features standardised on the training rows, each target minimises

    .. math:: \frac1n \sum_i (y_i - \bar y - z_i^\top w)^2 + \alpha \sum_j m_j w_j^2 ,

    so that `alpha` is the penalty per row: the same value means the same at any number of rows and in any unit. Features that are
    constant on the training rows get weight zero. :math:`m_j = 1`, or the multiplier of the feature's block.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, positive. A single one is used as it is.
    n_folds : int
        Inner folds (of whole groups) that the penalty is chosen on; fewer where there are fewer groups.
    blocks : sequence of int, optional
        Widths of consecutive column blocks. Each target then also chooses multipliers of the blocks' penalties: equal, or one
        block favoured or suppressed 100 or 10,000 times. One shared penalty lets a wide block drown a narrow one.
    random_state : int
        Seed of the deal of groups into inner folds.
    precision : {"float64", "float32"}
        Of the products of blocks of rows, which are summed in float64. "float32" is about twice as fast and keeps R^2 within 5e-4; weak
        penalties of badly conditioned features need "float64".

    Attributes
    ----------
    alpha_ : float or ndarray (n_targets,)
        Penalty chosen for each target.
    block_multipliers_ : ndarray (n_targets, n_blocks)
        Multipliers chosen for each target (ones without `blocks`).
    coef_, intercept_
        Weights of the raw features, shaped as scikit-learn's `Ridge` shapes them.
    shift_, offset_
        The same predictions written as offset_ + (x - shift_) . coef_, which features far from zero do not round.
    cv_scores_ : ndarray (n_alphas, n_targets)
        Held-out R^2 of each penalty over the inner folds, relative to the training mean, at the best multipliers for it; NaN where
        there was nothing to choose.

    Notes
    -----
    Rows are read once, into the moments of each fold (`FoldMoments`); one eigendecomposition per training set then gives all
    penalties, all targets, and their held-out losses. A mask that differs between targets costs one decomposition per distinct mask.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import RidgeProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(500, 8)), np.repeat(np.arange(50), 10)
    >>> Y = X[:, :2] + 0.1 * rng.normal(size=(500, 2))
    >>> probe = RidgeProbe().fit(X, Y, groups=groups)
    >>> round(probe.score(X, Y), 2)
    0.99
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        n_folds: int = 5,
        blocks: Sequence[int] | None = None,
        random_state: int = 0,
        precision: Literal["float64", "float32"] = "float64",
    ) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.blocks = blocks
        self.random_state = random_state
        self.precision = precision

    def fit(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None, folds: ArrayLike | None = None
    ) -> Self:
        """Choose the penalty of each target on inner folds, and solve on all rows.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
        Y : array_like, shape (n_samples,) or (n_samples, n_targets)
        groups : array_like, shape (n_samples,), optional
            Group (episode) of each row; rows of one group never lie in two inner folds. Without it every row is a group of its own, which
            flatters the penalty wherever rows depend on each other.
        mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
            Which labels exist.
        folds : array_like, shape (n_samples,), optional
            Inner folds to use in place of a deal.

        Raises
        ------
        ValueError
            If an entry is NaN, a group lies in two folds, a target has no labels, or no target varies.
        """

        def deal(rows: NDArray[Any]) -> Integers:
            return np.zeros(len(rows), np.int64) if self._n_choices == 1 else inner_folds(self, rows, groups, folds)

        return self._fit(self._moments(X, Y, deal, mask))

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[RidgeProbe]:
        """Return one probe per outer fold, fitted on the other folds, which are its inner folds as well (`n_folds` is not used).

        Probe f equals a `fit` on the rows outside fold f with `folds=` their folds; but the rows are read once for all probes, and each
        pair of folds is left out once. Needs three folds or more, two where there is a single penalty. Parameters are those of `fit`.
        """
        one = self._n_choices == 1
        moments = self._moments(X, Y, lambda rows: check_folds(folds, groups, len(rows), least=2 if one else 3), mask)
        probes: list[list[RidgeShare]] = [[] for _ in range(moments.n_folds)]
        for share in moments.shares:
            problem = self._problem(share.folds, moments)
            nested = [None] * len(probes) if one else nested_losses(problem)
            for fold, (shares, losses) in enumerate(zip(probes, nested, strict=True)):
                null = None if one else problem.but(fold).null_losses()
                shares.append(RidgeShare.of(share.targets, problem.path({fold}), losses, null))
        return [unfitted_copy(self)._learn(shares, moments.n_dimensions) for shares in probes]

    def fit_batches(self, batches: Iterable[Batch]) -> Self:
        """Fit rows that come in batches, of which one at a time is held in memory; `random_state` is not used.

        Parameters
        ----------
        batches : iterable of (X, Y, groups) or (X, Y, groups, mask)
            As `collect_moments` takes them.

        Raises
        ------
        ValueError
            If there are no batches, they differ in shape, or what `fit` refuses.

        Examples
        --------
        >>> import numpy as np
        >>> from worldprobe.probes import RidgeProbe
        >>> def recording():
        ...     for shard in range(10):
        ...         X = np.random.default_rng(shard).normal(size=(100, 4))
        ...         yield X, X[:, 0], np.repeat(np.arange(10 * shard, 10 * shard + 10), 10)
        >>> round(float(RidgeProbe().fit_batches(recording()).coef_[0]), 3)
        1.0
        """
        checked = ((check_features(self, X, reset=not number), *rest) for number, (X, *rest) in enumerate(batches))
        return self._fit(collect_moments(checked, self.n_folds, self.precision))

    def fit_moments(self, moments: FoldMoments) -> Self:
        """Fit from sums that were collected before, without any row; their folds are the inner folds.

        Parameters
        ----------
        moments : FoldMoments
            From `collect_moments`, or a `subset` of them. `n_folds`, `precision` and `random_state` are not used.

        Raises
        ------
        ValueError
            What `fit` refuses.

        Examples
        --------
        >>> import numpy as np
        >>> from worldprobe.probes import RidgeProbe, collect_moments
        >>> X = np.random.default_rng(0).normal(size=(600, 4))
        >>> moments = collect_moments([(X, X[:, 1], np.arange(600) // 10)])
        >>> RidgeProbe(alphas=(1e-9,)).fit_moments(moments).coef_.round(3).tolist()[1]
        1.0
        """
        self.n_features_in_ = moments.n_features
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self._fit(moments)

    def predict(self, X: ArrayLike) -> Floats:
        """Return predictions, (n_samples,) or (n_samples, n_targets) as Y was."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        size = max(1, BLOCK_ENTRIES // X.shape[1])
        blocks = [(X[start : start + size] - self.shift_) @ self.coef_.T for start in range(0, len(X), size)]
        predictions: Floats = np.concatenate(blocks) + self.offset_
        return predictions

    def __sklearn_tags__(self) -> Any:
        """Say that Y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @property
    def _n_choices(self) -> int:
        """Number of penalties and multipliers to choose from."""
        return len(self.alphas) * (1 if self.blocks is None else len(block_multipliers(len(self.blocks))))

    def _moments(self, X: ArrayLike, Y: ArrayLike, deal: Callable[[NDArray[Any]], Integers], mask: ArrayLike | None) -> FoldMoments:
        """Read checked rows into the folds that `deal` gives them."""
        X = check_features(self, X, reset=True)
        targets = check_float_targets(X, Y)
        columns = targets.reshape(len(X), -1)
        labelled = None if mask is None else check_mask(mask, columns.shape)
        folds = deal(X)
        accumulator = MomentAccumulator(int(folds.max()) + 1, self.precision)
        return accumulator.update(X, columns, folds, labelled).result(targets.ndim)

    def _fit(self, moments: FoldMoments) -> Self:
        """Choose and solve."""
        shares, one = [], self._n_choices == 1
        for share in moments.shares:
            problem = self._problem([fold for fold in share.folds if fold.n], moments)
            if not one and problem.n_folds < 2:
                raise ValueError("choosing a penalty needs at least 2 groups, got 1; give a single penalty in `alphas`, or more groups")
            path, losses = (problem.path(()), None) if one else inner_losses(problem)
            shares.append(RidgeShare.of(share.targets, path, losses, None if one else problem.null_losses()))
        return self._learn(shares, moments.n_dimensions)

    def _problem(self, folds: Sequence[Moments], moments: FoldMoments) -> RidgeProblem:
        """Return what is to be solved for targets whose moments in each fold are these, a share of `moments`."""
        alphas, widths = check_alphas(self.alphas), (moments.n_features,) if self.blocks is None else tuple(self.blocks)
        if sum(widths) != moments.n_features:
            raise ValueError(f"blocks must add up to the {moments.n_features} features of X; got {widths}, which adds up to {sum(widths)}")
        multipliers = np.repeat(block_multipliers(len(widths)), widths, axis=1)
        return RidgeProblem(folds, alphas, multipliers, np.dtype(moments.precision))

    def _learn(self, shares: Sequence[RidgeShare], n_dimensions: int) -> Self:
        """Keep what was chosen, with the targets of all shares in their own order."""
        if not any(share.varies for share in shares):
            raise ValueError("every target is constant on the training rows, so there is nothing to decode (see `estimability`)")
        order = np.argsort(np.concatenate([share.targets for share in shares]))
        coefficients = np.concatenate([share.coefficients for share in shares])[order]
        offset = np.concatenate([share.offset for share in shares])[order]
        alphas = np.concatenate([share.alphas for share in shares])[order]
        first = 0 if n_dimensions == 1 else slice(None)
        self.shift_ = shares[0].shift
        self.coef_, self.offset_, self.alpha_ = coefficients[first], offset[first], alphas[first]
        self.intercept_ = self.offset_ - self.shift_ @ self.coef_.T
        candidates = block_multipliers(1 if self.blocks is None else len(self.blocks))
        self.block_multipliers_ = candidates[np.concatenate([share.candidates for share in shares])[order]]
        self.cv_scores_ = np.concatenate([share.scores for share in shares], axis=1)[:, order]
        return self
