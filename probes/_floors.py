"""Floors: what anybody could read without the representation, and whether it adds to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from worldprobe.probes._intervals import Estimate, sum_interval
from worldprobe.probes._losses import group_losses
from worldprobe.probes._mlp import MLPProbe
from worldprobe.probes._random_features import RandomFeatures
from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._splits import check_folds, check_groups
from worldprobe.probes._validation import Booleans, Floats, Integers, check_finite, check_mask

FloorForm = Literal["linear", "random", "mlp"]
FLOOR_FORMS: tuple[FloorForm, ...] = get_args(FloorForm)
"""Every floor is read linearly, through random features, and through a trained network: one of them alone is easily beaten."""

LEAST_FLOOR_UNITS = 128
"""Least width of a floor's random or learned layer, however narrow the representation that it stands under."""


class FeatureMap(Protocol):
    """A fitted map of features, as scikit-learn spells it."""

    def transform(self, X: Any) -> Any:
        """Return new features (n, q) of features (n, p)."""


def _no_features(X: NDArray[Any]) -> NDArray[Any]:
    """Return no columns."""
    return np.empty((len(X), 0), dtype=X.dtype)


def fit_floor_maps(
    form: FloorForm,
    X: ArrayLike,
    Y: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike,
    units: int,
    max_epochs: int = 15,
    random_state: int = 0,
    mask: ArrayLike | None = None,
) -> list[FeatureMap]:
    """Return, for each fold, the map whose features are laid beside the floor; it has seen no label of that fold.

    Parameters
    ----------
    form : {"linear", "random", "mlp"}
        No features; 2 `units` random ones, bounded (inputs that are rarely on are far out when standardised, and would throw unbounded
        ones); the last of two layers of `units` that a network learned.
    X : array_like, shape (n_samples, n_features)
        The floor.
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
        Real targets; looked at by "mlp" only.
    groups, folds : array_like, shape (n_samples,)
        Episode and fold of each row.
    units : int
        At least the width of the representation that the floor stands under.
    max_epochs : int
        Longest training of the network.
    random_state : int
        Seed of random and of learned features.
    mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
        Which labels exist.

    Returns
    -------
    list of fitted transformers, one per fold

    Raises
    ------
    ValueError
        If the form is none of the three, or a fold splits a group.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import fit_floor_maps
    >>> X, groups = np.random.default_rng(0).normal(size=(60, 3)), np.repeat(np.arange(6), 10)
    >>> maps = fit_floor_maps("random", X, X[:, 0], groups, folds=groups % 3, units=16)
    >>> [one.transform(X).shape for one in maps]
    [(60, 32), (60, 32), (60, 32)]
    """
    rows = np.asarray(X)
    parts = check_folds(folds, groups, len(rows))
    n_folds = int(parts.max()) + 1
    if form == "linear":
        return [FunctionTransformer(_no_features)] * n_folds
    if form == "random":
        return [RandomFeatures(2 * units, kind="cos", random_state=random_state).fit(rows)] * n_folds
    if form == "mlp":
        network = MLPProbe((units, units), shared=True, batch_size=1024, max_epochs=max_epochs, random_state=random_state)
        return list(network.fit_folds(rows, Y, parts, groups, mask))
    raise ValueError(f"form must be one of {', '.join(FLOOR_FORMS)}; got {form!r}")


@dataclass(frozen=True, eq=False)
class FloorGain:
    """What a representation adds to one form of a floor."""

    floor_losses: Floats
    """Held-out loss of each group (n_groups,), floor alone; groups in the order of `np.unique(groups)` of the scored rows."""
    joint_losses: Floats
    """The same for the floor and the representation side by side."""
    gain: Estimate
    """Sum over groups of the first minus the second, with its one-sided lower bound."""
    validation_loss: float
    """Loss of the floor alone on the validation rows, mean over the folds' probes; NaN where there are none."""


@dataclass(frozen=True, eq=False)
class FloorComparison:
    """What a representation adds to every form of a floor."""

    forms: dict[str, FloorGain]

    @property
    def beyond(self) -> bool:
        """The decision: the lower bound of the gain is above zero for every form."""
        return all(bool(form.gain.lower > 0) for form in self.forms.values())

    @property
    def best(self) -> str:
        """Name of the form that loses least on validation rows."""
        losses = {name: form.validation_loss for name, form in self.forms.items()}
        if np.isnan(list(losses.values())).any():
            raise ValueError("the best form is chosen on validation rows; give `compare_floor` some (`validation`)")
        return min(losses, key=lambda name: losses[name])


def compare_floor(
    representation: ArrayLike,
    floor: ArrayLike,
    Y: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike,
    forms: Sequence[FloorForm] = FLOOR_FORMS,
    units: int | None = None,
    probe: RidgeProbe | None = None,
    validation: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    scale: float | Sequence[float] = 1.0,
    level: float = 0.95,
    random_state: int = 0,
) -> FloorComparison:
    r"""Test whether a representation adds to a floor, whichever way the floor is read.

    For every form F of the floor the held-out quadratic losses, cross-fitted over whole groups, are compared in pairs:

    .. math:: L_F - L_{F + h} = \sum_g \big(\ell_g(F) - \ell_g(F, h)\big) .

    The floor and the representation are penalised as two blocks, so that the wide one does not drown the narrow one.

    Parameters
    ----------
    representation : array_like, shape (n_samples, n_units)
        Activations.
    floor : array_like, shape (n_samples, n_features)
        What the activations must add to: the present input and the step (F0), or these with a window of history and an untrained twin (F1).
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
        Real targets; one-hot labels of a categorical factor, for Brier losses.
    groups : array_like, shape (n_samples,)
        Group (episode) of each row, the unit of the interval.
    folds : array_like, shape (n_samples,)
        Fold of each row, three or more, of whole groups.
    forms : sequence of {"linear", "random", "mlp"}
        How the floor is read.
    units : int, optional
        Width of the random and learned forms; by default that of the representation, 128 at least.
    probe : RidgeProbe, optional
        Penalties to choose from; `RidgeProbe()` by default. Its `blocks` are set here.
    validation : array_like of bool, shape (n_samples,), optional
        Rows, of whole groups, that nothing is fitted to or scored on, but the best form chosen on; their folds are not looked at.
    mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
        Which labels exist; others are neither fitted to nor scored.
    scale : float or sequence of float (n_targets,)
        Fixed unit of each target, as in `group_losses`.
    level : float
        Of the one-sided lower bound of each gain.
    random_state : int
        Seed of the random and learned forms.

    Returns
    -------
    FloorComparison

    Raises
    ------
    ValueError
        If the arrays differ in length, a fold splits a group, or there are fewer than three folds.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import compare_floor, group_folds
    >>> rng = np.random.default_rng(0)
    >>> observation, hidden, groups = rng.normal(size=(900, 3)), rng.normal(size=(900, 8)), np.repeat(np.arange(90), 10)
    >>> position = observation[:, 0] + 0.5 * hidden[:, 0] + rng.normal(size=900)
    >>> comparison = compare_floor(hidden, observation, position, groups, group_folds(groups), forms=("linear", "random"))
    >>> comparison.beyond
    True
    """
    F, h, targets, labels = (np.asarray(array) for array in (floor, representation, Y, groups))
    check_finite(F, "floor")
    check_finite(h, "representation")
    held_out = np.zeros(len(F), np.bool_) if validation is None else check_mask(validation, (len(F), 1))[:, 0]
    if validation is not None:
        check_groups(labels, held_out)
    parts = check_folds(np.asarray(folds)[~held_out], labels[~held_out], int(np.sum(~held_out)), least=3)
    known = check_mask(mask, (len(F), targets.reshape(len(F), -1).shape[1]))
    rows = _Rows(F, h, targets, known, labels, np.flatnonzero(~held_out), parts, probe or RidgeProbe(), scale)
    width = max(LEAST_FLOOR_UNITS, h.shape[1]) if units is None else units
    return FloorComparison({form: rows.gain(form, width, level, random_state) for form in forms})


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one comparison."""

    floor: NDArray[Any]
    representation: NDArray[Any]
    Y: NDArray[Any]
    mask: Booleans
    groups: NDArray[Any]
    scored: Integers
    """Row numbers that are in a fold; the others are for validation."""
    folds: Integers
    """Fold of each scored row."""
    probe: RidgeProbe
    scale: float | Sequence[float]

    def gain(self, form: FloorForm, units: int, level: float, random_state: int) -> FloorGain:
        """Compare the floor, in one form, with the floor and the representation."""
        X, Y, groups, mask = (array[self.scored] for array in (self.floor, self.Y, self.groups, self.mask))
        maps = fit_floor_maps(form, X, Y, groups, self.folds, units, random_state=random_state, mask=mask)
        if form != "mlp":
            maps = maps[:1]
        alone = [np.concatenate([self.floor, one.transform(self.floor)], axis=1) for one in maps]
        joint = [np.concatenate([features, self.representation], axis=1) for features in alone]
        floor_losses, validation_loss = self._losses(alone, None)
        joint_losses, _ = self._losses(joint, (alone[0].shape[1], self.representation.shape[1]))
        return FloorGain(floor_losses, joint_losses, sum_interval(floor_losses - joint_losses, level, "greater"), validation_loss)

    def _losses(self, features: Sequence[NDArray[Any]], blocks: tuple[int, int] | None) -> tuple[Floats, float]:
        """Return each group's loss, and the folds' mean loss on validation rows; features are one array for all folds, or one each."""
        predictions, validation = np.empty(self.Y.shape), np.setdiff1d(np.arange(len(self.Y)), self.scored)
        judged = []
        for fold, probe in enumerate(self._probes(features, blocks)):
            read, rows = features[fold % len(features)], self.scored[self.folds == fold]
            predictions[rows] = probe.predict(read[rows])
            if len(validation):
                judged.append(self._loss(validation, probe.predict(read[validation])).sum())
        return self._loss(self.scored, predictions[self.scored]), float(np.mean(judged)) if judged else np.nan

    def _loss(self, rows: Integers, predictions: Floats) -> Floats:
        """Return the loss of each group among some rows."""
        return group_losses(self.Y[rows], predictions, self.groups[rows], self.scale, self.mask[rows])

    def _probes(self, features: Sequence[NDArray[Any]], blocks: tuple[int, int] | None) -> list[RidgeProbe]:
        """Fit one probe per fold on the others, which its penalties are chosen on as well."""
        probe, scored = clone(self.probe).set_params(blocks=blocks), self.scored
        if len(features) == 1:
            shared: list[RidgeProbe] = probe.fit_folds(
                features[0][scored], self.Y[scored], self.folds, groups=self.groups[scored], mask=self.mask[scored]
            )
            return shared
        fitted = []
        for fold, read in enumerate(features):
            seen = np.flatnonzero(self.folds != fold)
            rows = scored[seen]
            labelled = {"groups": self.groups[rows], "mask": self.mask[rows], "folds": self.folds[seen]}
            fitted.append(clone(probe).fit(read[rows], self.Y[rows], **labelled))
        return fitted
