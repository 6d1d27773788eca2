"""The own update without the world, and as a simulation of the filter: planted beliefs do both, those who know nothing do neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldprobe.activations import CommonBehaviour, record
from worldprobe.agents import PLANTED, BeliefAgent
from worldprobe.analysis import Examination, ExamineConfig, Labels, Stream, closed_loop, simulation_similarity, transitions
from worldprobe.worlds import TMaze, Unavailable, make_world

WORLD, CHANNELS = TMaze(length=4), frozenset({"observation", "action"})


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    folder = tmp_path_factory.mktemp("stream")
    return Stream(WORLD, record(None, WORLD, folder / "c.wpr", CommonBehaviour(WORLD), 400, seed=0, n_envs=64), Labels(WORLD.factors))


def examined(name: str, stream: Stream) -> Examination:
    return Examination(PLANTED[name](WORLD, CHANNELS, 0), stream, "common", config=ExamineConfig(horizon=4, n_forks=1500))


def test_a_belief_agent_goes_on_by_what_it_reads_itself(stream: Stream) -> None:
    found = {(each.factor, each.horizon): each for each in closed_loop(examined("belief", stream))}
    assert found["state", 1].share.estimate > 0.9
    assert found["state", 4].share.estimate > 0.8
    blind = {(each.factor, each.horizon): each for each in closed_loop(examined("belief", stream), "withheld")}
    assert blind["state", 1].share.estimate < found["state", 1].share.estimate  # nothing seen is not the same as nothing shown


def test_without_memory_nothing_goes_on(stream: Stream) -> None:
    known, unknown = (closed_loop(examined(name, stream)) for name in ("belief", "memoryless"))
    best, poor = ({(each.factor, each.horizon): each.r2_agent for each in each_one} for each_one in (known, unknown))
    assert poor["state", 4] < best["state", 4] - 0.05


def test_the_ceiling_of_the_closed_loop_is_below_that_of_the_open_one(stream: Stream) -> None:
    """Whoever sees nothing cannot expect better than the filter that sees the same forks."""
    examination = examined("belief", stream)
    (row,) = (each for each in closed_loop(examination) if each.factor == "goal" and each.horizon == 4)
    open_loop = next(each for each in examination.updates() if each.factor == "goal" and each.horizon == 4)
    assert row.r2_ceiling <= open_loop.r2_ceiling + 1e-9


def test_a_belief_agent_simulates_the_filter_and_a_reservoir_does_so_less(stream: Stream) -> None:
    known, poor = (simulation_similarity(examined(name, stream), max_epochs=10) for name in ("coded belief", "reservoir"))
    exact = simulation_similarity(examined("belief", stream), max_epochs=10)
    assert exact[-1].share.estimate > 0.95
    assert exact[-1].map_error < 0.03
    assert known[-1].share.estimate > poor[-1].share.estimate  # in code, but there
    assert poor[-1].share.estimate < 0.9


def test_worlds_of_infinitely_many_states_are_refused(tmp_path: Path) -> None:
    world = make_world("pendulum")
    agent = PLANTED["memoryless"](world, CHANNELS, 0)
    recording = record(agent, world, tmp_path / "a.wpr", CommonBehaviour(world, CHANNELS), 10, seed=0)
    with pytest.raises(Unavailable, match="finitely many states"):
        simulation_similarity(Examination(agent, Stream(world, recording, Labels(world.factors)), "common"))


def test_taken_futures_of_a_belief_agent_are_its_present_times_the_law(stream: Stream) -> None:
    agent = BeliefAgent(WORLD, CHANNELS)
    rows = {(each.cell.floor, each.factor): each for each in transitions(Examination(agent, stream, "common"))}
    direct, composed = (rows[f"{form}, beside input", "state"] for form in ("per-action", "composed"))
    assert min(direct.share.estimate, composed.share.estimate) > 0.9
    assert abs(direct.share.estimate - composed.share.estimate) < 0.1
    assert rows["additive, beside input", "state"].r2_agent < direct.r2_agent
    assert np.isfinite(rows["low-rank, beside policy leakage", "state"].gain)
