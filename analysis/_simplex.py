"""Least squares over probability vectors, for many problems at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_ITERATIONS = 100
"""Of the interior-point method; it needs about 40."""

GAP = 1e-13
"""Mean complementarity, in units of the squared targets, at which a problem is solved."""

STEP = 0.9
"""Share of the way to the boundary that an iterate may go."""

CENTRING = 0.3
"""Factor by which every step aims to shrink the products of entries and multipliers, all alike: the path through the middle."""


def simplex_least_squares(design: Floats, targets: Floats) -> Floats:
    r"""Fit a probability vector to each of many linear systems.

    .. math:: \min_p \lVert M_b\, p - q_b \rVert^2 \quad\text{s.t.}\quad p \ge 0,\; \textstyle\sum_i p_i = 1 .

    Where several vectors fit equally well, the answer lies in the middle of them (the analytic centre): every entry that could be
    positive is. A primal-dual interior-point method takes all problems at once through about 40 batched factorisations.

    Parameters
    ----------
    design : ndarray, shape (K, S) or (B, K, S)
        M, one for all problems or one for each.
    targets : ndarray, shape (B, K)
        q.

    Returns
    -------
    ndarray, shape (B, S)

    Raises
    ------
    ValueError
        If the shapes do not fit, or an entry is not finite.

    References
    ----------
    Wright 1997, "Primal-dual interior-point methods", chapter 5 (path following).

    Examples
    --------
    >>> import numpy as np
    >>> simplex_least_squares(np.array([[0.0, 1.0, 3.0]]), np.array([[0.0], [2.5]])).round(2)
    array([[1.  , 0.  , 0.  ],
           [0.09, 0.12, 0.79]])
    """
    M, q = np.asarray(design, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if M.ndim not in (2, 3) or q.ndim != 2 or M.shape[-2] != q.shape[1] or (M.ndim == 3 and len(M) != len(q)):
        raise ValueError(f"expected design (K, S) or (B, K, S) and targets (B, K); got {M.shape} and {q.shape}")
    if not (np.isfinite(M).all() and np.isfinite(q).all()):
        raise ValueError("design and targets must be finite; rewards or Q-values hold NaN or inf")
    # A constant added to a row of M and to its target changes nothing, as p sums to one: take the rows' means out.
    level = M.mean(axis=-1, keepdims=True)
    M, q = M - level, q - level[..., 0]
    size = float(np.abs(M).max(initial=0.0)) or 1.0
    return _solve(np.swapaxes(M, -1, -2) @ M / size**2, np.einsum("...ks,bk->bs" if M.ndim == 2 else "bks,bk->bs", M, q) / size**2)


def _solve(gram: Floats, products: Floats) -> Floats:
    """Minimise p . G p / 2 - c . p over the simplex for each row c of `products` (B, S)."""
    n, S = products.shape
    G = np.broadcast_to(gram, (n, S, S))
    p = np.full((n, S), 1.0 / S)
    slope = np.einsum("bst,bt->bs", G, p) - products
    y = slope.min(axis=1) - 1.0
    z = slope - y[:, None]
    left = np.arange(n)
    for _ in range(MAX_ITERATIONS):
        mu = (p[left] * z[left]).mean(axis=1)
        left, mu = left[mu >= GAP], mu[mu >= GAP]
        if not len(left):
            break
        pl, zl, Gl = p[left], z[left], G[left]
        slope = np.einsum("bst,bt->bs", Gl, pl) - products[left] - y[left, None] - zl
        factors = np.linalg.inv(Gl + _diagonals(zl / pl))
        dp, dz, dy = _direction(factors, slope, pl, zl, pl * zl - CENTRING * mu[:, None])
        step = STEP * np.minimum(_reach(pl, dp, 1 / STEP), _reach(zl, dz, 1 / STEP))
        p[left], z[left], y[left] = pl + step * dp, zl + step * dz, y[left] + step[:, 0] * dy
    p = np.maximum(p, 0.0)
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _direction(factors: Any, slope: Any, p: Any, z: Any, gap: Any) -> tuple[Any, Any, Any]:
    """Return the Newton step of (p, z, y) that takes the slope to zero and the products p z down by `gap`, with sum p kept at one."""
    free, ones = np.einsum("bst,bt->bs", factors, -slope - gap / p), factors.sum(axis=2)
    excess = p.sum(axis=1) - 1.0
    dy = -(free.sum(axis=1) + excess) / ones.sum(axis=1)
    dp = free + dy[:, None] * ones
    return dp, -(gap + z * dp) / p, dy


def _reach(values: Floats, step: Floats, most: float = 1.0) -> Floats:
    """Return how far each row may go along a step before an entry is negative, at most `most`, (B, 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = np.where(step < 0, -values / step, np.inf)
    return np.asarray(np.minimum(limits.min(axis=1, keepdims=True), most))


def _diagonals(values: Floats) -> Floats:
    """Return a diagonal matrix for each row."""
    matrices = np.zeros((*values.shape, values.shape[1]))
    matrices[:, np.arange(values.shape[1]), np.arange(values.shape[1])] = values
    return matrices
