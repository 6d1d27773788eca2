from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.agents import lambda_returns

column = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=12)


def mixture(reward: list[float], value: list[float], is_terminated: bool, discount: float, td_lambda: float, k: int) -> float:
    """The definition: a geometric mixture of n-step returns, the longest of which takes what is left of the weight."""
    last = len(reward) - 1

    def n_step(end: int) -> float:
        paid = sum(discount ** (j - k) * reward[j] for j in range(k, end + 1))
        bootstraps = not (is_terminated and end == last)
        return paid + discount ** (end + 1 - k) * value[end] * bootstraps

    shorter = sum((1 - td_lambda) * td_lambda ** (end - k) * n_step(end) for end in range(k, last))
    return shorter + td_lambda ** (last - k) * n_step(last)


def as_column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


@given(column, column, st.booleans(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
def test_equals_the_mixture_of_n_step_returns(
    reward: list[float], value: list[float], is_terminated: bool, discount: float, td_lambda: float, n_padding: int
) -> None:
    n = min(len(reward), len(value))
    reward, value = reward[:n], value[:n]
    length = n + n_padding
    is_last = torch.arange(length).unsqueeze(1) == n - 1
    is_real = torch.arange(length).unsqueeze(1) < n
    garbage = [float("1e3")] * n_padding  # what a padded batch holds there must not matter
    target = lambda_returns(
        as_column(reward + [0.0] * n_padding), as_column(value + garbage), is_last & is_terminated, is_last, is_real, discount, td_lambda
    )
    expected = [mixture(reward, value, is_terminated, discount, td_lambda, k) for k in range(n)] + [0.0] * n_padding
    torch.testing.assert_close(target, as_column(expected), atol=1e-6, rtol=1e-6)


def test_lambda_zero_is_one_step_q_learning() -> None:
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0]])
    is_last = torch.tensor([[False], [True]])
    yes = torch.ones_like(is_last)
    target = lambda_returns(reward, value, ~yes, is_last, yes, 0.5, 0.0)
    assert target.flatten().tolist() == [6.0, 12.0]


def test_lambda_one_is_the_discounted_sum_of_rewards_of_an_ended_episode() -> None:
    reward, value = torch.tensor([[1.0], [2.0], [4.0]]), torch.full((3, 1), 99.0)
    is_last = torch.tensor([[False], [False], [True]])
    target = lambda_returns(reward, value, is_last, is_last, torch.ones_like(is_last), 0.5, 1.0)
    assert target.flatten().tolist() == [3.0, 4.0, 4.0]
