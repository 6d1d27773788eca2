"""How alike two sets of activations are, whatever their coordinates: between sites, checkpoints or networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from worldprobe.probes._validation import Floats, check_finite


def linear_cka(X: ArrayLike, Y: ArrayLike, debiased: bool = False) -> float:
    r"""Return the linear centred kernel alignment of two representations of the same rows.

    .. math:: \frac{\lVert \tilde X^\top \tilde Y \rVert_F^2}{\lVert \tilde X^\top \tilde X \rVert_F \lVert \tilde Y^\top \tilde Y \rVert_F}

    with centred columns. It does not change under rotations, translations and a common scale of either. With fewer rows than about ten
    times the features, unrelated representations come out alike; the debiased form replaces all three inner products by unbiased ones, is
    around zero there, and may be negative.

    Parameters
    ----------
    X : array_like, shape (n_samples, p)
    Y : array_like, shape (n_samples, q)
    debiased : bool

    Returns
    -------
    float
        1 for equal representations; NaN where one does not vary.

    Raises
    ------
    ValueError
        If the rows are not paired, an entry is NaN, or fewer than four rows are given for the debiased form.

    References
    ----------
    Kornblith et al. 2019, "Similarity of neural network representations revisited"; Song et al. 2007, "Supervised feature selection via
    dependence estimation", eq. 4 (the unbiased products).

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import linear_cka
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 50, 100))
    >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 6), round(linear_cka(X, Y), 1), abs(linear_cka(X, Y, debiased=True)) < 0.1
    (1.0, 0.6, True)
    """
    x, y = (rows - rows.mean(axis=0) for rows in _paired(X, Y))
    product = _unbiased_product if debiased else _product
    if debiased and len(x) < 4:
        raise ValueError(f"the debiased form needs 4 rows or more; got {len(x)}")
    own = product(x, x) * product(y, y)
    return product(x, y) / float(np.sqrt(own)) if own > 0 else float("nan")


def representational_similarity(X: ArrayLike, Y: ArrayLike, metric: Literal["euclidean", "correlation", "cosine"] = "euclidean") -> float:
    r"""Return Spearman's rank correlation of the distances between rows in one representation and in another.

    Euclidean distances do not change under rotations and translations, nor their ranks under a common scale; correlation distances do not
    change under a scale and shift of each row.

    Parameters
    ----------
    X : array_like, shape (n_samples, p)
    Y : array_like, shape (n_samples, q)
        n (n - 1) / 2 distances are taken: give conditions (mean activations of a state or observation), or some thousand rows.
    metric : {"euclidean", "correlation", "cosine"}
        Distance between two rows.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the rows are not paired, an entry is NaN, or there are fewer than three.

    References
    ----------
    Kriegeskorte, Mur & Bandettini 2008, "Representational similarity analysis".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import representational_similarity
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 50, 8))
    >>> round(representational_similarity(X, 2 * X + 1), 6), abs(representational_similarity(X, Y)) < 0.1
    (1.0, True)
    """
    x, y = _paired(X, Y)
    if len(x) < 3:
        raise ValueError(f"at least 3 rows are needed, whose distances can be ranked; got {len(x)}")
    return float(spearmanr(pdist(x, metric), pdist(y, metric)).statistic)


def similarity_matrix(representations: Mapping[str, ArrayLike], measure: Callable[[ArrayLike, ArrayLike], float] = linear_cka) -> Floats:
    """Return the similarity of every two of several representations (sites, checkpoints) of the same rows.

    Parameters
    ----------
    representations : mapping of str to array_like, each of shape (n_samples, n_features)
    measure : callable
        Symmetric: `linear_cka`, `representational_similarity`, or a function of two arrays.

    Returns
    -------
    ndarray, shape (n, n)
        In the order of the mapping.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import similarity_matrix
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 1000, 4))
    >>> similarity_matrix({"encoder": X, "core": X + Y}).round(1)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    arrays = [np.asarray(array) for array in representations.values()]
    matrix = np.empty((len(arrays), len(arrays)))
    for i, one in enumerate(arrays):
        for j, other in enumerate(arrays[: i + 1]):
            matrix[i, j] = matrix[j, i] = measure(one, other)
    return matrix


def _product(x: Floats, y: Floats) -> float:
    """Return the inner product tr(X X' Y Y') of the two kernels."""
    return float(np.sum((x.T @ y) ** 2))


def _unbiased_product(x: Floats, y: Floats) -> float:
    """Return its unbiased estimate, from kernels K and L without their diagonals, which are never formed: O(n p q)."""
    n = len(x)
    own_x, own_y = np.einsum("np,np->n", x, x), np.einsum("np,np->n", y, y)
    sums_x, sums_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y
    trace = _product(x, y) - own_x @ own_y
    return float((trace + sums_x.sum() * sums_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (sums_x @ sums_y)) / (n * (n - 3)))


def _paired(X: ArrayLike, Y: ArrayLike) -> tuple[Floats, Floats]:
    """Return two finite float64 arrays of equally many rows."""
    x, y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"X and Y must be (n_samples, p) and (n_samples, q), of the same rows; got {x.shape} and {y.shape}")
    check_finite(x, "X")
    check_finite(y, "Y")
    return x, y
