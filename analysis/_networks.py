"""From networks to their algorithm: intervals whose unit is the network, not the episode."""

from __future__ import annotations

import pandas as pd

from worldprobe.probes import t_interval

MIN_NETWORKS = 5
"""Networks below which nothing is said about the algorithm."""

MIN_POINTS = 3
"""Networks from which their mean and least value are printed, without an interval."""


def over_networks(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per kind of network, quantity, factor and horizon: the mean over networks with its t-interval.

    Parameters
    ----------
    table
        Rows as `Measurement.row` gives them; those of quantity "network" and "network-update" are summarised.

    Returns
    -------
    Rows of quantity "algorithm" and "algorithm-update"; below `MIN_NETWORKS` networks the share is not estimable and the reason gives
    the least value; below `MIN_POINTS` there are none.
    """
    networks = table[table.quantity.isin(["network", "network-update"])]
    kinds = networks.agent.str.split("-").str[0]
    groups = networks.groupby([kinds.rename("kind"), "quantity", "factor", "horizon"], sort=False)
    summaries = [_summary(str(keys[0]), rows) for keys, rows in groups if len(rows) >= MIN_POINTS]
    return pd.DataFrame(summaries, columns=table.columns).astype(table.dtypes)


def _summary(kind: str, rows: pd.DataFrame) -> pd.Series:
    """Summarise the networks of one kind in one cell."""
    summary, n = rows.iloc[0].copy(), len(rows)
    gain, share = t_interval(rows.gain), t_interval(rows.estimate) if rows.estimable.all() else None
    summary["quantity"] = summary.quantity.replace("network", "algorithm")
    summary["agent"] = f"{n} {kind} networks"
    summary[["gain", "gain_lower", "gain_upper", "p_value"]] = gain.estimate, gain.lower, gain.upper, gain.p_value
    levels = ["r2_floor", "r2_agent", "r2_ceiling"]
    summary[levels] = rows[levels].mean()
    if share is not None and n >= MIN_NETWORKS:
        summary[["estimate", "lower", "upper"]] = share.estimate, share.lower, share.upper
    elif share is not None:
        reason = f"{n} networks make no interval: mean {share.estimate:.3f}, least {rows.estimate.min():.3f}"
        summary[["estimate", "lower", "upper", "estimable", "reason"]] = [float("nan")] * 3 + [False, reason]
    return summary
