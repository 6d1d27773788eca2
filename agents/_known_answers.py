"""Every planted agent by name: what is known to be there, and what is known to be absent."""

from __future__ import annotations

from collections.abc import Callable

from worldprobe.agents._agent import Agent
from worldprobe.agents._planted_beliefs import BeliefAgent, CodedBeliefAgent
from worldprobe.agents._planted_nulls import ClockAgent, DriftingNoiseAgent, MemorylessAgent, reservoir_agent
from worldprobe.worlds import World

PLANTED: dict[str, Callable[[World, frozenset[str], int], Agent]] = {
    "belief": lambda world, channels, _: BeliefAgent(world, channels),
    "coded belief": CodedBeliefAgent,
    "memoryless": MemorylessAgent,
    "clock": ClockAgent,
    "drifting noise": DriftingNoiseAgent,
    "reservoir": reservoir_agent,
}
"""`(world, channels, seed) -> Agent`; the first two need a world with an exact belief and a belief policy."""
