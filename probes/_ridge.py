"""The linear probe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._nested import choose, inner_losses, nested_losses
from worldprobe.probes._ridge_path import RidgePath, RidgeProblem, block_multipliers
from worldprobe.probes._splits import StreamedFolds, check_folds, inner_folds
from worldprobe.probes._statistics import BLOCK_ENTRIES, MomentAccumulator, Moments, shared_masks
from worldprobe.probes._validation import (
    Floats,
    Integers,
    check_alphas,
    check_features,
    check_labelled,
    check_mask,
    check_real_targets,
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
    Rows are read once, into the moments of each fold (`MomentAccumulator`); one eigendecomposition per training set then gives all
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
        X, targets = self._checked(X, Y)
        one = self._n_choices == 1
        parts = np.zeros(len(X), np.int64) if one else inner_folds(groups, folds, len(X), self.n_folds, self.random_state)
        shares = []
        for labels, problem in self._problems(X, targets.reshape(len(X), -1), parts, mask):
            losses, null = (None, None) if one else (inner_losses(problem), problem.null_losses())
            shares.append(_Share.of(labels, problem.path(()), losses, null))
        return self._learn(shares, targets.ndim)

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[RidgeProbe]:
        """Return one probe per outer fold, fitted on the other folds, which are its inner folds as well (`n_folds` is not used).

        Probe f equals a `fit` on the rows outside fold f with `folds=` their folds; but the rows are read once for all probes, and each
        pair of folds is left out once. Needs three folds or more, two where there is a single penalty. Parameters are those of `fit`.
        """
        X, targets = self._checked(X, Y)
        one = self._n_choices == 1
        outer = check_folds(folds, groups, len(X), least=2 if one else 3)
        probes: list[list[_Share]] = [[] for _ in range(int(outer.max()) + 1)]
        for labels, problem in self._problems(X, targets.reshape(len(X), -1), outer, mask):
            nested = [None] * len(probes) if one else nested_losses(problem)
            for fold, (shares, losses) in enumerate(zip(probes, nested, strict=True)):
                null = None if one else problem.but(fold).null_losses()
                shares.append(_Share.of(labels, problem.path({fold}), losses, null))
        return [unfitted_copy(self)._learn(shares, targets.ndim) for shares in probes]

    def fit_batches(self, batches: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Self:
        """Fit rows that come in batches, of which one at a time is held in memory.

        Each group goes to the inner fold that has the fewest rows when it first arrives; `random_state` is not used.

        Parameters
        ----------
        batches : iterable of (X, Y, groups)
            As `fit` takes them. A group may go on in the next batch; rows without labels are left out by the caller.

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
        accumulator, n_dimensions = self._stream(batches)
        targets, moments = next(iter(accumulator.shares()))
        problem, one = self._problem([fold for fold in moments if fold.n]), self._n_choices == 1
        if not one and problem.n_folds < 2:
            raise ValueError("choosing a penalty needs at least 2 groups, got 1; give a single penalty in `alphas`, or more groups")
        losses, null = (None, None) if one else (inner_losses(problem), problem.null_losses())
        return self._learn([_Share.of(targets, problem.path(()), losses, null)], n_dimensions)

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

    def _checked(self, X: ArrayLike, Y: ArrayLike, *, reset: bool = True) -> tuple[NDArray[Any], Floats]:
        """Return X and Y as finite arrays, or refuse them or the parameters."""
        X = check_features(self, X, reset=reset)
        check_alphas(self.alphas)
        if self.precision not in ("float64", "float32"):
            raise ValueError(f"precision must be 'float64' or 'float32'; got {self.precision!r}")
        if self.blocks is not None and sum(self.blocks) != X.shape[1]:
            raise ValueError(
                f"blocks must add up to the {X.shape[1]} features of X; got {tuple(self.blocks)}, which adds up to {sum(self.blocks)}"
            )
        return X, check_real_targets(X, Y)

    def _problems(self, X: NDArray[Any], Y: Floats, folds: Integers, mask: ArrayLike | None) -> Iterator[tuple[Integers, RidgeProblem]]:
        """Read the rows; yield, for each distinct mask, the targets that have it and their problem."""
        labelled = check_labelled(check_mask(mask, Y.shape))
        accumulator = MomentAccumulator(int(folds.max()) + 1, shared_masks(labelled), self.precision).update(X, Y, folds, labelled)
        for targets, moments in accumulator.shares():
            yield targets, self._problem(moments)

    def _stream(self, batches: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]) -> tuple[MomentAccumulator, int]:
        """Sum up all batches; return the moments, and how many axes Y has."""
        deal, accumulator, shape = StreamedFolds(self.n_folds), None, None
        for X, Y, groups in batches:
            rows, targets = self._checked(X, Y, reset=accumulator is None)
            columns = targets.reshape(len(rows), -1)
            if accumulator is None:
                shape, accumulator = (
                    targets.shape[1:],
                    MomentAccumulator(self.n_folds, np.zeros(columns.shape[1], np.int64), self.precision),
                )
            if targets.shape[1:] != shape:
                raise ValueError(f"Y must have the same columns in every batch: expected (n_samples, *{shape}), got {targets.shape}")
            accumulator.update(rows, columns, deal.deal(groups, len(rows)), np.broadcast_to(np.True_, columns.shape))
        if accumulator is None or shape is None:
            raise ValueError("there are no batches: expected one (X, Y, groups) or more, got none")
        return accumulator, 1 + len(shape)

    def _problem(self, folds: Sequence[Moments]) -> RidgeProblem:
        """Return what is to be solved for targets of these moments."""
        widths = (len(folds[0].shift),) if self.blocks is None else tuple(self.blocks)
        return RidgeProblem(
            folds, check_alphas(self.alphas), np.repeat(block_multipliers(len(widths)), widths, axis=1), np.dtype(self.precision)
        )

    def _learn(self, shares: Sequence[_Share], n_dimensions: int) -> Self:
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


@dataclass(frozen=True, eq=False)
class _Share:
    """What was chosen for the targets that share a mask."""

    targets: Integers
    varies: bool
    shift: Floats
    coefficients: Floats
    """(n_targets, n_features)"""
    offset: Floats
    alphas: Floats
    candidates: Integers
    """Number of the chosen block multipliers (n_targets,)."""
    scores: Floats
    """Held-out R^2 (n_alphas, n_targets), at the best multipliers; NaN where nothing was held out."""

    @classmethod
    def of(cls, targets: Integers, path: RidgePath, losses: Floats | None, null: Floats | None) -> Self:
        """Choose by held-out `losses` (n_choices, n_targets), which `null` says the scale of; None: there is one choice."""
        training, shape = path.training, (len(path.alphas), len(targets))
        if losses is None or null is None:
            chosen, scores = np.zeros(len(targets), np.int64), np.full(shape, np.nan)
        else:
            best = losses.reshape(-1, *shape).min(axis=0)
            chosen, scores = choose(losses), 1.0 - np.divide(best, null, out=np.ones(shape), where=null > 0)
        candidates, alphas = np.divmod(chosen, len(path.alphas))
        solution = path.solve(chosen)
        varies = not bool(training.constant_targets.all())
        return cls(targets, varies, training.shift, solution.coefficients.T, solution.offset, path.alphas[alphas], candidates, scores)
