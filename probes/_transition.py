"""Transition probes: what comes next, read from a representation and an action, in the forms that the field uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError

from worldprobe.probes._ridge import DEFAULT_ALPHAS, RidgeProbe
from worldprobe.probes._validation import Floats, Integers, check_finite, check_rows

TransitionForm = Literal["additive", "per-action", "low-rank"]

TRANSITION_FORMS: tuple[TransitionForm, ...] = get_args(TransitionForm)
"""W x + c_a; W_a x + c_a; and W_a V x + c_a with a V of few rows that all actions share."""

TRANSITION_CLAIMS: dict[TransitionForm, str] = {
    "additive": "the action shifts what comes next by the same amount everywhere",
    "per-action": "what comes next is linear in the representation, for each action apart (the bilinear form): for expected outcomes it is "
    "the present-state probe times the world's own law, and no evidence of dynamics",
    "low-rank": "a few directions are enough for what all actions do",
}
"""What each form says where it succeeds."""


class TransitionProbe:
    r"""Ridge probe of what follows an action, with one of `TRANSITION_FORMS`.

    .. math:: \hat y = W x + c_a, \qquad \hat y = W_a x + c_a, \qquad \hat y = W_a V x + c_a .

    The second is the bilinear probe :math:`x \otimes 1_a`, fitted as one head per action. The third takes V from the largest right
    singular directions of all heads together, in the metric of the representation (reduced-rank regression), and fits the heads anew
    on V x.

    Parameters
    ----------
    form : {"additive", "per-action", "low-rank"}
    rank : int, optional
        Rows of V; only for "low-rank".
    alphas : sequence of float
        Penalties to choose from, as `RidgeProbe`.
    random_state : int
        Seed of the inner folds.

    Raises
    ------
    ValueError
        If the form is unknown, or the rank does not go with it.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import TransitionProbe
    >>> rng = np.random.default_rng(0)
    >>> x, action = rng.normal(size=(600, 6)), rng.integers(2, size=600)
    >>> y = np.where(action == 1, x[:, 0], -x[:, 0])
    >>> for form in ("additive", "per-action"):
    ...     print(form, round(TransitionProbe(form).fit(x, action, y).score(x, action, y), 1))
    additive 0.0
    per-action 1.0

    References
    ----------
    Izenman 1975, "Reduced-rank regression for the multivariate linear model".
    """

    def __init__(
        self,
        form: TransitionForm = "per-action",
        rank: int | None = None,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        random_state: int = 0,
    ) -> None:
        if form not in TRANSITION_FORMS or (form == "low-rank") != (rank is not None):
            raise ValueError(
                f"expected one of {', '.join(TRANSITION_FORMS)}, and a rank for 'low-rank' alone; got {form!r} and rank {rank}"
            )
        self.form, self.rank, self.alphas, self.random_state = form, rank, tuple(alphas), random_state
        self._heads: dict[int, RidgeProbe] = {}
        self._projection: Floats | None = None

    def fit(self, X: ArrayLike, action: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit on rows and the actions taken there.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
        action : array_like of int, shape (n_samples,)
        Y : array_like, shape (n_samples,) or (n_samples, n_targets)
            What followed.
        groups : array_like, shape (n_samples,), optional
            Episode of each row, which penalties are chosen by; without it, every row is one.

        Raises
        ------
        ValueError
            If lengths differ, an entry is NaN, or an action was taken fewer than ten times.
        """
        rows, taken, targets = _checked(X, action, Y)
        episodes = np.arange(len(rows)) if groups is None else np.asarray(groups)
        if self.form == "additive":
            self._heads = {-1: self._probe().fit(_with_action(rows, taken, int(taken.max()) + 1), targets, groups=episodes)}
            self._n_actions = int(taken.max()) + 1
            return self
        self._projection = None
        self._fit_heads(rows, taken, targets, episodes)
        if self.rank is not None:
            stacked = np.concatenate([np.atleast_2d(head.coef_) for head in self._heads.values()])
            root = np.linalg.cholesky(np.cov(rows.T) + 1e-9 * np.trace(np.cov(rows.T)) / rows.shape[1] * np.eye(rows.shape[1]))
            directions = np.linalg.svd(stacked @ root, full_matrices=False)[2][: self.rank]
            self._projection = np.linalg.solve(root.T, directions.T)
            self._fit_heads(rows @ self._projection, taken, targets, episodes)
        return self

    def _fit_heads(self, rows: Floats, taken: Integers, targets: Floats, episodes: ArrayLike) -> None:
        counts = np.bincount(taken)
        if (counts < 10).any():
            raise ValueError(f"every action must have been taken ten times or more to have a head; they were {counts.tolist()} times")
        groups = np.asarray(episodes)
        self._heads = {
            each: self._probe().fit(rows[taken == each], targets[taken == each], groups=groups[taken == each])
            for each in range(len(counts))
        }

    def _probe(self) -> RidgeProbe:
        return RidgeProbe(self.alphas, random_state=self.random_state)

    def predict(self, X: ArrayLike, action: ArrayLike) -> Floats:
        """Return what is to follow, shaped as Y.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If an action has no head.
        """
        if not self._heads:
            raise NotFittedError("this TransitionProbe is not fitted yet; call `fit` first")
        rows, taken = np.asarray(X, np.float64), np.asarray(action)
        if self.form == "additive":
            found: Floats = self._heads[-1].predict(_with_action(rows, taken, self._n_actions))
            return found
        if not np.isin(taken, list(self._heads)).all():
            raise ValueError(f"there are heads for the actions {sorted(self._heads)}; got {np.unique(taken).tolist()}")
        if self._projection is not None:
            rows = rows @ self._projection
        parts = {each: head.predict(rows[taken == each]) for each, head in self._heads.items() if (taken == each).any()}
        predictions = np.empty((len(rows), *next(iter(parts.values())).shape[1:]))
        for each, part in parts.items():
            predictions[taken == each] = part
        return predictions

    def score(self, X: ArrayLike, action: ArrayLike, Y: ArrayLike) -> float:
        """Return R^2, one minus the sum of squared errors over the total variation of all targets."""
        targets = np.asarray(Y, np.float64)
        wrong = np.square(targets - self.predict(X, action)).sum()
        return float(1 - wrong / np.square(targets - targets.mean(axis=0)).sum())


def _checked(X: ArrayLike, action: ArrayLike, Y: ArrayLike) -> tuple[Floats, Integers, Floats]:
    rows, taken, targets = check_rows(X).astype(np.float64), np.asarray(action), np.asarray(Y, np.float64)
    check_finite(targets, "Y")
    if not np.issubdtype(taken.dtype, np.integer) or taken.shape != (len(rows),) or len(targets) != len(rows):
        raise ValueError(
            f"expected an integer action and a target for each of the {len(rows)} rows; got {taken.dtype} {taken.shape} and {targets.shape}"
        )
    return rows, taken.astype(np.int64), targets


def _with_action(rows: Floats, taken: Integers, n_actions: int) -> Floats:
    return np.concatenate([rows, np.eye(n_actions)[taken]], axis=1)
