"""What several networks say of their algorithm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from worldprobe.analysis import Cell, LossSums, as_table, measure, over_networks
from worldprobe.worlds import Factor

FACTOR = Factor("state", "categorical", 5, "policy")


def networks(shares: dict[str, float], quantity: str = "network") -> pd.DataFrame:
    noise = np.random.default_rng(0).gamma(50.0, 0.02, 300)
    return as_table(
        [
            measure(
                LossSums(2 * noise, (2 - share) * noise, noise, 1000.0, 900),
                Cell(quantity, name, "common", "core.h", "F0 linear"),
                FACTOR,
                0,
            )
            for name, share in shares.items()
        ]
    )


def test_five_networks_give_a_t_interval_over_networks() -> None:
    shares = [0.5, 0.6, 0.4, 0.7, 0.55]
    row = over_networks(networks({f"trained-{i}": share for i, share in enumerate(shares)})).iloc[0]
    low, high = stats.t.interval(0.95, 4, np.mean(shares), stats.sem(shares))
    assert (row.quantity, row.agent) == ("algorithm", "5 trained networks")
    assert (row.estimate, row.lower, row.upper) == pytest.approx((np.mean(shares), low, high))
    assert row.estimable


def test_three_networks_give_their_mean_and_the_least_but_no_interval() -> None:
    row = over_networks(networks({"yoked-0": 0.5, "yoked-1": 0.3, "yoked-2": 0.4})).iloc[0]
    assert not row.estimable
    assert "mean 0.400, least 0.300" in row.reason


def test_kinds_and_quantities_are_kept_apart_and_two_networks_say_nothing() -> None:
    table = pd.concat(
        [
            networks({f"trained-{i}": 0.5 + i / 100 for i in range(5)}),
            networks({f"trained-{i}": 0.2 + i / 100 for i in range(5)}, "network-update"),
            networks({"yoked-0": 0.1, "yoked-1": 0.1}),
        ],
        ignore_index=True,
    )
    summary = over_networks(table)
    assert list(zip(summary.agent, summary.quantity, strict=True)) == [
        ("5 trained networks", "algorithm"),
        ("5 trained networks", "algorithm-update"),
    ]


def test_nothing_from_nothing() -> None:
    assert over_networks(networks({"trained": 0.5}, "emergence")).empty


@pytest.mark.parametrize("n", [1, 5])
def test_columns_keep_their_kinds_when_both_are_put_together(n: int) -> None:
    table = networks({f"trained-{i}": 0.5 + i / 100 for i in range(n)})
    both = pd.concat([table, over_networks(table)], ignore_index=True)
    assert (both.dtypes == table.dtypes).all()
    assert both.estimable.dtype == bool
