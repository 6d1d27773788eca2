"""Q(lambda) targets of unbroken segments, as one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


def lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, is_last: Tensor, is_real: Tensor, discount: float, td_lambda: float
) -> Tensor:
    """Return the Q(lambda) targets of padded segments, in each of which at most the last step ends its episode.

        G_k = r_k + gamma c_k [(1 - lambda_k) v_{k+1} + lambda_k G_{k+1}],  v = max_a Q

    with c_k = 0 where the episode terminated, and lambda_k = 0 at a segment's last step (the rollout's end or a
    truncation bootstraps from the value of what followed). Inside a segment the recursion unrolls to
    G_k = sum_{j >= k} (gamma lambda)^(j - k) x_j with x_j = r_j + gamma c_j (1 - lambda_j) v_{j+1}.

    Parameters
    ----------
    reward, next_value : Tensor
        float32 (T, n): r_k and v_{k+1}.
    terminated, is_last, is_real : Tensor
        bool (T, n): termination, last step of the segment, not padding.
    discount, td_lambda : float
        gamma and lambda, both in [0, 1].

    Returns
    -------
    Tensor
        float32 (T, n); 0 in the padding.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import lambda_returns
    >>> column = lambda *values: torch.tensor([values]).T
    >>> yes, no = column(True, True), column(False, True)
    >>> lambda_returns(column(0.0, 1.0), column(8.0, 2.0), column(False, False), no, yes, discount=0.5, td_lambda=1.0).T
    tensor([[1., 2.]])

    References
    ----------
    Peng & Williams 1996; Gallici et al. 2024, "Simplifying deep temporal difference learning", section 4.
    """
    bootstrap = discount * (~terminated) * torch.where(is_last, 1.0, 1.0 - td_lambda)
    x = (reward + bootstrap * next_value) * is_real
    step = torch.arange(len(reward))
    delay = step - step.unsqueeze(1)
    decay = torch.where(delay >= 0, (discount * td_lambda) ** delay.clamp_min(0).to(x.dtype), 0.0)
    return decay @ x
