"""n-step targets of unbroken segments, and the rescaling of values."""

from __future__ import annotations

import torch
from torch import Tensor

RESCALING = 1e-3
"""Slope that keeps the rescaling invertible (Pohlen et al. 2018)."""


def n_step_targets(
    reward: Tensor, value: Tensor, terminated: Tensor, is_last: Tensor, is_real: Tensor, discount: float, n_step: int
) -> Tensor:
    """Return the n-step targets of padded segments, in each of which at most the last step ends its episode.

        G_k = sum_{i < m} gamma^i r_{k+i} + gamma^m v_{k+m},  m = min(n, steps left in the segment)

    without the second term where the episode terminated within these m steps. A truncation, or the end of a stored
    sequence, bootstraps earlier, from the value of what followed.

    Parameters
    ----------
    reward : Tensor
        float32 (T, n_segments), 0 in the padding.
    value : Tensor
        float32 (T + 1, n_segments): v_k of every row, the one after a segment's last step included.
    terminated, is_last, is_real : Tensor
        bool (T, n_segments): termination, last step of the segment, not padding.
    discount : float
        gamma, in [0, 1].
    n_step : int
        n, at least 1.

    Returns
    -------
    Tensor
        float32 (T, n_segments); 0 in the padding.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import n_step_targets
    >>> column = lambda *values: torch.tensor([values]).T
    >>> reward, value = column(1.0, 1.0, 1.0), column(0.0, 0.0, 8.0, 16.0)
    >>> no, last, real = column(False, False, False), column(False, False, True), column(True, True, True)
    >>> n_step_targets(reward, value, no, last, real, discount=0.5, n_step=2).T
    tensor([[3.5000, 5.5000, 9.0000]])

    References
    ----------
    Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", section 2.3.
    """
    length = is_real.sum(0)
    row = torch.arange(len(reward), device=reward.device).unsqueeze(1)
    stop = torch.minimum(row + n_step, length)
    follows = ~(terminated & is_last).any(0) | (stop < length)
    target = value.gather(0, stop) * follows * discount ** (stop - row)
    for i in range(min(n_step, len(reward))):
        target[: len(reward) - i] += discount**i * reward[i:]
    return target * is_real


def rescale(value: Tensor) -> Tensor:
    """Return h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x, which compresses large values.

    References
    ----------
    Pohlen et al. 2018, "Observe and look further"; Kapturowski et al. 2019.
    """
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + RESCALING * value


def unscale(value: Tensor) -> Tensor:
    """Return the inverse of `rescale`, the root of a quadratic in sqrt(|x| + 1); exact to rounding, computed in float64.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import rescale, unscale
    >>> unscale(rescale(torch.tensor([-300.0, 0.5])))
    tensor([-300.0000,    0.5000])
    """
    size = value.double().abs()
    root = 2 * (1 + size + RESCALING) / (1 + (1 + 4 * RESCALING * (1 + size + RESCALING)).sqrt())
    return (value.sign() * (root.square() - 1)).to(value.dtype)
