"""Tables that are wrong are refused with the reason, and rows are drawn from as they stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldprobe.worlds import Factor, FiniteTables, FiniteWorld, Headline, TMaze
from worldprobe.worlds._tables import RowSampler, possible_rewards, reward_levels

GOOD = TMaze(length=3).tables


def with_entry(table: Tensor, index: tuple[int, ...], value: float) -> Tensor:
    changed = table.clone()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("initial", GOOD.initial.float(), "initial must be torch.float64"),
        ("transition", GOOD.transition[:, :-1], r"transition must be .* of shape \(4, 12, 12\)"),
        ("observation", GOOD.observation[1:], "observation must be"),
        ("terminal", GOOD.terminal.double(), "terminal must be torch.bool"),
        ("transition", with_entry(GOOD.transition, (0, 0, 0), 0.5), r"transition must sum to 1 .* row at \[0, 0\]"),
        ("observation", with_entry(GOOD.observation, (2, 0), -0.5), "probabilities >= 0"),
        ("reward", with_entry(GOOD.reward, (0, 0, 0), float("nan")), "reward must be finite"),
        ("reward", with_entry(GOOD.reward, (0, 4, 4), 1.0), "terminal states must pay nothing"),
        ("terminal", with_entry(GOOD.terminal, (1,), 1.0), "absorbing"),
        ("terminal", torch.ones_like(GOOD.terminal), "at least one step"),
    ],
)
def test_wrong_tables_are_refused(name: str, table: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **{name: table})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action_names": ("a",)}, "expected 4 action names"),
        ({"exploration": (0.5, 0.5, 0.5, 0.5)}, "sum to 1"),
        ({"factors": {Factor("x", "continuous", 1): torch.zeros(12)}}, "categorical"),
        ({"factors": {Factor("x", "categorical", 2): torch.arange(12)}}, r"in \[0, 2\)"),
        ({"positions": torch.zeros(3, 2)}, "positions"),
    ],
)
def test_what_does_not_fit_the_tables_is_refused(changed: dict[str, object], message: str) -> None:
    fitting: dict[str, object] = {
        "name": "maze",
        "factors": {Factor("state", "categorical", 12): torch.arange(12)},
        "action_names": ("right", "up", "left", "down"),
        "discount": 0.9,
        "time_limit": 5,
        "exploration": (0.25,) * 4,
        "headline": Headline("state", 1),
    }
    with pytest.raises(ValueError, match=message):
        FiniteWorld(GOOD, **{**fitting, **changed})  # type: ignore[arg-type]  # the wrong types are the point


def test_rows_never_leak_into_their_neighbours() -> None:
    """Deterministic rows, thousands of them: every draw comes from its own."""
    column = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    sampler = RowSampler(torch.nn.functional.one_hot(column, 5000).double())
    row = torch.arange(5000).repeat(40)
    drawn = sampler.column[sampler.draw(row, torch.Generator().manual_seed(1))]
    assert torch.equal(drawn, column[row])


def test_draws_cover_exactly_the_support() -> None:
    rows = torch.tensor([[0.0, 0.25, 0.0, 0.75], [0.1, 0.0, 0.9, 0.0]], dtype=torch.float64)
    sampler = RowSampler(rows)
    n = 40_000
    for index in range(2):
        drawn = sampler.column[sampler.draw(torch.full((n,), index), torch.Generator().manual_seed(index))]
        torch.testing.assert_close(drawn.bincount(minlength=4) / n, rows[index].float(), rtol=0, atol=0.015)
        assert not drawn.bincount(minlength=4)[rows[index] == 0].any()


def test_every_possible_move_pays_one_level() -> None:
    assert possible_rewards(GOOD).tolist() == [-0.1, 0.0, 4.0]
    paid = torch.stack(reward_levels(GOOD)).sum(0)
    assert (paid[GOOD.transition > 0] == 1).all()


def test_expected_reward_is_the_mean_over_successors() -> None:
    tables = FiniteTables(
        initial=torch.tensor([1.0, 0.0], dtype=torch.float64),
        transition=torch.tensor([[[0.25, 0.75], [0.0, 1.0]]], dtype=torch.float64),
        observation=torch.eye(2, dtype=torch.float64),
        reward=torch.tensor([[[2.0, -4.0], [0.0, 0.0]]], dtype=torch.float64),
        terminal=torch.tensor([False, True]),
    )
    assert tables.expected_reward().tolist() == [[-2.5], [0.0]]
