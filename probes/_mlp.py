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

from worldprobe.probes._coded_batches import Batches, CodedBatches, RealBatches
from worldprobe.probes._criteria import Criterion, Heads, LogLoss, SquaredError, Units
from worldprobe.probes._network import Job, Network
from worldprobe.probes._splits import check_folds, group_folds
from worldprobe.probes._streamed_training import coded_rows, real_rows
from worldprobe.probes._training import Schedule, Trained, TrainingRows, train_networks
from worldprobe.probes._training_rows import ArrayTrainingRows
from worldprobe.probes._ungrouped import warn_of_ungrouped_rows
from worldprobe.probes._validation import Floats, Integers, check_features, group_codes, unfitted_copy

CRITERIA: dict[str, type[SquaredError] | type[LogLoss]] = {"squared": SquaredError, "log": LogLoss}
"""What a probe may be trained by."""

PREDICTION_ENTRIES = 2**23
"""Hidden activities that a prediction holds at a time."""


class MLPProbe(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Multilayer perceptron probes, one for each column of Y, trained side by side as one batched network.

    A regression by squared error, or a classification by log-loss. Inputs (and the targets of a regression) are standardised on the
    training rows; layers are ReLU; AdamW runs on random batches, the same for all networks, until a network's loss on held-out groups has
    not fallen for `patience` epochs, and its weights at the lowest such loss are kept:

    .. math:: \text{squared:}\ \frac1n \sum_i \Big(\frac{y_i - \hat y_i}{\sigma}\Big)^2, \qquad
        \text{log:}\ -\frac1n \sum_i \log p_i(c_i) .

    Parameters
    ----------
    hidden : sequence of int, or sequence of those
        Widths of the hidden layers; or several such architectures, of which each column takes the one of least loss on held-out groups.
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
    n_seeds : int
        Initialisations of each network, of which the one of least loss on held-out groups is kept.
    shared : bool
        Whether one network answers for all columns, on the mean of their losses.
    device : str
        Where training runs: "cpu", "cuda", ...
    random_state : int
        Seed of the initial weights, the batches and the choice of validation groups. Equal seed and thread count give equal bits.

    Attributes
    ----------
    classes_ : ndarray, or a list of one per head
        Sorted classes ("log" only).
    n_epochs_ : ndarray of int (n_networks,)
        Epochs until the kept weights; 0: nothing was better than a constant.
    validation_losses_ : ndarray (n_jobs, n_networks)
        Least loss on held-out groups, of every architecture and seed (architectures first); one network per column, or one if `shared`.
    chosen_ : ndarray of int (n_networks,)
        The row of it that was kept.

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
        hidden: Sequence[int] | Sequence[Sequence[int]] = (128,),
        loss: Literal["squared", "log"] = "squared",
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 256,
        max_epochs: int = 60,
        patience: int = 10,
        validation_fraction: float = 0.2,
        n_seeds: int = 1,
        shared: bool = False,
        device: str = "cpu",
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
        self.n_seeds = n_seeds
        self.shared = shared
        self.device = device
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
        if groups is None:
            warn_of_ungrouped_rows(self, X)
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

    def fit_batches(self, batches: Batches | Callable[[], Batches]) -> Self:
        """Train on rows that need not fit into memory: every epoch goes over the batches, and draws its steps within each.

        Parameters
        ----------
        batches : iterable of (X, Y, groups), or function that returns one
            As `fit` takes them; they are gone over twice for each epoch, and must be the same each time. Each group goes to the fold of
            fewest rows when it first arrives, and one of the folds is what training stops by.

        Raises
        ------
        ValueError
            As `fit`; and if `batches` can be read only once.

        Examples
        --------
        >>> import numpy as np
        >>> from worldprobe.probes import MLPProbe
        >>> def recording():
        ...     for shard in range(8):
        ...         X = np.random.default_rng(shard).normal(size=(250, 2))
        ...         yield X, X[:, 0] * X[:, 1] > 0, np.repeat(np.arange(10 * shard, 10 * shard + 10), 25)
        >>> probe = MLPProbe(loss="log", max_epochs=20).fit_batches(recording)
        >>> X = np.random.default_rng(9).normal(size=(1000, 2))
        >>> bool(probe.score(X, X[:, 0] * X[:, 1] > 0) > 0.9)
        True
        """
        self._check()
        n_parts, seeds, device = max(2, round(1 / self.validation_fraction)), self._seeds(1), torch.device(self.device)
        if self.loss == "log":
            decoder: Heads | Units
            rows, shift, decoder = coded_rows(CodedBatches(self, batches, n_parts), seeds[0], device)
        else:
            rows, shift, decoder = real_rows(RealBatches(self, batches, n_parts), seeds[0], device)
        self._learn([self], rows, rows.starts.shape[1], shift, [decoder], seeds)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return predictions ("squared") or the most probable labels ("log"), shaped as Y was."""
        outputs = self._outputs(X)
        predictions: NDArray[Any] = self._decoder.predict(outputs)
        return predictions

    @available_if(lambda self: self.loss == "log")  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def predict_proba(self, X: ArrayLike) -> Any:
        """Return class probabilities (n_samples, n_classes), none below 1e-6; a list of one array per head if Y had columns."""
        outputs = self._outputs(X)
        return self._decoder.probabilities(outputs)

    @available_if(lambda self: self.loss == "log")  # type: ignore[untyped-decorator]  # scikit-learn ships no types
    def clipped_mass(self, X: ArrayLike) -> Floats:
        """Return, for each head (n_heads,), the mean probability mass per row of X that the floor of 1e-6 adds."""
        outputs = self._outputs(X)
        masses: Floats = self._decoder.clipped_mass(outputs)
        return masses

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the last hidden layers, those of one network after those of another: learned features, to be probed linearly."""
        activity = self._forward(X, Network.hidden)
        return np.concatenate(list(activity), axis=1).astype(np.float32)

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
        """Train all networks of all probes side by side, those of probe e on the rows `members[e]`."""
        self._check()
        criterion: Criterion
        criterion, decoders = CRITERIA[self.loss].of(X, Y, mask, members)
        shift, codes, device = X.mean(axis=0, dtype=np.float64), group_codes(groups, len(X)), torch.device(self.device)
        labelled = criterion.mask.any(1).numpy()
        splits = [self._split_off(codes, rows[labelled[rows]]) for rows in members]
        train, validation = ([torch.from_numpy(rows).to(device) for rows in side] for side in zip(*splits, strict=True))
        inputs = torch.from_numpy((X - shift).astype(np.float32)).to(device)
        seeds = self._seeds(len(members))
        rows = ArrayTrainingRows(inputs, criterion.to(device), train, validation, seeds)
        self._learn(probes, rows, criterion.mask.shape[1], shift, decoders, seeds)

    def _learn(
        self,
        probes: Sequence[MLPProbe],
        rows: TrainingRows,
        n_columns: int,
        shift: Floats,
        decoders: Sequence[Units | Heads],
        seeds: Sequence[int],
    ) -> None:
        """Train, and keep each probe's best networks."""
        answers = [tuple(range(n_columns))] if self.shared else [(column,) for column in range(n_columns)]
        schedule = Schedule(self.batch_size, self.learning_rate, self.weight_decay, self.max_epochs, self.patience)
        architectures = self._architectures()
        depths = [len(one) for one in architectures]
        trained = []
        for depth in sorted(set(depths)):
            alike = [one for one in architectures if len(one) == depth]
            jobs = [Job(columns, hidden, seed) for hidden in alike for seed in range(self.n_seeds) for columns in answers]
            trained.append(train_networks(rows, jobs, schedule, seeds))
        order = np.argsort(np.argsort(depths, kind="stable"), kind="stable")
        for fold, (probe, decoder) in enumerate(zip(probes, decoders, strict=True)):
            probe._keep(fold, trained, len(answers), order)
            probe._shift, probe._decoder = shift, decoder
            if isinstance(decoder, Heads):
                probe.classes_ = decoder.classes.answer(decoder.classes.heads)

    def _keep(self, fold: int, trained: Sequence[Trained], n_networks: int, order: Integers) -> None:
        """Keep, for each network that is needed, the architecture and seed of least loss; `order`: places of architectures by depth."""
        shape = (-1, self.n_seeds, n_networks)
        losses = np.concatenate([one.losses[fold].reshape(shape) for one in trained])[order].reshape(-1, n_networks)
        epochs = np.concatenate([one.epochs[fold].reshape(shape) for one in trained])[order].reshape(-1, n_networks)
        self.validation_losses_, self.chosen_ = losses, losses.argmin(axis=0)
        self.n_epochs_ = epochs[self.chosen_, np.arange(n_networks)]
        candidates = [(stack, job) for stack in trained for job in range(len(stack.jobs))]
        self._networks = []
        for network, choice in enumerate(self.chosen_.tolist()):
            place = int(order[choice // self.n_seeds]) * self.n_seeds + choice % self.n_seeds
            stack, job = candidates[place * n_networks + network]
            self._networks.append(stack.best.stack(fold, job))

    def _architectures(self) -> list[tuple[int, ...]]:
        """Return the widths of the hidden layers of every architecture."""
        given: list[Any] = list(self.hidden)
        return [tuple(one) for one in given] if given and not isinstance(given[0], (int, np.integer)) else [tuple(given)]

    def _check(self) -> None:
        """Refuse parameters that nothing can be trained by."""
        if self.loss not in CRITERIA:
            raise ValueError(f"loss must be one of {', '.join(CRITERIA)}; got {self.loss!r}")
        if self.n_seeds < 1 or any(not widths or min(widths) < 1 for widths in self._architectures()):
            raise ValueError(f"expected n_seeds >= 1 and hidden layers of one unit or more; got {self.n_seeds} and {self.hidden!r}")

    def _seeds(self, n_folds: int) -> list[int]:
        """Return a seed for each fold."""
        return [int(np.random.SeedSequence([self.random_state, fold]).generate_state(1)[0]) for fold in range(n_folds)]

    def _split_off(self, codes: Integers, rows: Integers) -> tuple[Integers, Integers]:
        """Divide rows, by whole groups, into those to train on and those to stop by."""
        present = codes[rows]
        n_groups = len(np.unique(present))
        if n_groups < 2:
            raise ValueError(f"training stops by held-out groups, so at least 2 groups are needed; got {n_groups}")
        parts = group_folds(present, min(n_groups, max(2, round(1 / self.validation_fraction))), self.random_state)
        return rows[parts != 0], rows[parts == 0]

    def _outputs(self, X: ArrayLike) -> Floats:
        """Return outputs (n_samples, n_columns, width)."""
        by_network = self._forward(X, Network.outputs)
        width = 1 if isinstance(self._decoder, Units) else max(self._decoder.n_classes)
        return np.concatenate([one.reshape(len(one), -1, width) for one in by_network], axis=1)

    @torch.no_grad()
    def _forward(self, X: ArrayLike, what: Callable[[Network, Tensor], Tensor]) -> list[Floats]:
        """Return an activity of every network (n_samples, its width) for checked X."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        size = max(1, PREDICTION_ENTRIES // max(X.shape[1], *(weight.shape[1] for one in self._networks for weight in one.weights)))
        blocks = [torch.from_numpy(X[start : start + size] - self._shift) for start in range(0, len(X), size)]
        return [np.concatenate([what(network, block).numpy() for block in blocks]) for network in self._networks]
