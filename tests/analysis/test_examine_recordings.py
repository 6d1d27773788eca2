"""Recordings alone: what they support is measured, twins are replayed on the same stream, and the rest says why it is not tested."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from worldprobe.activations import Recording, TorchPolicy, record_in_world, record_policy, replay_policy
from worldprobe.analysis import ConfigError, ExamineConfig, FloorConfig, examine_recordings, read_table
from worldprobe.worlds import Headline, TMaze

CONFIG = ExamineConfig(floors=FloorConfig(mlp_epochs=1, max_width=30))
CELL = Headline("velocity", 1, site="core.h", streams="common")


def gru_policy(seed: int) -> TorchPolicy:
    """A random GRU over positions: a reservoir in which velocities can be found."""
    torch.manual_seed(seed)
    network = torch.nn.ModuleDict({"core": torch.nn.GRU(2, 24), "head": torch.nn.Linear(24, 2)})

    def act(x: Tensor, state: Tensor | None, reset: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.zeros(1, len(x), 24) if state is None else state * ~reset[None, :, None]
        _, after = network["core"](x.unsqueeze(0), before)
        return network["head"](after[0]).argmax(1), after

    return TorchPolicy(network, act, name="reservoir")


def make_env() -> gymnasium.Env:
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recording]]:
    envs, folder = gymnasium.vector.SyncVectorEnv([make_env] * 8), tmp_path_factory.mktemp("cartpole")
    yield {
        name: record_policy(
            gru_policy(0),
            envs,
            folder / f"{name}.wpr",
            sites=["core.h"],
            n_episodes=96,
            seed=0,
            epsilon=epsilon,
            factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
        )
        for name, epsilon in (("own", 0.0), ("common", 1.0))
    }
    envs.close()


def test_a_policy_is_replayed_as_it_was(recordings: dict[str, Recording]) -> None:
    for recording in recordings.values():
        for n_at_once in (7, 64):
            again = replay_policy(gru_policy(0), recording, ["core.h"], n_at_once=n_at_once)["core.h"]
            np.testing.assert_allclose(again, recording["core.h"][:], atol=1e-5)
        assert np.abs(replay_policy(gru_policy(1), recording, ["core.h"])["core.h"] - recording["core.h"][:]).max() > 0.1


def test_a_gymnasium_agent_gets_the_same_report_with_reasons_for_what_is_missing(recordings: dict[str, Recording], tmp_path: Path) -> None:
    untrained = [{name: replay_policy(gru_policy(n), each, ["core.h"]) for name, each in recordings.items()} for n in (1, 2)]
    page = examine_recordings(tmp_path / "report", recordings, CELL, untrained=untrained, config=CONFIG)
    rungs = {rung["number"]: rung for rung in json.loads((tmp_path / "report" / "ladder.json").read_text())["velocity"]}
    assert rungs["1"]["verdict"] == "pass"  # a reservoir remembers what moved
    assert {number: rungs[number]["verdict"] for number in ("2a", "2b", "4", "6", "7", "8")} == dict.fromkeys(
        ("2a", "2b", "4", "6", "7", "8"), "not tested"
    )
    assert "no exact filter" in rungs["4"]["evidence"]
    assert "continuous" in rungs["7"]["evidence"]
    table = read_table(tmp_path / "report" / "results.csv")
    assert {"own init", "fresh 00"} <= set(table[table.quantity == "training"].floor)
    assert "only recordings" in page.read_text()
    assert "trained on reward alone in CartPole-v1" in page.read_text()


def test_in_one_of_our_worlds_there_is_a_ceiling(tmp_path: Path) -> None:
    world = TMaze(length=3)
    network = torch.nn.ModuleDict({"core": torch.nn.GRU(4, 16), "head": torch.nn.Linear(16, 4)})

    def act(x: Tensor, state: Tensor | None, reset: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.zeros(1, len(x), 16) if state is None else state * ~reset[None, :, None]
        _, after = network["core"](x.unsqueeze(0), before)
        return network["head"](after[0]).argmax(1), after

    own = record_in_world(TorchPolicy(network, act), world, tmp_path / "a.wpr", sites=["core.h"], n_episodes=150, seed=0, epsilon=0.8)
    examine_recordings(tmp_path / "report", {"own": own}, Headline("goal", 1, streams="own"), world=world, config=CONFIG)
    table = read_table(tmp_path / "report" / "results.csv")
    goal = table[(table.quantity == "emergence") & (table.factor == "goal") & (table.floor == "F0 linear")]
    assert goal.estimable.all()
    assert goal.estimate.iloc[0] > 0.5
    assert not (table.quantity == "own-update").any()


def test_streams_sites_and_factors_that_are_not_there_are_named(recordings: dict[str, Recording], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be named 'own' and 'common', and hold 'common'; got \\['mine'\\]"):
        examine_recordings(tmp_path, {"mine": recordings["own"]}, CELL)
    with pytest.raises(ConfigError, match=r"site 'lstm.h' was not recorded on the own stream; what was: core.h"):
        examine_recordings(tmp_path, recordings, Headline("velocity", 1, site="lstm.h", streams="common"))
    with pytest.raises(ValueError, match="no factor 'goal' to decide the ladder in; it has velocity"):
        examine_recordings(tmp_path, recordings, Headline("goal", 1, site="core.h", streams="common"))
