"""Settings for every world: complete, accepted by their world, and refused for worlds that there are not."""

from __future__ import annotations

import pytest

from worldprobe.agents import make_network, training_preset
from worldprobe.agents._presets import PRESETS
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


def test_an_unknown_world_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KeyError, match=r"unknown world 'tmace'.*tmaze, tmaze-irrelevant"):
        training_preset("tmace")
