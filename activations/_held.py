"""Sites that are taken while the agent acts: parts of its core state, and Q."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._streams import Actor, Behaviour, EpsilonGreedy, GreedyActor
from worldprobe.agents import Agent, RecurrentQNetwork, seeded_generator

HELD_STATE = "held/core.state"
"""Key, while episodes are played, of the core state that sites are cut from: one copy a step is cheaper than one for each."""
N_STEPS, N_COPIES = 4, 8
"""Size of the random sequence on which a site is found in the core state."""


@dataclass(frozen=True, eq=False)
class HeldSites:
    """Where sites lie in the core state."""

    columns: Mapping[str, slice | Array]
    has_q: bool

    def __call__(self, actor: Actor) -> dict[str, Tensor]:
        """Return what sites are made from after the step that a greedy actor has just taken: its whole core state, and Q."""
        assert isinstance(actor, GreedyActor)
        taken = {HELD_STATE: actor.core_state.cpu()} if self.columns else {}
        return taken | {"site/q": actor.q_values} if self.has_q else taken

    def split(self, episodes: Episodes) -> Episodes:
        """Return the episodes with the sites in the place of the core state."""
        kept = dict(episodes.arrays)
        if self.columns:
            state = kept.pop(HELD_STATE)
            kept |= {f"site/{site}": np.ascontiguousarray(state[:, columns]) for site, columns in self.columns.items()}
        return Episodes(episodes.number, episodes.length, kept)


def find_held(agent: Agent | None, behaviour: Behaviour, sites: Sequence[str]) -> HeldSites | None:
    """Return where sites lie in the core state, if all of them are there while the agent itself acts.

    A site is found bit for bit in the core state of a random sequence; gates and encoders are not, nor is anything of an
    agent that merely looks on: those are computed in a batched pass (None).
    """
    if not isinstance(agent, RecurrentQNetwork) or not isinstance(behaviour, EpsilonGreedy) or behaviour.agent is not agent:
        return None
    generator = seeded_generator(0, "held sites")
    inputs = torch.randn(N_STEPS, N_COPIES, agent.input_size, generator=generator)
    values = agent.activations(inputs, torch.randn(N_COPIES, agent.state_size, generator=generator))
    state = values["core.state"].flatten(0, 1)
    found = {site: _columns(values[site].flatten(0, 1), state) for site in sites if site != "q"}
    columns = {site: places for site, places in found.items() if places is not None}
    return HeldSites(columns, "q" in sites) if columns.keys() == found.keys() else None


def _columns(site: Tensor, state: Tensor) -> slice | Array | None:
    """Return which columns of the state make up a site, None unless there is exactly one for each."""
    places: dict[bytes, list[int]] = {}
    for column, values in enumerate(state.T.contiguous().numpy()):
        places.setdefault(values.tobytes(), []).append(column)
    found = [places.get(values.tobytes(), []) for values in site.T.contiguous().numpy()]
    if any(len(columns) != 1 for columns in found):
        return None
    columns = np.array(found)[:, 0]
    first, last = int(columns[0]), int(columns[-1]) + 1
    return slice(first, last) if np.array_equal(columns, np.arange(first, last)) else columns
