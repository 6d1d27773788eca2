"""Worlds: what an agent lives in, and everything that is exactly true about it.

In go batches of states and actions; out come observations, rewards and ends, and beside them the truth: named factors,
the exact Bayes filter over what the agent receives, the tables, the optimum. What a world cannot give raises `Unavailable`.

>>> import torch
>>> from worldprobe.worlds import make_world
>>> world = make_world("tmaze")
>>> driver = world.driver(n_envs=8, generator=torch.Generator().manual_seed(0))
>>> driver.step(torch.zeros(8, dtype=torch.int64)).observation.shape
torch.Size([8, 4])
"""

from worldprobe.worlds._driver import Driver, DriverStep, VectorDriver
from worldprobe.worlds._filter import FiniteFilter
from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._registry import WORLDS, WorldEntry, make_world
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._tmaze import TMaze
from worldprobe.worlds._world import (
    CHANNELS,
    Belief,
    BeliefFilter,
    Capability,
    Factor,
    Headline,
    Relevance,
    State,
    Unavailable,
    World,
    categorical,
    check_channels,
)

__all__ = [
    # the contract
    "World", "State", "Belief", "BeliefFilter", "Factor", "Headline", "Relevance", "Capability", "Unavailable",
    "CHANNELS", "check_channels", "categorical",
    # stepping
    "Driver", "DriverStep", "VectorDriver",
    # finite worlds
    "FiniteTables", "FiniteWorld", "FiniteFilter", "TMaze",
    # the registry
    "WORLDS", "WorldEntry", "make_world",
]  # fmt: skip
