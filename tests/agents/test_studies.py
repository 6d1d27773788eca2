"""Studies of learners on a small scale: they run from end to end, and leave their tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from worldprobe.agents import Actor, NetworkConfig, TabularConfig, make_network, seeded_generator
from worldprobe.worlds import Sokoban, SokobanConfig

Load = Callable[[str], ModuleType]
Read = Callable[[str], pd.DataFrame]


def test_r4_reads_the_belief_from_networks_and_windows(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("r4_trace_conditioning")
    study.main(study.Study(tmp_path, hidden_sizes=(2, 8), n_seeds=2, n_updates=4, n_trials=80, n_processes=1))
    table = written("r4").set_index(["arm", "units", "seed"]).R2.sort_index()
    assert (table["untrained", 8] > table["untrained", 2]).all()
    assert table["last 20", 0, 0] > table["last 5", 0, 0] > table["last 1", 0, 0] > 0


def test_r4_finds_a_belief_that_is_there(load_study: Load, tmp_path: Path) -> None:
    study = load_study("r4_trace_conditioning")
    streams = [study.make_stream(study.Study(tmp_path, n_trials=80), seed) for seed in (0, 1)]
    beliefs = [stream["belief/state"][:] for stream in streams]
    assert study.score(*beliefs, streams) > 0.95  # but for the noise that is added to units
    shuffled = [np.random.default_rng(0).permutation(belief) for belief in beliefs]
    assert study.score(*shuffled, streams) < 0.05


def test_sfql_tells_the_learners_apart_from_the_floor(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("sfql_four_rooms")
    brief = study.Study(tmp_path, n_runs=2, n_tasks=2, learner=TabularConfig(steps_per_task=100), n_processes=1)
    study.main(brief)
    table = written("sfql")
    assert set(table.learner) == {*study.TABULAR, study.FLOOR, study.CEILING}
    best = table[table.learner == study.CEILING].set_index("run").reward
    floor = table[(table.learner == study.FLOOR) & (table.task == 1)].set_index("run").reward
    assert (best > floor).all()


def test_lambrechts_claims_are_told_on_both_streams(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("lambrechts_claims")
    brief = study.Study(tmp_path, cores=("gru",), n_seeds=1, total_steps=512, n_checkpoints=2, n_pairs=100, n_epochs=2, n_processes=1)
    study.main(brief)
    table = written("lambrechts")
    assert len(table) == 2 * 2 * 2  # streams, beliefs, checkpoints
    assert np.isfinite(table.nats).all()


def test_the_sokoban_study_counts_what_is_solved(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("drc_sokoban")
    study.main(study.Study(tmp_path, total_steps=2048, n_levels=32, n_episodes=16, n_checkpoints=2, n_processes=1))
    assert set(written("drc_sokoban").network) == {"DRC(2, 2)", "GRU"}
    assert list(pd.read_csv(tmp_path / "ticks.csv").ticks) == list(study.TICKS)


@pytest.mark.parametrize("seed", range(4))
def test_the_share_of_solved_levels_is_that_of_episodes_that_terminate(load_study: Load, seed: int) -> None:
    study, n = load_study("drc_sokoban"), 64
    world = Sokoban(SokobanConfig(size=6, split="test", n_levels=n))
    network, generator = make_network(world, NetworkConfig(hidden_size=8), seed), seeded_generator(0, "unseen levels")
    actor, running, wins = Actor(network, world.driver(n, generator), generator), torch.ones(n, dtype=torch.bool), 0
    while running.any():
        step = actor.act(0.0).step
        wins += int((step.terminated & running).sum())
        running[step.done] = False
    assert study.solved(network, n)["solved"] == pytest.approx(wins / n, abs=1e-6)
