"""Erasing a factor from a running agent: what is needed costs what it is worth, what is not costs nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldprobe.agents import BeliefAgent, EditedAgent, NetworkConfig, make_network
from worldprobe.analysis import DoseResponse, ErasingConfig, erase_factor, erasing, measure_necessity
from worldprobe.analysis._acting import act_out
from worldprobe.probes import Eraser
from worldprobe.worlds import MemoryChain, TMaze, make_world

CHANNELS = frozenset({"observation", "action"})
SMALL = ErasingConfig(n_episodes=96, n_return_episodes=512, n_controls=1)


def test_what_is_needed_costs_its_worth_and_the_rest_nothing() -> None:
    world = MemoryChain(length=5)
    necessity = measure_necessity(BeliefAgent(world, CHANNELS), world, "cue", SMALL, others=("step",))
    whole, erased = necessity.erased.returns[0], necessity.erased.returns[-1]
    assert whole.mean_return == 1.0
    assert abs(erased.mean_return) < 0.15  # a guess between two cues earns nothing
    assert necessity.others[0].drop()[0] == 0.0
    assert necessity.excess(over="others")[1] > 0.8
    assert necessity.is_monotone
    last = necessity.erasure.rounds[-1]
    assert max(last.linear_bits, last.mlp_bits) < 0.01
    assert necessity.erasure.is_complete
    for control in necessity.controls:
        assert control.returns[0].mean_return == 1.0


def test_a_code_by_hidden_position_is_erased_too() -> None:
    """In the corridor all positions look alike, so a linear erasure of the goal given the observation leaves goal x position."""
    world = TMaze(length=4)
    erasure = erase_factor(BeliefAgent(world, CHANNELS), world, "goal", SMALL)
    assert erasure.rounds[-1].linear_bits < 0.01
    assert erasure.rounds[-1].mlp_bits < 0.03
    assert erasure.eraser.rank > 2  # of the four kinds of observation two are ambiguous


def test_controls_displace_as_much_as_the_erasure() -> None:
    world = MemoryChain(length=5)
    erasure = erase_factor(BeliefAgent(world, CHANNELS), world, "cue", SMALL)
    untouched = EditedAgent(BeliefAgent(world, CHANNELS), lambda content, _: content)
    rows = act_out(untouched, world, 96, torch.Generator().manual_seed(0), SMALL.epsilon).before.double().numpy()
    control = erasure.fitter.random(erasure.eraser, random_state=3)
    assert control.rank == erasure.eraser.rank
    assert control.displacement(rows) == pytest.approx(erasure.eraser.displacement(rows), rel=0.05)


def test_doses_are_shares_of_the_way() -> None:
    eraser = Eraser(np.ones(3), np.eye(3)[:, :1], np.eye(3)[:1])
    content = torch.tensor([[5.0, 2.0, 3.0]])
    for dose, expected in ((0.0, 5.0), (0.25, 4.0), (1.0, 1.0)):
        assert torch.equal(erasing(eraser, dose)(content, content), torch.tensor([[expected, 2.0, 3.0]]))


def test_a_larger_dose_that_costs_less_is_not_monotone() -> None:
    world = MemoryChain(length=3)
    necessity = measure_necessity(BeliefAgent(world, CHANNELS), world, "cue", ErasingConfig(64, 64, n_controls=0))
    whole, *_, erased = necessity.erased.returns
    bent = DoseResponse("cue", (0.0, 0.5, 1.0), (whole, erased, whole))
    object.__setattr__(necessity, "erased", bent)
    assert not necessity.is_monotone
    with pytest.raises(ValueError, match="there are no controls to compare with"):
        necessity.excess()


def test_episodes_are_whole_and_every_environment_plays_as_many() -> None:
    world = make_world("tmaze")
    agent = EditedAgent(make_network(world, NetworkConfig(hidden_size=8), seed=0), lambda content, _: content)
    acted = act_out(agent, world, 40, torch.Generator().manual_seed(0), epsilon=0.5, n_envs=16)
    assert sorted(set(acted.episode.tolist())) == list(range(48))
    assert torch.equal(acted.before, acted.after)
    first = torch.cat([acted.inputs[acted.episode == episode][:1] for episode in range(48)])
    assert torch.all(first[:, world.observation_size :] == 0)  # nothing was done before the first step


def test_what_cannot_be_erased_is_refused_in_words() -> None:
    world = make_world("tmaze-irrelevant")
    agent = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    walk = next(factor.name for factor in world.factors if factor.kind == "continuous")
    with pytest.raises(ValueError, match="only categorical factors are erased"):
        erase_factor(agent, world, walk, SMALL)
