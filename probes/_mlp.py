"""The nonlinear probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from worldprobe.probes._criteria import Heads, LogLoss, SquaredError
from worldprobe.probes._network import NetworkStack, Schedule, train_networks
from worldprobe.probes._splits import check_folds, group_folds
from worldprobe.probes._validation import Floats, Integers, check_features, group_codes, unfitted_copy

CRITERIA: dict[str, type[SquaredError] | type[LogLoss]] = {"squared": SquaredError, "log": LogLoss}
"""What a probe may be trained by."""

PREDICTION_ROWS = 2**16
"""Rows that are predicted at a time."""


class MLPProbe(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Multilayer perceptron probe: a regression by squared error, or one classification head per column of Y by log-loss.

    Inputs (and the targets of a regression) are standardised on the training rows; layers are ReLU; AdamW runs on random batches until
    the loss on held-out groups has not fallen for `patience` epochs, and the weights of the lowest such loss are kept:

    .. math:: \text{squared:}\ \frac{1}{nT} \sum_{ij} \Big(\frac{y_{ij} - \hat y_{ij}}{\sigma_j}\Big)^2, \qquad
        \text{log:}\ -\frac{1}{nH} \sum_{ih} \log p_{ih}(c_{ih}) .

    Parameters
    ----------
    hidden : sequence of int
        Widths of the hidden layers.
    loss : {"squared", "log"}
        "squared" makes a regressor (Brier scores from one-hot targets), "log" a classifier.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls linearly to zero over `max_epochs`.
    batch_size : int
        Rows of a step, at most an eighth of the training rows.
    max_epochs, patience : int
        The longest training, and the epochs without improvement after which it ends.
    validation_fraction : float
        Share of the groups that training stops by; they are not trained on.
    random_state : int
        Seed of the initial weights, the batches and the choice of validation groups. Equal seed and thread count give equal bits.

    Attributes
    ----------
    classes_ : ndarray, or a list of one per head
        Sorted classes ("log" only).
    n_epochs_ : int
        Epochs until the kept weights.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import MLPProbe, RidgeProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.choice([-1.0, 1.0], size=(2000, 2)), np.repeat(np.arange(100), 20)
    >>> xor = X[:, 0] * X[:, 1]
    >>> round(RidgeProbe().fit(X, xor, groups=groups).score(X, xor), 1), round(MLPProbe().fit(X, xor, groups=groups).score(X, xor), 1)
    (0.0, 1.0)
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        loss: Literal["squared", "log"] = "squared",
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 256,
        max_epochs: int = 60,
        patience: int = 10,
        validation_fraction: float = 0.2,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.loss = loss
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None) -> Self:
        """Train on most groups, stop by the rest.

        Parameters
        ----------
        X : array_like, shape (n_samples, n_features)
        Y : array_like, shape (n_samples,) or (n_samples, n_targets)
            Real targets ("squared") or class labels ("log").
        groups : array_like, shape (n_samples,), optional
            Group (episode) of each row; without it every row is a group of its own.
        mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
            Which labels exist.

        Raises
        ------
        ValueError
            If an entry is NaN, there is one group only, a head is left with one class, or no target varies.
        """
        X = check_features(self, X, reset=True)
        self._train([self], X, Y, [np.arange(len(X))], groups, mask)
        return self

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[MLPProbe]:
        """Return one probe per outer fold, trained on the other folds, all side by side as one batched network."""
        X = check_features(self, X, reset=True)
        outer = check_folds(folds, groups, len(X))
        members = [np.flatnonzero(outer != fold) for fold in range(int(outer.max()) + 1)]
        probes = [unfitted_copy(self) for _ in members]
        self._train(probes, X, Y, members, groups, mask)
        return probes

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return predictions ("squared") or the most probable labels ("log"), shaped as Y was."""
        outputs = self._forward(X, NetworkStack.outputs)
        predictions: NDArray[Any] = self._decoder.predict(outputs)
        return predictions

    @available_if(lambda self: self.loss == "log")  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def predict_proba(self, X: ArrayLike) -> Any:
        """Return class probabilities (n_samples, n_classes), none below 1e-6; a list of one array per head if Y had columns."""
        outputs = self._forward(X, NetworkStack.outputs)
        return self._decoder.probabilities(outputs)

    @available_if(lambda self: self.loss == "log")  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def clipped_mass(self, X: ArrayLike) -> Floats:
        """Return, for each head (n_heads,), the mean probability mass per row of X that the floor of 1e-6 adds."""
        masses: Floats = self._decoder.clipped_mass(self._forward(X, NetworkStack.outputs))
        return masses

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the last hidden layer (n_samples, hidden[-1]): learned features, to be probed linearly."""
        return self._forward(X, NetworkStack.hidden).astype(np.float32)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean R^2 over targets ("squared"), or the share of labels named rightly ("log")."""
        predictions = self.predict(X)
        return float(r2_score(y, predictions)) if self.loss == "squared" else float(np.mean(predictions == np.asarray(y)))

    def __sklearn_tags__(self) -> Any:
        """Say what `loss` makes of the probe, and that Y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self.loss == "log" else "regressor"
        tags.classifier_tags = ClassifierTags() if self.loss == "log" else None
        tags.regressor_tags = None if self.loss == "log" else RegressorTags()
        tags.target_tags.required = tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _train(
        self,
        probes: Sequence[MLPProbe],
        X: NDArray[Any],
        Y: ArrayLike,
        members: Sequence[Integers],
        groups: ArrayLike | None,
        mask: ArrayLike | None,
    ) -> None:
        """Train one network per probe, side by side, probe e on the rows `members[e]`."""
        if self.loss not in CRITERIA:
            raise ValueError(f"loss must be one of {', '.join(CRITERIA)}; got {self.loss!r}")
        criterion = CRITERIA[self.loss].of(X, Y, mask, members)
        shift = X.mean(axis=0, dtype=np.float64)
        codes = group_codes(groups, len(X))
        labelled = criterion.mask.any(1).numpy()
        splits = [self._split_off(codes, rows[labelled[rows]]) for rows in members]
        train_rows, validation_rows = ([torch.from_numpy(rows) for rows in side] for side in zip(*splits, strict=True))
        schedule = Schedule(self.batch_size, self.learning_rate, self.weight_decay, self.max_epochs, self.patience)
        seeds = [int(np.random.SeedSequence([self.random_state, member]).generate_state(1)[0]) for member in range(len(members))]
        inputs = torch.from_numpy((X - shift).astype(np.float32))
        networks, n_epochs = train_networks(inputs, criterion, train_rows, validation_rows, self.hidden, schedule, seeds)
        for number, probe in enumerate(probes):
            probe._shift, probe._network, probe._decoder = shift, networks.member(number).double(), criterion.decoders[number]
            probe.n_epochs_ = int(n_epochs[number])
            if isinstance(probe._decoder, Heads):
                probe.classes_ = probe._decoder.classes.answer(probe._decoder.classes.heads)

    def _split_off(self, codes: Integers, rows: Integers) -> tuple[Integers, Integers]:
        """Divide rows, by whole groups, into those to train on and those to stop by."""
        present = codes[rows]
        n_groups = len(np.unique(present))
        if n_groups < 2:
            raise ValueError(f"training stops by held-out groups, so at least 2 groups are needed; got {n_groups}")
        parts = group_folds(present, min(n_groups, max(2, round(1 / self.validation_fraction))), self.random_state)
        return rows[parts != 0], rows[parts == 0]

    @torch.no_grad()
    def _forward(self, X: ArrayLike, what: Callable[[NetworkStack, Tensor], Tensor]) -> Floats:
        """Return an activity of the network (n_samples, width) for checked X."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        blocks = [X[start : start + PREDICTION_ROWS] - self._shift for start in range(0, len(X), PREDICTION_ROWS)]
        return np.concatenate([what(self._network, torch.from_numpy(block)[None])[0].numpy() for block in blocks])
