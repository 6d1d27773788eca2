"""The sentence that a report opens with claims no more than was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worldprobe.analysis import Cell, Findings, LossSums, Rung, answer, as_table, measure
from worldprobe.worlds import Factor

FACTOR = Factor("state", "categorical", 5, "policy")


def findings(share: float, verdict: Any, room: float = 1.0) -> Findings:
    """A run whose own update fills `share` of the room, its untrained twin a tenth, and whose rung 4 ends in `verdict`."""
    noise = np.random.default_rng(0).gamma(50.0, 0.02, 400)
    floor, twin, agent = (noise + room * noise * (1 - filled) for filled in (0.0, 0.1, share))
    rows = [
        measure(LossSums(losses, agent, noise, 800.0, 4000), Cell("own-update", "trained", "common", "core.h", name), FACTOR, 5)
        for name, losses in (("F0 best", floor), ("own init", twin))
    ]
    ladder = [Rung("1", "beyond the input", "pass", "."), Rung("4", "an update, not a lookup", verdict, ".")]
    headline = {"factor": "state", "horizon": 5, "site": "core.h", "streams": "common"}
    return Findings(as_table(rows), {"state": ladder}, {"headline": headline, "agent": "GRU of 8 units", "world": "tmaze"}, {})


@pytest.mark.parametrize(
    ("share", "words"), [(0.9, "a model was found"), (0.5, "part of a model was found"), (0.06, "a trace of a model was found")]
)
def test_the_amount_is_in_the_words(share: float, words: str) -> None:
    told = answer(findings(share, "pass"))
    assert f", {words}: after 5 actions" in told
    assert f"holds {100 * share:.0f} % [" in told
    assert "its untrained twin 10 %" in told
    assert told.endswith("Rungs that hold: 1, 4.")


def test_a_failed_rung_is_no_model_however_large_the_share() -> None:
    assert "no model was found: after 5 actions" in answer(findings(0.9, "fail"))


def test_without_room_between_floor_and_filter_nothing_is_claimed() -> None:
    told = answer(findings(0.9, "not tested", room=0.005))
    assert "could not be tested" in told
    assert "cannot tell a model from this floor" in told
