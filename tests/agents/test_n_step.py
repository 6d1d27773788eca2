"""n-step targets and the rescaling of values, against brute force and their inverse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.agents import n_step_targets, rescale, unscale

T = 6


def segments(lengths: list[int], terminates: list[bool]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return padded segments: rewards, values, and where they terminate, end and are real."""
    generator = torch.Generator().manual_seed(0)
    step = torch.arange(T).unsqueeze(1)
    length = torch.tensor(lengths)
    is_real, is_last = step < length, step == length - 1
    terminated = (step >= length - 1) & torch.tensor(terminates)  # the padding repeats the last step
    reward = torch.randn(T, len(lengths), generator=generator) * is_real
    return reward, torch.randn(T + 1, len(lengths), generator=generator), terminated, is_last, is_real


def brute_force(reward: Tensor, value: Tensor, length: int, terminates: bool, k: int, discount: float, n_step: int) -> float:
    """One target, one step at a time."""
    total, factor = 0.0, 1.0
    for taken in range(n_step):
        total += factor * reward[k + taken].item()
        factor *= discount
        if k + taken == length - 1:
            return total if terminates else total + factor * value[length].item()
    return total + factor * value[k + n_step].item()


@pytest.mark.parametrize("n_step", [1, 2, 3, 5, 9])
def test_targets_are_those_of_brute_force(n_step: int) -> None:
    lengths = [length for length in range(1, T + 1) for _ in range(2)]
    terminates = [bool(index % 2) for index in range(len(lengths))]
    reward, value, terminated, is_last, is_real = segments(lengths, terminates)
    target = n_step_targets(reward, value, terminated, is_last, is_real, 0.9, n_step)
    for column, (length, ends) in enumerate(zip(lengths, terminates, strict=True)):
        for k in range(length):
            expected = brute_force(reward[:, column], value[:, column], length, ends, k, 0.9, n_step)
            assert target[k, column].item() == pytest.approx(expected, abs=1e-5)
        assert (target[length:, column] == 0).all()


def test_what_lies_beyond_a_termination_never_counts() -> None:
    reward, value, terminated, is_last, is_real = segments([3], [True])
    first = n_step_targets(reward, value, terminated, is_last, is_real, 0.9, 2)
    value[3:] = 1e9
    torch.testing.assert_close(first, n_step_targets(reward, value, terminated, is_last, is_real, 0.9, 2))


@given(st.floats(-1e6, 1e6))
def test_the_rescaling_and_its_inverse(number: float) -> None:
    value = torch.tensor(number, dtype=torch.float64)
    assert unscale(rescale(value)).item() == pytest.approx(number, rel=1e-9, abs=1e-9)
    assert rescale(-value).item() == -rescale(value).item()
    x = abs(number)
    assert rescale(value).abs().item() == pytest.approx((x + 1) ** 0.5 - 1 + 1e-3 * x, rel=1e-12, abs=1e-15)


def test_single_precision_is_enough_for_values() -> None:
    values = torch.linspace(-50, 50, 1001)
    torch.testing.assert_close(unscale(rescale(values)), values, rtol=1e-4, atol=1e-5)
