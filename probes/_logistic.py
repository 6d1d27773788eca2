"""The multinomial probe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._coded_batches import Batches, CodedBatches
from worldprobe.probes._fold_moments import BLOCK_ENTRIES
from worldprobe.probes._labels import Classes, Labels
from worldprobe.probes._losses import clip_probabilities
from worldprobe.probes._nested import choose, inner_losses, nested_losses
from worldprobe.probes._softmax_paths import SoftmaxPaths
from worldprobe.probes._splits import check_folds, inner_folds
from worldprobe.probes._survey import ArrayRows, LabelledRows
from worldprobe.probes._validation import Floats, check_alphas, check_features, unfitted_copy

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
        Predicted decrease of a head's objective, in nats per row, that no more step is taken for.
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
    shift_ : ndarray (n_features,)
        About the mean of X: predictions are made from x - shift_, which features far from zero do not round.
    cv_scores_ : ndarray (n_alphas, n_heads)
        Minus the held-out bits per label of each penalty over the inner folds; NaN where there was nothing to choose.

    Notes
    -----
    All heads, folds and penalties share the passes over X. It is used in its own precision: float32 activations are probed in float32,
    losses are summed in float64. Each head's weights are penalised on the scale of its own labelled training rows.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import LogisticProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(600, 5)), np.repeat(np.arange(60), 10)
    >>> probe = LogisticProbe().fit(X, np.where(X[:, 0] > 0, "right", "left"), groups=groups)
    >>> probe.predict([[2, 0, 0, 0, 0], [-2, 0, 0, 0, 0]])
    array(['right', 'left'], dtype='<U5')
    """

    def __init__(self, alphas: Sequence[float] = DEFAULT_ALPHAS, n_folds: int = 5, tolerance: float = 2e-5, random_state: int = 0) -> None:
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
        parts = np.zeros(len(X), np.int64) if one else inner_folds(self, X, groups, folds)
        rows = ArrayRows(X, labels.codes, labels.mask, parts, int(parts.max()) + 1)
        return self._fit_rows(rows, labels.classes, in_memory=True)

    def fit_batches(self, batches: Batches | Callable[[], Batches]) -> Self:
        """Fit on rows that need not fit into memory: the same objective, in passes over the batches.

        Parameters
        ----------
        batches : iterable of (X, Y, groups), or function that returns one
            As `fit` takes them; they are gone over twenty times or more for each penalty, and must be the same each time. Each group goes
            to the inner fold that has the fewest rows when it first arrives; rows without labels are left out by the caller.

        Raises
        ------
        ValueError
            As `fit`; and if `batches` can be read only once.
        """
        rows = CodedBatches(self, batches, 1 if len(check_alphas(self.alphas)) == 1 else self.n_folds)
        return self._fit_rows(rows, rows.classes, in_memory=False)

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
        n_folds = int(outer.max()) + 1
        labels.check_training_sets([np.flatnonzero(outer != fold) for fold in range(n_folds)])
        pairs = [] if one else [set(pair) for pair in combinations(range(n_folds), 2)]
        paths = self._paths(
            ArrayRows(X, labels.codes, labels.mask, outer, n_folds), labels.classes, [*({f} for f in range(n_folds)), *pairs]
        )
        nested = [None] * n_folds if one else nested_losses(paths)
        return [unfitted_copy(self)._learn(paths, {fold}, labels.classes, losses) for fold, losses in enumerate(nested)]

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

    def _fit_rows(self, rows: LabelledRows, classes: Classes, *, in_memory: bool) -> Self:
        """Choose penalties on the folds of the rows, and learn from all."""
        one = len(self.alphas) == 1
        left_out: list[set[int]] = [set()] if one else [set(), *({fold} for fold in range(rows.n_folds))]
        paths = self._paths(rows, classes, left_out, in_memory=in_memory)
        return self._learn(paths, (), classes, None if one else inner_losses(paths)[1])

    def _paths(self, rows: LabelledRows, classes: Classes, left_out: Sequence[Collection[int]], *, in_memory: bool = True) -> SoftmaxPaths:
        """Solve all training sets."""
        alphas = np.sort(check_alphas(self.alphas))[::-1]
        return SoftmaxPaths(rows, [len(head) for head in classes.heads], alphas, self.tolerance, left_out, in_memory=in_memory)

    def _learn(self, paths: SoftmaxPaths, without: Collection[int], classes: Classes, losses: Floats | None) -> Self:
        """Keep the solutions chosen by held-out `losses` (n_alphas, n_heads) in nats; None: there is one penalty."""
        n_heads = len(classes.heads)
        if losses is None:
            chosen, scores = np.zeros(n_heads, np.int64), np.full((1, n_heads), np.nan)
        else:
            chosen, scores = choose(losses), -losses / (paths.survey.counts_without(without).sum(axis=1) * np.log(2))
        maps = [path[choice] for path, choice in zip(paths.path(without).maps, chosen, strict=True)]
        self._classes, self.shift_ = classes, paths.survey.shift
        self._offsets, self._coefficients = [own.offset for own in maps], [own.coefficients for own in maps]
        alphas, given = paths.alphas[chosen], np.argsort(np.argsort(-check_alphas(self.alphas), kind="stable"))
        self.cv_scores_ = scores[given]
        self.classes_, self.coef_ = classes.answer(classes.heads), classes.answer(self._coefficients)
        self.intercept_ = classes.answer([own.offset - own.coefficients @ self.shift_ for own in maps])
        self.alpha_ = alphas[0] if classes.flat else alphas
        return self

    def _probabilities(self, X: ArrayLike) -> list[Floats]:
        """Return each head's probabilities as they are, (n_samples, n_classes)."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        weights, offsets = np.concatenate(self._coefficients).T, np.concatenate(self._offsets)
        size, ends = max(1, BLOCK_ENTRIES // X.shape[1]), np.cumsum([len(offset) for offset in self._offsets])[:-1]
        logits = [(X[start : start + size] - self.shift_) @ weights for start in range(0, len(X), size)]
        return [softmax(head, axis=1) for head in np.split(np.concatenate(logits) + offsets, ends, axis=1)]
