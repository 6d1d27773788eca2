"""Other people's agents in our worlds: sites of their rows, the truth beside them, and the same plan as `record`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldprobe.activations import Recording, RecordingError, TorchPolicy, record_in_world
from worldprobe.worlds import TMaze

Same = Callable[[Recording, Recording], None]
MAZE = TMaze(length=3)


def make_policy() -> TorchPolicy:
    """An LSTM whose actions are drawn from its own head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        agent = nn.ModuleDict({"core": nn.LSTM(4, 6), "head": nn.Linear(6, 4)})

    def act(observation: Tensor, state: Any, reset: Tensor) -> tuple[Tensor, Any]:
        if state is not None:
            state = tuple(leaf * ~reset[:, None] for leaf in state)
        y, state = agent["core"](observation.unsqueeze(0), state)
        return torch.multinomial(agent["head"](y[0]).softmax(1), 1).squeeze(1), state

    return TorchPolicy(agent, act)


def record_few(path: Path, **options: Any) -> Recording:
    options = {"sites": ["core", "head"], "n_episodes": 21, "seed": 0, "n_envs": 4, "episodes_per_shard": 8, **options}
    return record_in_world(make_policy(), MAZE, path, **options)


def test_sites_are_those_of_every_episode_run_from_zero(tmp_path: Path) -> None:
    agent: Any = make_policy().module
    with record_few(tmp_path / "a.wpr") as recording, torch.no_grad():
        for start, length in recording.episodes[["start", "length"]].to_numpy():
            rows = slice(start, start + length)
            output, _ = agent["core"](torch.from_numpy(recording["observation"][rows]).unsqueeze(1))
            np.testing.assert_allclose(recording["core.h"][rows], output[:, 0], atol=1e-6)
            c, gate = (recording[name][rows] for name in ("core.c", "core.gates.output"))
            np.testing.assert_allclose(gate * np.tanh(c), output[:, 0], atol=1e-5)
        np.testing.assert_allclose(recording["head"][:], agent["head"](torch.from_numpy(recording["core.h"][:])), atol=1e-6)


def test_the_truth_stands_beside_them(tmp_path: Path) -> None:
    with record_few(tmp_path / "a.wpr") as recording:
        state, belief, tables = recording["state/state"][:], recording["belief/state"][:], MAZE.tables
        np.testing.assert_array_equal(recording["factor/state"][:], state)
        for start, length in recording.episodes[["start", "length"]].to_numpy():
            expected = tables.initial.numpy()
            for t in range(start, start + length):
                if t > start:
                    expected = (expected @ tables.transition[recording["action"][t - 1]].numpy()) * ~tables.terminal.numpy()
                expected = expected * tables.observation[:, recording["observation"][t].argmax()].numpy()
                expected = expected / expected.sum()
                np.testing.assert_allclose(belief[t], expected, atol=1e-6)
        assert [factor["size"] for factor in recording.identity.world["factors"]] == [2, 6, 12]
        assert recording.channels == {"observation", "action"}


def test_parts_of_several_writers_are_the_whole(assert_same: Same, tmp_path: Path) -> None:
    with record_few(tmp_path / "whole.wpr") as whole:
        record_few(tmp_path / "parts.wpr", part=(1, 2)).close()
        with record_few(tmp_path / "parts.wpr", part=(0, 2)) as parts:
            assert_same(whole, parts)


def test_fewer_episodes_than_copies_and_exploration(tmp_path: Path) -> None:
    with record_few(tmp_path / "a.wpr", n_episodes=3, n_envs=64, epsilon=1.0) as recording:
        assert recording.n_episodes == 3
    with pytest.raises(RecordingError, match="another recording"):
        record_few(tmp_path / "a.wpr", n_episodes=3, n_envs=64, epsilon=0.5)
    with pytest.raises(ValueError, match="epsilon is a probability"):
        record_few(tmp_path / "b.wpr", epsilon=2.0)
    with pytest.raises(ValueError, match="holds 'action'"):
        record_few(tmp_path / "b.wpr", channels=frozenset({"observation"}))
