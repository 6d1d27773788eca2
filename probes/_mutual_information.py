"""Mutual information between continuous arrays: closed form for Gaussians, k nearest neighbours in few dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import qr
from scipy.spatial import cKDTree
from scipy.special import digamma

from worldprobe.probes._validation import Floats, check_finite


def gaussian_information(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Return the mutual information, in nats, that jointly Gaussian variables of these covariances have.

    .. math:: I = -\frac12 \sum_i \log (1 - \rho_i^2), \qquad \rho_i \text{ the canonical correlations} .

    Of other variables it is the linear part. It is measured on the rows given, and too high by about p q / 2n.

    Parameters
    ----------
    X : array_like, shape (n_samples, p) or (n_samples,)
    Y : array_like, shape (n_samples, q) or (n_samples,)
        Independent rows: one step of each episode.

    Returns
    -------
    float
        Infinite where one is a linear function of the other.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import gaussian_information
    >>> signal, noise = np.random.default_rng(0).normal(size=(2, 100_000))
    >>> float(round(gaussian_information(signal, signal + noise) / np.log(2), 2))
    0.5
    """
    bases = []
    for rows in _pair(X, Y):
        centred = rows - rows.mean(axis=0)
        q, r, _ = qr(centred, mode="economic", pivoting=True)
        size = np.abs(r.diagonal())
        bases.append(q[:, size > size[0] * max(rows.shape) * np.finfo(np.float64).eps])
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    left = 1.0 - np.minimum(correlations, 1.0) ** 2
    information = np.inf if np.any(left <= 64 * np.finfo(np.float64).eps) else -0.5 * np.log(left).sum()
    return float(information)


def nearest_neighbour_information(X: ArrayLike, Y: ArrayLike, n_neighbours: int = 3) -> float:
    r"""Estimate mutual information, in nats, from distances to nearest neighbours.

    With :math:`n_x(i)` the number of other rows whose x is closer (in the largest coordinate) than the k-th neighbour of (x, y) is,

    .. math:: I = \psi(k) + \psi(n) - \big\langle \psi(n_x + 1) + \psi(n_y + 1) \big\rangle .

    For few dimensions (about five together): the bias grows with their number, and with the information. Give both in comparable units.

    Parameters
    ----------
    X : array_like, shape (n_samples, p) or (n_samples,)
    Y : array_like, shape (n_samples, q) or (n_samples,)
        Independent rows of continuous variables.
    n_neighbours : int
        k: 3 is published; more have less variance and more bias.

    Returns
    -------
    float
        Around zero, and also below it, where the variables are independent.

    Raises
    ------
    ValueError
        If rows repeat, as those of discrete variables do, or there are too few.

    References
    ----------
    Kraskov, Stögbauer & Grassberger 2004, "Estimating mutual information", eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import nearest_neighbour_information
    >>> signal, noise = np.random.default_rng(0).normal(size=(2, 5000))
    >>> float(round(nearest_neighbour_information(signal, signal + noise) / np.log(2), 1))
    0.5
    """
    x, y = _pair(X, Y)
    if not 1 <= n_neighbours < len(x):
        raise ValueError(f"n_neighbours must lie between 1 and the number of rows less one ({len(x) - 1}); got {n_neighbours}")
    joint = np.concatenate([x, y], axis=1)
    distances = np.asarray(cKDTree(joint).query(joint, n_neighbours + 1, p=np.inf)[0])
    reach = distances[:, -1]
    repeated = int(np.sum(reach == 0))
    if repeated:
        raise ValueError(f"nearest neighbours need continuous variables, but {repeated} rows coincide with {n_neighbours} others; use MINE")
    closer = np.nextafter(reach, 0)
    counts = np.stack([cKDTree(part).query_ball_point(part, closer, p=np.inf, return_length=True) for part in (x, y)])  # with itself
    return float(digamma(n_neighbours) + digamma(len(x)) - digamma(counts).sum(axis=0).mean())


def _pair(X: ArrayLike, Y: ArrayLike) -> tuple[Floats, Floats]:
    """Return two finite arrays (n, p) and (n, q)."""
    pair = []
    for name, values in (("X", X), ("Y", Y)):
        array = np.asarray(values, dtype=np.float64)
        check_finite(array, name)
        pair.append(array.reshape(len(array), -1))
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"X and Y must be paired by row; got {len(pair[0])} and {len(pair[1])} rows")
    return pair[0], pair[1]
