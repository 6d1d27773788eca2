"""Settings for every world: complete, accepted by their world, and refused for worlds that there are not."""

from __future__ import annotations

import pytest

from worldprobe.agents import ALGORITHMS, make_network, training_preset
from worldprobe.agents._presets import OTHERS, PRESETS
from worldprobe.worlds import WORLDS, make_world


def test_every_world_of_the_registry_has_settings_and_no_other_world_has() -> None:
    assert PRESETS.keys() == WORLDS.keys()


@pytest.mark.parametrize("name", WORLDS)
def test_what_the_network_receives_is_what_its_world_has(name: str) -> None:
    world = make_world(name)
    network, training = training_preset(name)
    assert make_network(world, network, seed=0).n_actions == world.n_actions
    assert training.reward_source == "own"
    assert training.n_threads == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_settings_in_every_world(algorithm: str) -> None:
    for name in WORLDS:
        assert training_preset(name, algorithm)[1].algorithm == algorithm


def test_settings_of_other_algorithms_are_of_worlds_and_algorithms_that_there_are() -> None:
    for (world, algorithm), (_, training) in OTHERS.items():
        assert world in WORLDS
        assert training.algorithm == algorithm != "pqn"


def test_an_unknown_algorithm_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KeyError, match=r"unknown algorithm 'sarsa'.*pqn, r2d2, drqn"):
        training_preset("tmaze", "sarsa")


def test_an_unknown_world_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KeyError, match=r"unknown world 'tmace'.*tmaze, tmaze-irrelevant"):
        training_preset("tmace")
