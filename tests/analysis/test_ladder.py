"""The ladder is decided from the table alone, and a rung stands only on the one before it."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from worldprobe.analysis import Cell, LossSums, Rung, as_table, climb, measure
from worldprobe.analysis._measurement import compared, not_compared
from worldprobe.analysis._steering import CONTROLS
from worldprobe.probes import Estimate
from worldprobe.worlds import Factor, Headline

HEADLINE = Headline("position", 5)
FACTOR = Factor("position", "categorical", 5, "value")
FORMS = ("linear", "random", "mlp")
TWINS = ("own init", *(f"fresh {index:02d}" for index in range(19)), "noise 00")


def rows(quantity: str, floor: str, stream: str, gain: float, horizon: int = 0, law: str = "true", agent: str = "trained") -> pd.DataFrame:
    """One measurement whose agent stands `gain` of the room above its floor."""
    noise = np.random.default_rng(zlib.crc32(f"{floor} {stream}".encode())).gamma(50.0, 0.02, 500)
    sums = LossSums(2 * noise, (2 - gain) * noise, noise, 2000.0, 5000)
    return as_table([measure(sums, Cell(quantity, agent, stream, "core.h", floor, law), FACTOR, horizon)])


def evidence(**changes: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """A table in which rungs 1, 1b, 2a and 4 hold, with the rows of some quantities changed."""
    parts = {
        "emergence": [rows("emergence", f"{f} {form}", s, 0.6) for f in ("F0", "F1") for form in FORMS for s in ("own", "common")],
        "training": [rows("training", name, s, 0.4) for s in ("own", "common") for name in TWINS],
        "update": [
            rows("own-update", f, "common", 0.7, k) for f in ("F0 linear", "F0 random", "F0 mlp", "F0 best", "own init") for k in (1, 5)
        ],
        "counterfeit": [rows("own-update", "F0 best", "common", -0.3, k, f"counterfeit {i:02d}") for k in (1, 5) for i in range(20)],
    }
    tables = {name: pd.concat(part, ignore_index=True) for name, part in parts.items()}
    return pd.concat([changes[name](table) if name in changes else table for name, table in tables.items()], ignore_index=True)


def compared_rows(quantity: str, floor: str, stream: str, gain: float, horizon: int = 0, site: str = "core.h") -> pd.DataFrame:
    """A value that is no ratio of losses, and what it gains over a floor, with an interval of +-.1."""
    value, better = Estimate(0.9, 0.8, 1.0, 0.0, True), Estimate(gain, gain - 0.1, gain + 0.1, 0.001 if abs(gain) > 0.1 else 0.5, True)
    return as_table([compared(Cell(quantity, "trained", stream, site, floor), FACTOR, "return", value, better, 100, 500, horizon)])


def intervened(**changes: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """A table in which rungs 6, 7 and 8 hold as well."""
    both, doses = ("own", "common"), (0.0, 0.2, 0.5, 0.9)
    parts = {
        "coherence": [compared_rows("coherence", floor, s, 0.4, site="q") for s in both for floor in ("chance", "own init")],
        "refit": [rows("own-update-refit", "F0 linear", "common", 0.75, 5)],
        "steering": [compared_rows("steering", floor, s, 0.7) for s in both for floor in CONTROLS],
        "necessity": [compared_rows("necessity", floor, "own policy", 0.8, 100) for floor in ("random erasures", "other factors")],
        "dose": [compared_rows("dose", "erased", "own policy", cost, 25 * place) for place, cost in enumerate(doses)],
    }
    tables = {name: pd.concat(part, ignore_index=True) for name, part in parts.items()}
    kept = [changes[name](table) if name in changes else table for name, table in tables.items()]
    return pd.concat([evidence(**{name: change for name, change in changes.items() if name not in parts}), *kept], ignore_index=True)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return {rung.number: rung.verdict for rung in climb(table, HEADLINE)}


def test_everything_that_was_measured_holds() -> None:
    expected = {"1": "pass", "1b": "pass", "2a": "pass", "2b": "not tested", "3": "not tested", "4": "pass"}
    assert {number: verdict for number, verdict in verdicts(evidence()).items() if number in expected} == expected


def test_coherence_steering_and_erasing_decide_the_rungs_above() -> None:
    got = verdicts(intervened())
    assert (got["6"], got["7"], got["8"]) == ("pass", "pass", "pass")


@pytest.mark.parametrize("floor", ["chance", "own init"])
def test_coherence_must_hold_against_chance_and_initialisation(floor: str) -> None:
    got = verdicts(intervened(coherence=weaken(lambda t: (t.floor == floor) & (t.stream == "own"))))
    assert (got["6"], got["7"], got["8"]) == ("fail", "pass", "pass")


def test_a_decoder_that_must_be_fitted_again_is_not_coherent() -> None:
    got = verdicts(intervened(refit=lambda t: t.assign(estimate=0.95)))
    assert (got["4"], got["6"]) == ("pass", "fail")
    assert verdicts(intervened(refit=lambda t: t.assign(estimate=-0.5)))["6"] == "fail"


@pytest.mark.parametrize("control", CONTROLS)
def test_one_control_that_steers_as_well_fails_both_rungs_of_use(control: str) -> None:
    got = verdicts(intervened(steering=weaken(lambda t: (t.floor == control) & (t.stream == "common"))))
    assert (got["6"], got["7"], got["8"]) == ("pass", "fail", "fail")


def test_erasing_must_cost_more_than_every_control_and_rise_with_the_dose() -> None:
    assert verdicts(intervened(necessity=weaken(lambda t: t.floor == "other factors")))["8"] == "fail"
    bent = intervened(dose=lambda t: t.assign(gain=[0.0, 0.9, 0.2, 0.9]))
    assert verdicts(bent)["8"] == "fail"
    noisy = intervened(dose=lambda t: t.assign(gain=[0.0, 0.45, 0.4, 0.9]))  # less by a standard error
    assert verdicts(noisy)["8"] == "pass"


@pytest.mark.parametrize(("quantity", "rung"), [("coherence", "6"), ("steering", "7"), ("necessity", "8")])
def test_what_cannot_be_measured_is_not_tested_and_says_why(quantity: str, rung: str) -> None:
    missing = as_table([not_compared(Cell(quantity, "trained", "own", "core.h", "none"), FACTOR, "return", "it is a continuous factor")])
    found = {each.number: each for each in climb(intervened(**{quantity: lambda _: missing}), HEADLINE)}[rung]
    assert (found.verdict, found.evidence) == ("not tested", "it is a continuous factor")


def test_rungs_that_no_measurement_speaks_of_are_not_tested() -> None:
    assert [rung.verdict for rung in climb(evidence(), HEADLINE)][-3:] == ["not tested"] * 3


def weaken(mask: Callable[[pd.DataFrame], pd.Series]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        weak = table.copy()
        for column in ("gain", "gain_lower", "gain_upper", "estimate", "lower", "upper"):
            weak.loc[mask(table), column] = -0.01
        return weak

    return change


def test_one_strong_floor_on_one_stream_fails_the_first_rung_and_all_above() -> None:
    table = evidence(emergence=weaken(lambda t: (t.floor == "F0 mlp") & (t.stream == "own")))
    got = verdicts(table)
    assert (got["1"], got["1b"], got["2a"], got["4"]) == ("fail", "pass", "fail", "fail")


def test_beyond_memory_carries_nothing() -> None:
    got = verdicts(evidence(emergence=weaken(lambda t: t.floor == "F1 random")))
    assert (got["1"], got["1b"], got["4"]) == ("pass", "fail", "pass")


@pytest.mark.parametrize("twin", ["own init", "fresh 01", "noise 00"])
def test_a_single_better_twin_fails_training(twin: str) -> None:
    got = verdicts(evidence(training=weaken(lambda t: t.floor == twin)))
    assert (got["1"], got["2a"], got["4"]) == ("pass", "fail", "fail")


def test_an_update_that_fits_counterfeit_laws_as_well_is_no_model() -> None:
    high = evidence(counterfeit=lambda t: t.assign(estimate=0.9))
    assert verdicts(high)["4"] == "fail"


def test_what_any_law_leaves_alone_is_no_model_of_this_one() -> None:
    """A remembered cue: the share is one under the world's law, and as near to one under every other."""
    same = evidence(counterfeit=lambda t: t.assign(estimate=0.7))
    assert verdicts(same)["4"] == "fail"


def test_too_few_counterfeit_laws_leave_the_update_untested() -> None:
    few = evidence(counterfeit=lambda t: t[t.law.isin(["counterfeit 00", "counterfeit 01"])])
    assert verdicts(few)["4"] == "not tested"


def test_echo_state_reservoirs_are_printed_and_decide_nothing() -> None:
    strong = rows("training", "echo-0.90", "own", -0.2)
    rung = next(rung for rung in climb(pd.concat([evidence(), strong], ignore_index=True), HEADLINE) if rung.number == "2a")
    assert rung.verdict == "pass"
    assert "echo-0.90" in rung.evidence


def codelengths(gains: dict[str, float]) -> pd.DataFrame:
    """Online codelengths, `gains` bits per label below those they are compared with; there is no ceiling in bits."""
    return pd.concat([rows("codelength", name, "common", gain).assign(estimable=False, unit="bits") for name, gain in gains.items()])


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"F1 linear": 0.3, "control": 0.2}, "pass"),
        ({"F1 linear": 0.3, "control": -0.2}, "fail"),
        ({"F1 linear": -0.3, "control": 0.2}, "fail"),
        ({"F1 linear": 0.3}, "not tested"),
    ],
)
def test_the_representation_needs_shorter_codes_than_memory_and_than_control_labels(gains: dict[str, float], verdict: str) -> None:
    assert verdicts(pd.concat([evidence(), codelengths(gains)], ignore_index=True))["3"] == verdict


def test_an_explored_factor_must_hold_after_adjustment_for_the_number_of_cells() -> None:
    """Gains with p = .01 pass in the pre-registered factor and not in one of hundreds that were looked at."""
    marginal = evidence().assign(p_value=0.01)
    many = pd.concat(
        [marginal, *[marginal.assign(factor=f"other {i}", p_value=0.01 if i == 0 else 0.9) for i in range(20)]], ignore_index=True
    )
    assert verdicts(many)["1"] == "pass"
    assert {rung.number: rung.verdict for rung in climb(many, HEADLINE, "other 0")}["1"] == "fail"


def test_one_lucky_counterfeit_in_twenty_is_not_enough_to_fail() -> None:
    def lucky(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(estimate=np.where(table.law == "counterfeit 07", 0.71, table.estimate))

    assert verdicts(evidence(counterfeit=lucky))["4"] == "pass"


def test_a_lookup_that_fails_at_the_long_horizon_fails() -> None:
    assert verdicts(evidence(update=weaken(lambda t: t.horizon == 5)))["4"] == "fail"


def networks(own: list[float], yoked: list[float]) -> pd.DataFrame:
    named = [(f"trained-{i}", value) for i, value in enumerate(own)] + [(f"yoked-{i}", value) for i, value in enumerate(yoked)]
    return pd.concat([rows("network", "F0 linear", "common", 0.5, agent=name).assign(r2_agent=value) for name, value in named])


@pytest.mark.parametrize(
    ("own", "yoked", "verdict"),
    [
        ([0.80, 0.82, 0.81, 0.79, 0.83], [0.60, 0.61, 0.58, 0.62, 0.59], "pass"),
        ([0.80, 0.82, 0.81, 0.60, 0.83], [0.60, 0.61, 0.58, 0.62, 0.59], "fail"),
        ([0.80, 0.82, 0.81, 0.79], [0.60, 0.61, 0.58, 0.62, 0.59], "not tested"),
    ],
)
def test_due_to_reward_needs_five_separated_networks_on_each_side(own: list[float], yoked: list[float], verdict: str) -> None:
    assert verdicts(pd.concat([evidence(), networks(own, yoked)], ignore_index=True))["2b"] == verdict


def test_a_world_without_a_filter_leaves_the_update_untested() -> None:
    table = evidence()
    assert verdicts(table[table.quantity != "own-update"])["4"] == "not tested"


def test_every_rung_says_by_what() -> None:
    assert all(isinstance(rung, Rung) and rung.evidence for rung in climb(evidence(), HEADLINE))
