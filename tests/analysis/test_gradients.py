"""Responses of the forked update against Jacobians: planted right ones, none at all, and right ones of wrong predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from worldprobe.activations import CommonBehaviour, fork_stream, record
from worldprobe.agents import PLANTED, PlantedAgent
from worldprobe.analysis import Examination, Gradients, Labels, Stream, measure_gradients
from worldprobe.worlds import Pendulum, TMaze, Unavailable

CHANNELS = frozenset({"observation", "action"})
WORLD = Pendulum(process_noise=0.0, observation_noise=0.0)


class Differentiator(PlantedAgent):
    """Without noise the velocity is the last difference of angles: it holds the state, that of the step before, or one with an offset.

    State [begun | cos, sin | velocity | those of the step before | offset of the episode].
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind, WORLD, CHANNELS, 4, 8)

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        seen, begun = inputs[:, :2], state[:, :1]
        angle, before = torch.atan2(seen[:, 1], seen[:, 0]), torch.atan2(state[:, 2], state[:, 1])
        turned = torch.remainder(angle - before + math.pi, 2 * math.pi) - math.pi
        velocity = torch.where(begun[:, 0] > 0, turned / WORLD.physics.time_step, torch.zeros_like(turned))
        offset = torch.where(begun[:, 0] > 0, state[:, 7], 1e4 * seen[:, 0] % 3)
        return torch.cat([torch.ones_like(begun), seen, velocity[:, None], state[:, 1:4], offset[:, None]], 1)

    def hidden(self, state: Tensor) -> Tensor:
        now, late = torch.cat([state[:, 1:4], state[:, :1]], 1), torch.cat([state[:, 4:7], state[:, :1]], 1)
        return {"exact": now, "late": late, "offset": now + state[:, 7:8] * torch.tensor([0.0, 0.0, 4.0, 0.0])}[self.kind]

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        return torch.zeros(len(state), WORLD.n_actions)


def examined(kind: str, folder: Path) -> dict[tuple[str, str, int], Gradients]:
    agent = Differentiator(kind)
    recording = record(None, WORLD, folder / "common.wpr", CommonBehaviour(WORLD, CHANNELS), 60, seed=0, n_envs=30)
    found = measure_gradients(Examination(agent, Stream(WORLD, recording, Labels(WORLD.factors)), "common"), horizon=3, n_forks=600)
    return {(each.who, each.to, each.horizon): each for each in found}


def test_the_exact_state_has_the_exact_gradient(tmp_path: Path) -> None:
    found = examined("exact", tmp_path)
    for to in ("action", "state"):
        for k in (1, 2, 3):
            score = found["exact", to, k]
            assert score.cosine.estimate > 0.98, (to, k)  # not one: velocities are cut at a bound
            assert score.relative_error.estimate < 0.04, (to, k)
            assert score.prediction_error.estimate < 0.01
    assert found["present input", "action", 1].relative_error.estimate > 0.5  # an angle tells little of what a torque did to the velocity


def test_what_lags_a_step_predicts_well_and_does_not_respond(tmp_path: Path) -> None:
    found = examined("late", tmp_path)
    assert found["late", "action", 1].prediction_error.estimate < 0.05
    assert found["late", "action", 1].relative_error.estimate == pytest.approx(1.0, abs=1e-6)
    assert found["late", "action", 2].relative_error.estimate < 0.5  # it comes one step later


def test_a_wrong_prediction_may_have_the_right_gradient(tmp_path: Path) -> None:
    found = examined("offset", tmp_path)
    assert found["offset", "action", 1].prediction_error.estimate > 0.08
    assert found["offset", "action", 1].cosine.estimate > 0.93


def test_worlds_without_jacobians_are_refused(tmp_path: Path) -> None:
    world = TMaze(length=3)
    recording = record(None, world, tmp_path / "a.wpr", CommonBehaviour(world), 20, seed=0)
    examination = Examination(PLANTED["belief"](world, CHANNELS, 0), Stream(world, recording, Labels(world.factors)), "common")
    with pytest.raises(Unavailable, match="no Jacobian of continuous factors"):
        measure_gradients(examination)


def test_forks_do_what_they_are_told_under_equal_noise(tmp_path: Path) -> None:
    world = Pendulum()
    recording = record(None, world, tmp_path / "a.wpr", CommonBehaviour(world, CHANNELS), 4, seed=0)
    rows, actions = np.array([0, 5, 9]), np.array([[0, 1], [2, 0], [1, 1]])
    one, other = (fork_stream(world, recording, rows, 2, torch.Generator().manual_seed(0), actions=a) for a in (actions, actions[:, ::-1]))
    np.testing.assert_array_equal(one.action, actions)
    same = np.flatnonzero(actions[:, 0] == actions[:, 1])
    np.testing.assert_array_equal(one.states["vector"][same], other.states["vector"][same])
    with pytest.raises(ValueError, match=r"actions must be numbers below \d of shape \(3, 2\)"):
        fork_stream(world, recording, rows, 2, torch.Generator().manual_seed(0), actions=actions + 9)
