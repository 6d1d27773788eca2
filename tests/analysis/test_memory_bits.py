"""Bits needed, had and surplus: of an agent that knows the belief, of one that knows nothing, and of one that knows the goal alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldprobe.activations import EpsilonGreedy, record
from worldprobe.agents import PLANTED
from worldprobe.analysis import BitsConfig, Examination, Labels, MemoryConfig, Stream, as_table, memory_bits
from worldprobe.worlds import TMaze, make_world

WORLD, CHANNELS = TMaze(length=4), frozenset({"observation", "action"})


def counted(agent: str, folder: Path) -> dict[str, float]:
    """Estimates by quantity and floor, on the stream of an agent that knows."""
    stream = record(
        PLANTED["belief"](WORLD, CHANNELS, 0),
        WORLD,
        folder / "own.wpr",
        EpsilonGreedy(PLANTED["belief"](WORLD, CHANNELS, 0), 0.2),
        400,
        seed=0,
        n_envs=64,
    )
    examination = Examination(PLANTED[agent](WORLD, CHANNELS, 0), Stream(WORLD, stream, Labels(WORLD.factors)), "own")
    table = as_table(memory_bits(examination, BitsConfig(families=("logistic",)), MemoryConfig()))
    return dict(zip(table.quantity + " " + table.floor, table.estimate.astype(float), strict=True))


def test_a_belief_agent_has_what_is_needed_and_more(tmp_path: Path) -> None:
    found = counted("belief", tmp_path)
    needed = found["bits-needed H(good actions | o)"]
    assert found["bits-needed controller for 97 % of J*"] == 1.0
    assert 0.05 < needed < 0.6  # one bit at the crossroad, none elsewhere
    assert found["bits-had logistic"] == pytest.approx(needed, abs=0.03)
    assert found["bits-surplus logistic"] > 0.8  # where it is, and the goal along the way


def test_an_agent_without_memory_has_none(tmp_path: Path) -> None:
    found = counted("memoryless", tmp_path)
    assert found["bits-had logistic"] < 0.02
    assert found["bits-surplus logistic"] < 0.05


def test_where_there_are_no_tables_it_says_so(tmp_path: Path) -> None:
    world = make_world("pendulum")
    agent = PLANTED["memoryless"](world, CHANNELS, 0)
    recording = record(agent, world, tmp_path / "own.wpr", EpsilonGreedy(agent, 1.0), 20, seed=0, n_envs=10)
    examination = Examination(agent, Stream(world, recording, Labels(world.factors)), "own")
    (row,) = memory_bits(examination, BitsConfig(), MemoryConfig())
    assert not row.share.estimable
    assert "tables" in row.share.reason
