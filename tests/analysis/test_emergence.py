"""Even weights, and what a stream visits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldprobe.activations import CommonBehaviour, record
from worldprobe.agents import PLANTED
from worldprobe.analysis import Decoder, Hidden, History, Joined, Labels, Stream, as_table, emergence, reweighted_emergence
from worldprobe.analysis._emergence import MIN_EPISODES, VisitCounts, visits
from worldprobe.analysis._measurement import Cell
from worldprobe.worlds import make_world

CELL = Cell("reweighted", "trained", "common", "core.h", "F0 linear")


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, Decoder]:
    """The input, and the input beside a reservoir, in the T-Maze."""
    world, channels = make_world("tmaze"), frozenset({"observation", "action"})
    folder: Path = tmp_path_factory.mktemp("streams")
    stream = Stream(world, record(None, world, folder / "common.wpr", CommonBehaviour(world), 150, seed=0), Labels(world.factors))
    floor, hidden = History(stream), Hidden(stream, PLANTED["reservoir"](world, channels, 0))
    return Decoder(floor), Decoder(Joined(floor, hidden))


def test_counts_of_visits() -> None:
    counts = VisitCounts.of(np.array([3, 3, 5, 5, 5, 3]), np.array([0, 0, 0, 1, 2, 1]))
    assert counts.classes.tolist() == [3, 5]
    assert counts.n_rows.tolist() == [3, 3]
    assert counts.n_episodes.tolist() == [2, 3]
    assert counts.effective == pytest.approx(2.0)
    assert counts.n_rare == 2


def test_even_weights_are_the_mean_over_classes_of_what_each_class_loses(decoders: tuple[Decoder, Decoder]) -> None:
    floor, agent = decoders
    stream = floor.stream
    position = stream.targets[stream.scored][:, stream.labels.columns["position"]].argmax(1)
    counts = VisitCounts.of(position, stream.groups[stream.scored])
    frequent = counts.classes[counts.n_episodes >= MIN_EPISODES]
    assert len(frequent) >= 2
    lost = {
        name: [decoder.losses["position"][position == c].mean() for c in frequent] for name, decoder in (("floor", floor), ("agent", agent))
    }
    table = as_table(reweighted_emergence(floor, agent, CELL)).set_index("factor")
    ratio = (1 - table.loc["position"].r2_agent) / (1 - table.loc["position"].r2_floor)
    assert ratio == pytest.approx(np.mean(lost["agent"]) / np.mean(lost["floor"]))


def test_even_weights_change_nothing_where_visits_are_even(decoders: tuple[Decoder, Decoder]) -> None:
    floor, agent = decoders
    goals = visits(floor.stream)["goal"]
    plain, evenly = (
        as_table(measured(floor, agent, CELL)).set_index("factor").loc["goal"] for measured in (emergence, reweighted_emergence)
    )
    assert goals.effective == pytest.approx(2.0, abs=0.02)
    assert evenly.r2_agent == pytest.approx(plain.r2_agent, abs=0.02)
