"""The multinomial probe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._labels import Labels
from worldprobe.probes._losses import clip_probabilities
from worldprobe.probes._nested import choose, inner_losses, nested_losses
from worldprobe.probes._softmax import SoftmaxProblem, probabilities
from worldprobe.probes._splits import check_folds, inner_folds
from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._statistics import shared_masks
from worldprobe.probes._validation import Floats, Integers, check_alphas, check_features, unfitted_copy

DEFAULT_ALPHAS = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Decades, from no signal at all to classes that are nearly separable."""


class LogisticProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Multinomial logistic probe of one or several heads, with a penalty per head chosen on held-out groups.

    With :math:`z` the features standardised on the training rows, each head minimises

    .. math:: \frac1n \sum_i \Big[\log \sum_c e^{\eta_{ic}} - \eta_{i c_i}\Big] + \frac\alpha2 \lVert W \rVert^2 ,
        \qquad \eta_i = W^\top z_i + b .

    scikit-learn's `LogisticRegression` of three classes or more minimises the same at `C = 1 / (n alpha)`.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, positive. A single one is used as it is.
    n_folds : int
        Inner folds (of whole groups) that the penalty is chosen on; fewer where there are fewer groups.
    tolerance : float
        A head is solved where ten steps no longer lower its objective by so many nats per row.
    random_state : int
        Seed of the deal of groups into inner folds.

    Attributes
    ----------
    classes_ : ndarray, or a list of one per head
        Sorted classes.
    alpha_ : float or ndarray (n_heads,)
        Penalty chosen for each head.
    coef_, intercept_ : ndarray (n_classes, n_features) and (n_classes,), or a list of one per head
        Weights of the raw features. A class without training rows has intercept minus infinity.
    cv_scores_ : ndarray (n_alphas, n_heads)
        Minus the held-out bits per label of each penalty over the inner folds; NaN where there was nothing to choose.

    Notes
    -----
    Heads, targets of several horizons say, descend together and share each reading of X, in the eigenbasis of X'X, so dozens of heads
    cost little more per head than the products do. X is used in its own precision: float32 activations are multiplied in float32,
    sums over rows are taken in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import LogisticProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(600, 5)), np.repeat(np.arange(60), 10)
    >>> probe = LogisticProbe().fit(X, np.where(X[:, 0] > 0, "right", "left"), groups=groups)
    >>> probe.predict(np.eye(2, 5))
    array(['right', 'left'], dtype='<U5')
    """

    def __init__(self, alphas: Sequence[float] = DEFAULT_ALPHAS, n_folds: int = 5, tolerance: float = 1e-4, random_state: int = 0) -> None:
        self.alphas = alphas
        self.n_folds = n_folds
        self.tolerance = tolerance
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None, folds: ArrayLike | None = None
    ) -> Self:
        """Choose the penalty of each head on inner folds, and solve on all rows.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
        Y : array_like, shape (n_samples,) or (n_samples, n_heads)
            Class labels of any sortable kind.
        groups : array_like, shape (n_samples,), optional
            Group (episode) of each row; without it every row is a group of its own.
        mask : array_like of bool, shape (n_samples,) or (n_samples, n_heads), optional
            Which labels exist.
        folds : array_like, shape (n_samples,), optional
            Inner folds to use in place of a deal.

        Raises
        ------
        ValueError
            If an entry is NaN, a group lies in two folds, or a head is left with one class.
        """
        X, labels = self._checked(X, Y, mask)
        one = len(self.alphas) == 1
        parts = np.zeros(len(X), np.int64) if one else inner_folds(groups, folds, len(X), self.n_folds, self.random_state)
        shares = []
        for heads, problem in self._problems(X, labels, parts):
            shares.append(_Share.of(heads, problem, (), None if one else inner_losses(problem)))
        return self._learn(shares, labels)

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[LogisticProbe]:
        """Return one probe per outer fold, fitted on the other folds, which are its inner folds as well (`n_folds` is not used).

        Each pair of folds is left out once. All probes know all classes; one that a training set lacks gets the floor probability.
        Needs three folds or more, two where there is a single penalty. Parameters are those of `fit`.
        """
        X, labels = self._checked(X, Y, mask)
        one = len(self.alphas) == 1
        outer = check_folds(folds, groups, len(X), least=2 if one else 3)
        labels.check_training_sets([np.flatnonzero(outer != fold) for fold in range(int(outer.max()) + 1)])
        probes: list[list[_Share]] = [[] for _ in range(int(outer.max()) + 1)]
        for heads, problem in self._problems(X, labels, outer):
            nested = [None] * len(probes) if one else nested_losses(problem)
            for fold, (shares, losses) in enumerate(zip(probes, nested, strict=True)):
                shares.append(_Share.of(heads, problem, {fold}, losses))
        return [unfitted_copy(self)._learn(shares, labels) for shares in probes]

    def predict_proba(self, X: ArrayLike) -> Any:
        """Return class probabilities (n_samples, n_classes), none below 1e-6; a list of one array per head if Y had columns."""
        by_head = [clip_probabilities(p)[0] for p in self._probabilities(X)]
        return self._classes.answer(by_head)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable labels, (n_samples,) or (n_samples, n_heads) as Y was."""
        by_head = self._probabilities(X)
        return self._classes.most_probable(by_head)

    def clipped_mass(self, X: ArrayLike) -> Floats:
        """Return, for each head (n_heads,), the mean probability mass per row of X that the floor of 1e-6 adds."""
        return np.array([clip_probabilities(p)[1] for p in self._probabilities(X)])

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the share of labels that `predict` names, over all heads."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def __sklearn_tags__(self) -> Any:
        """Say that Y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _checked(self, X: ArrayLike, Y: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray[Any], Labels]:
        """Return X and the encoded labels, or refuse them or the parameters."""
        X = check_features(self, X, reset=True)
        check_alphas(self.alphas)
        return X, Labels.of(X, Y, mask)

    def _problems(self, X: NDArray[Any], labels: Labels, folds: Integers) -> Iterator[tuple[Integers, SoftmaxProblem]]:
        """Yield, for each distinct mask, the heads that have it and their problem."""
        sharing = shared_masks(labels.mask)
        alphas = np.sort(check_alphas(self.alphas))[::-1]
        for number in range(int(sharing.max()) + 1):
            heads = np.flatnonzero(sharing == number)
            rows = labels.mask[:, heads[0]]
            codes, n_classes = labels.codes[np.ix_(rows, heads)], [labels.n_classes[head] for head in heads]
            yield heads, SoftmaxProblem(X[rows], codes, n_classes, folds[rows], int(folds.max()) + 1, alphas, self.tolerance)

    def _learn(self, shares: Sequence[_Share], labels: Labels) -> Self:
        """Keep what was chosen, with the heads of all shares in their own order."""
        order = np.argsort(np.concatenate([share.heads for share in shares]))
        standardisers = [share.standardiser for share in shares for _ in share.heads]
        weights = [weights for share in shares for weights in share.weights]
        self._heads = [(standardisers[place], weights[place]) for place in order]
        self._classes = labels.classes
        coefficients = [weights[:, :-1] * standardiser.inverse_scale for standardiser, weights in self._heads]
        intercepts = [
            weights[:, -1] - raw @ standardiser.mean for raw, (standardiser, weights) in zip(coefficients, self._heads, strict=True)
        ]
        alphas = np.concatenate([share.alphas for share in shares])[order]
        given = np.argsort(np.argsort(-check_alphas(self.alphas), kind="stable"))
        self.cv_scores_ = np.concatenate([share.scores for share in shares], axis=1)[given][:, order]
        answer = self._classes.answer
        self.classes_, self.coef_, self.intercept_ = answer(labels.classes.heads), answer(coefficients), answer(intercepts)
        self.alpha_ = alphas[0] if labels.classes.flat else alphas
        return self

    def _probabilities(self, X: ArrayLike) -> list[Floats]:
        """Return each head's probabilities as they are, (n_samples, n_classes)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return [probabilities(weights, standardiser.apply(X)) for standardiser, weights in self._heads]


@dataclass(frozen=True, eq=False)
class _Share:
    """What was chosen for the heads that share a mask."""

    heads: Integers
    standardiser: Standardiser
    weights: list[Floats]
    alphas: Floats
    scores: Floats
    """Minus the held-out bits per label (n_alphas, n_heads), the strongest penalty first; NaN where nothing was held out."""

    @classmethod
    def of(cls, heads: Integers, problem: SoftmaxProblem, without: Collection[int], losses: Floats | None) -> Self:
        """Choose by held-out `losses` (n_alphas, n_heads) in nats, None where there is one penalty; solve all folds but `without`."""
        if losses is None:
            chosen, scores = np.zeros(len(heads), np.int64), np.full((1, len(heads)), np.nan)
        else:
            n_judged = np.sum(~np.isin(problem.folds, list(without)))
            chosen, scores = choose(losses), -losses / (n_judged * np.log(2))
        path = problem.solve(without, chosen)
        return cls(heads, path.standardiser, [solutions[-1] for solutions in path.weights], problem.alphas[chosen], scores)
