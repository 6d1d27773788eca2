"""A share is a ratio of sums with a Fieller interval, or a reason why there is none."""

from __future__ import annotations

import numpy as np
import pytest

from worldprobe.analysis import Cell, LossSums, as_table, measure
from worldprobe.analysis._tables import with_false_discovery_rate
from worldprobe.worlds import Factor, Headline

CELL = Cell("emergence", "trained", "common", "core.h", "F0 linear")
FACTOR = Factor("position", "categorical", 5, "value")


def sums(floor: float, agent: float, ceiling: float | None, total: float = 1000.0, n: int = 400) -> LossSums:
    """Episode losses with the given means and a little shared noise."""
    noise = np.random.default_rng(0).gamma(20.0, 0.05, n)
    return LossSums(floor * noise, agent * noise, None if ceiling is None else ceiling * noise, total, 10 * n)


@pytest.mark.parametrize(("agent", "share"), [(2.0, 0.0), (1.0, 1.0), (1.5, 0.5), (2.5, -0.5)])
def test_share_counts_from_floor_to_ceiling(agent: float, share: float) -> None:
    measured = measure(sums(2.0, agent, 1.0), CELL, FACTOR, horizon=0)
    assert measured.share.estimable
    assert measured.share.estimate == pytest.approx(share)
    assert measured.share.lower <= share + 1e-9
    assert measured.share.upper >= share - 1e-9


def test_gain_is_in_points_of_r2_and_agrees_with_the_columns() -> None:
    measured = measure(sums(2.0, 1.5, 1.0), CELL, FACTOR, horizon=0)
    assert measured.gain == pytest.approx(measured.r2_agent - measured.r2_floor)
    assert measured.gain_lower < measured.gain < measured.gain_upper


def test_no_room_between_floor_and_ceiling_is_not_estimable_but_keeps_its_gain() -> None:
    measured = measure(sums(2.0, 1.9, 1.99), CELL, FACTOR, horizon=0)
    assert not measured.share.estimable
    assert "cannot tell a model" in measured.share.reason
    assert measured.gain > 0


def test_without_a_ceiling_there_is_no_share() -> None:
    measured = measure(sums(2.0, 1.0, None), CELL, FACTOR, horizon=0)
    assert not measured.share.estimable
    assert "ceiling" in measured.share.reason
    assert np.isnan(measured.r2_ceiling)


def test_a_constant_factor_is_not_estimable() -> None:
    measured = measure(sums(0.0, 0.0, 0.0, total=0.0), CELL, FACTOR, horizon=0)
    assert not measured.share.estimable
    assert "never varies" in measured.share.reason


def test_table_has_one_flat_row_per_measurement() -> None:
    table = as_table([measure(sums(2.0, 1.0, 0.5), CELL, FACTOR, horizon=k) for k in range(3)])
    assert len(table) == 3
    assert {"quantity", "floor", "factor", "horizon", "estimate", "lower", "upper", "gain", "r2_ceiling", "estimable", "reason"} <= set(
        table
    )


def test_everything_but_the_headline_is_adjusted_for_the_number_of_cells() -> None:
    others = [Factor(f"other {index}", "categorical", 2, "irrelevant") for index in range(40)]
    rows = [measure(sums(2.0, 2.0, 1.0), CELL, factor, horizon=0) for factor in (FACTOR, *others)]
    table = as_table(rows).assign(p_value=[0.01, 0.01, *np.linspace(0.3, 1, 39)])
    adjusted = with_false_discovery_rate(table, Headline("position", 5)).q_value.to_numpy()
    assert adjusted[0] == 0.01
    assert adjusted[1] == pytest.approx(0.01 * 40)
    assert (adjusted[1:] >= table.p_value.to_numpy()[1:]).all()
