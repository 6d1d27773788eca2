"""Random features: what a linear probe reaches when its input is expanded without any learning."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._validation import check_features


class RandomFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Random nonlinear features of standardised inputs.

    With :math:`p` features that vary, :math:`w_k \sim N(0, I / p)` and z standardised on the fitted rows,

    .. math:: \text{relu:}\ \sqrt2 \max(0, w_k^\top z + b_k),\ b_k \sim N(0, 1); \qquad
        \text{cos:}\ \sqrt2 \cos(\gamma\, w_k^\top z + b_k),\ b_k \sim U(0, 2 \pi) .

    Inner products of the latter approach the Gaussian kernel :math:`\exp(-\gamma^2 |z - z'|^2 / 2p)`.

    Parameters
    ----------
    n_features : int
        Number of random features; a floor takes at least the width of the site it stands under.
    kind : {"relu", "cos"}
    gamma : float
        Inverse width of the Gaussian kernel ("cos" only).
    random_state : int
        Seed of the weights.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import RandomFeatures
    >>> RandomFeatures(n_features=64).fit_transform(np.random.default_rng(0).normal(size=(100, 3))).shape
    (100, 64)

    References
    ----------
    Rahimi & Recht 2007, "Random features for large-scale kernel machines"; Cho & Saul 2009, "Kernel methods for deep learning".
    """

    def __init__(self, n_features: int = 256, kind: Literal["relu", "cos"] = "relu", gamma: float = 1.0, random_state: int = 0) -> None:
        self.n_features = n_features
        self.kind = kind
        self.gamma = gamma
        self.random_state = random_state

    def fit(self, X: ArrayLike, Y: ArrayLike | None = None) -> Self:
        """Take mean and scale of X (n_samples, n_features_in), and draw the weights; Y is not looked at."""
        X = check_features(self, X, reset=True)
        if self.kind not in {"relu", "cos"}:
            raise ValueError(f"kind must be 'relu' or 'cos'; got {self.kind!r}")
        generator = np.random.default_rng(self.random_state)
        self._standardiser = Standardiser.of(X)
        n_varying = max(1, int(np.count_nonzero(self._standardiser.inverse_scale)))
        self.weights_ = generator.normal(size=(X.shape[1], self.n_features)) / np.sqrt(n_varying)
        if self.kind == "relu":
            self.offsets_ = generator.normal(size=self.n_features)
        else:
            self.weights_ *= self.gamma
            self.offsets_ = generator.uniform(0.0, 2 * np.pi, size=self.n_features)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return random features (n_samples, n_features) in the precision of X."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        drive = self._standardiser.apply(X) @ self.weights_.astype(X.dtype) + self.offsets_.astype(X.dtype)
        response: NDArray[Any] = np.maximum(drive, 0.0) if self.kind == "relu" else np.cos(drive)
        response *= X.dtype.type(np.sqrt(2.0))
        return response

    def __sklearn_tags__(self) -> Any:
        """Say that float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
