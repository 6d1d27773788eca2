"""Agents whose content is known: the planted model is found with its whole interval, and nothing is found where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from worldprobe.activations import Behaviour, CommonBehaviour, EpsilonGreedy, record
from worldprobe.agents import PLANTED, Agent, reservoir_agent
from worldprobe.analysis import (
    BitsConfig,
    ErasingConfig,
    Examination,
    ExamineConfig,
    FloorConfig,
    Hidden,
    Labels,
    Measurement,
    Rung,
    SteeringConfig,
    Stream,
    Twins,
    as_table,
    climb,
    coherence,
    emergence,
    necessity,
    steering,
    usable_bits,
)
from worldprobe.analysis._emergence import bayes_losses
from worldprobe.probes import MLPProbe, RidgeProbe, ratio_interval
from worldprobe.worlds import TMaze, World

WORLD = TMaze()
CHANNELS = frozenset({"observation", "action"})
CONFIG = ExamineConfig(n_folds=3, horizon=5, n_forks=1200, n_counterfeit_forks=400, floors=FloorConfig(mlp_epochs=3))


def examine(agent: Agent, folder: Path, world: World = WORLD, n_episodes: int = 300, config: ExamineConfig = CONFIG) -> list[Examination]:
    """Record an agent on both streams and examine it beside reservoirs."""
    reservoirs = tuple(reservoir_agent(world, CHANNELS, 100 + index) for index in range(20))
    examinations = []
    behaviours: dict[str, Behaviour] = {"common": CommonBehaviour(world), "own": EpsilonGreedy(agent, 0.1)}
    for name, behaviour in behaviours.items():
        recording = record(agent, world, folder / f"{name}.wpr", behaviour, n_episodes, seed=0, n_envs=64)
        stream = Stream(world, recording, Labels(world.factors), config.n_folds)
        examinations.append(Examination(agent, stream, name, Twins(reservoirs[0], reservoirs[1:]), config))
    return examinations


def only(table: pd.DataFrame, **where: object) -> Any:
    """The one row at which the columns have these values."""
    chosen = table[np.logical_and.reduce([table[column] == value for column, value in where.items()])]
    (row,) = chosen.itertuples()
    return row


def ladder(examinations: list[Examination]) -> dict[str, Rung]:
    """Every rung that one network can be tested on, in the headline cell."""
    world, measured = examinations[0].world, list[Measurement]()
    for examination in examinations:
        measured += [*examination.everything(), *coherence(examination), *steering(examination, SteeringConfig())]
    measured += necessity(examinations[0], world.factor(world.headline.factor), ErasingConfig(128, 512, n_controls=1))
    return {rung.number: rung for rung in climb(as_table(measured), world.headline)}


def test_belief_agent_passes_every_rung_that_is_tested(tmp_path: Path) -> None:
    world = TMaze(length=4)
    rungs = ladder(examine(PLANTED["belief"](world, CHANNELS, 0), tmp_path, world))
    tested = ("1", "1b", "2a", "4", "6", "7", "8")
    assert {number: rungs[number].verdict for number in tested} == dict.fromkeys(tested, "pass"), rungs


@pytest.mark.parametrize("name", ["memoryless", "clock", "drifting noise", "reservoir"])
def test_absent_models_pass_no_rung_from_2_up(name: str, tmp_path: Path) -> None:
    world = TMaze(length=4)
    rungs = ladder(examine(PLANTED[name](world, CHANNELS, 7), tmp_path, world))
    assert "pass" not in {rungs[number].verdict for number in ("2a", "2b", "3", "4", "6", "7", "8")}


@pytest.mark.parametrize("name", ["memoryless", "clock", "drifting noise"])
def test_agents_without_memory_are_not_beyond_the_input(name: str, tmp_path: Path) -> None:
    common = examine(PLANTED[name](WORLD, CHANNELS, 7), tmp_path)[0]
    measured = as_table(emergence(common.floors["F0 linear"], common.joined["F0 linear"], common.cell("emergence", "F0 linear")))
    assert (measured.gain < 0.005).all()


@pytest.fixture(scope="module")
def believer(tmp_path_factory: pytest.TempPathFactory) -> Examination:
    """The belief agent on 1,500 common episodes."""
    config = ExamineConfig(horizon=5, floors=FloorConfig(forms=("linear",)))
    return examine(PLANTED["belief"](WORLD, CHANNELS, 0), tmp_path_factory.mktemp("belief"), n_episodes=1500, config=config)[0]


def test_the_whole_90_percent_interval_of_a_planted_belief_is_near_one(believer: Examination) -> None:
    stream, floor, joined = believer.stream, believer.floors["F0 linear"], believer.joined["F0 linear"]
    assert len(stream.episodes) >= 1000
    ceiling = bayes_losses(stream)
    assert ceiling is not None
    for name in stream.labels.columns:
        floor_sums, joined_sums, bayes_sums = (stream.episode_sums(losses[name]) for losses in (floor.losses, joined.losses, ceiling))
        interval = ratio_interval(floor_sums - joined_sums, floor_sums - bayes_sums, level=0.9)
        assert 0.95 <= interval.lower <= interval.upper <= 1.02, (name, interval)


def test_ridge_on_the_exact_belief_is_the_bayes_optimum(believer: Examination) -> None:
    ceiling = bayes_losses(believer.stream)
    assert ceiling is not None
    for name, total in believer.stream.total().items():
        assert believer.decoder.losses[name].sum() / total == pytest.approx(ceiling[name].sum() / total, abs=0.005)


def test_own_update_of_the_belief_agent_is_the_filter(believer: Examination) -> None:
    table = as_table(believer.updates())
    frozen = table[(table.quantity == "own-update") & (table.floor == "F0 linear")]
    assert (np.abs(frozen.estimate - 1) < 0.03).all()
    assert (np.abs(frozen.r2_agent - frozen.r2_ceiling) < 0.01).all()


def test_under_a_counterfeit_law_the_belief_agent_is_wrong(believer: Examination) -> None:
    table = as_table(believer.counterfeits())
    there = table[(table.factor == "position") & (table.horizon == 5)]
    assert there.law.nunique() == believer.config.n_counterfeits
    assert there.estimate.quantile(0.95) < 0.5


def test_sign_coded_belief_is_invisible_to_a_linear_probe_and_found_by_an_mlp(tmp_path: Path) -> None:
    stream = examine(PLANTED["coded belief"](WORLD, CHANNELS, 0), tmp_path, n_episodes=600)[0].stream
    agent = PLANTED["coded belief"](WORLD, CHANNELS, 0)
    hidden, goal = Hidden(stream, agent).rows(0), stream.targets[:, stream.labels.columns["goal"]]
    fit, test = stream.recording.split("train"), stream.recording.split("test")

    def score(probe: RidgeProbe | MLPProbe) -> float:
        predicted = probe.fit(hidden[fit], goal[fit], groups=stream.groups[fit]).predict(hidden[test])
        return float(1 - np.square(goal[test] - predicted).sum() / np.square(goal[test] - goal[fit].mean(0)).sum())

    assert score(RidgeProbe()) < 0.02
    assert score(MLPProbe((128,), max_epochs=30)) > 0.9


def test_tests_of_the_state_are_as_decodable_under_a_counterfeit_law(believer: Examination) -> None:
    table = as_table(believer.sufficiency())
    read = table[(table.agent == "belief") & (table.factor == "position")]
    assert read.law.nunique() == 1 + believer.config.n_counterfeits
    assert np.allclose(read.estimate, 1, atol=0.05)


def test_the_belief_is_worth_its_own_bits(believer: Examination) -> None:
    table = as_table(usable_bits(believer, BitsConfig()))
    for name in believer.stream.labels.columns:
        agent, in_family = (only(table, factor=name, agent=who) for who in ("belief", "belief, in family"))
        assert agent.bits_ceiling <= agent.bits_agent + 1e-9
        assert agent.bits_agent == pytest.approx(in_family.bits_agent, abs=0.1)
        assert agent.gain == pytest.approx(agent.bits_floor - agent.bits_agent)
        assert np.isnan(agent.r2_agent)
        assert agent.gain_lower > 0


def test_a_probe_of_a_future_is_the_probe_of_the_present_followed_by_the_law(tmp_path: Path) -> None:
    """Fit the future directly, at one penalty: the predictions are the pushed present ones, to rounding."""
    world = TMaze(length=4)
    stream = examine(PLANTED["reservoir"](world, CHANNELS, 1), tmp_path, world, n_episodes=80)[0].stream
    hidden = Hidden(stream, PLANTED["reservoir"](world, CHANNELS, 1)).rows(0)
    states = stream.targets[:, stream.labels.columns["state"]].astype(np.float64)
    law = world.tables.transition.numpy()
    future = law[0] @ law[1] @ law[0]
    present, direct = (RidgeProbe(alphas=(1.0,)).fit(hidden, labels, groups=stream.groups) for labels in (states, states @ future))
    assert np.abs(direct.predict(hidden) - present.predict(hidden) @ future).max() < 1e-9


def test_persistence_and_tests_are_what_enumeration_says(believer: Examination) -> None:
    """Sum over all action pairs, row by row, the squared error of every test's expected outcome."""
    stream, columns = believer.stream, believer.stream.labels.columns["state"]
    states = stream.targets[stream.scored][:, columns].astype(np.float64)
    decoded = believer.joined["F0 linear"].predictions[:, columns]
    law, classes = WORLD.tables.transition.numpy(), np.eye(13)[WORLD.class_maps["position"].numpy()]
    outcomes = [law[first] @ law[second] @ classes for first in range(4) for second in range(4)]
    expected = {
        "belief": sum(float(np.square((decoded - states) @ outcome).sum()) for outcome in outcomes),
        "persistence": sum(float(np.square(decoded @ classes - states @ outcome).sum()) for outcome in outcomes),
    }
    total = sum(float(np.square((states - states.mean(0)) @ outcome).sum()) for outcome in outcomes)
    table = as_table(believer.sufficiency())
    for predictor, loss in expected.items():
        read = only(table, law="true", factor="position", horizon=2, agent=predictor)
        assert read.r2_agent == pytest.approx(1 - loss / total)


def test_losses_of_one_factor_do_not_depend_on_the_others(believer: Examination) -> None:
    stream = believer.stream
    alone = Stream(stream.world, stream.recording, Labels((stream.world.factor("position"),)), stream.n_folds)
    assert np.array_equal(alone.folds, stream.folds)
    assert alone.total()["position"] == pytest.approx(stream.total()["position"])


def test_sums_are_over_whole_episodes(believer: Examination) -> None:
    stream = believer.stream
    sums = stream.episode_sums(np.ones(len(stream.scored)))
    lengths = stream.recording.episodes.loc[stream.episodes, "length"].to_numpy()
    assert np.array_equal(sums, lengths)
