"""Is it used? An activation is moved along what a probe reads as another class, and the agent acts as if that were true, or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import replay
from worldprobe.agents import BeliefAgent, EditableAgent
from worldprobe.analysis._acting import play_on
from worldprobe.analysis._contexts import contexts
from worldprobe.analysis._counterfactual import Decisions, find_decisions
from worldprobe.analysis._directions import Directions
from worldprobe.analysis._stream import VALIDATION, Stream
from worldprobe.probes import Estimate, t_interval
from worldprobe.worlds import FiniteWorld

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MIN_EPISODES = 30
"""Episodes with a decision below which nothing is said."""

CONTROLS = ("random direction", "wrong units", "shuffled labels")
"""What steering is held against: two that move activations equally far, and what the same probe finds where there is nothing."""


@dataclass(frozen=True)
class SteeringConfig:
    """How an agent is steered."""

    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    """Lengths of the move that are tried, in differences between the means of two classes; chosen on validation episodes."""
    n_draws: int = 10
    """Draws of every control; their mean stands beside the steering."""
    n_returns: int = 2000
    """Decisions from which episodes are played on."""
    seed: int = 0
    """Source of all chance."""


@dataclass(frozen=True)
class Choice:
    """Where, along what, and how far; settled on validation episodes."""

    sites: tuple[str, ...]
    """Of `agent.carried`."""
    direction: str
    """From one class mean to the other ("pattern"), or along the weights of a ridge probe ("probe")."""
    scale: float


@dataclass(frozen=True)
class Steering:
    """What an agent does after its core state was moved once, at decisions of held-out episodes."""

    factor: str
    choice: Choice
    success: dict[str, Estimate]
    """Share of decisions where the greedy action is one that the changed belief asks for, over episodes: "steered", "untouched",
    "swapped" (another episode's activations with the other class) and each of `CONTROLS`."""
    excess: dict[str, Estimate]
    """How much more often steering succeeds than each control, paired by episode."""
    advantage: tuple[float, float]
    """Q of the actions that the changed belief asks for, minus Q of those that the belief asks for, before and after the move."""
    returns: dict[str, float]
    """Mean discounted return from there on: "untouched", "steered", and, where it can be played, of the belief policy ("belief"), and
    of the belief policy with the changed belief ("changed belief"): what a full exchange must cost."""
    n_rows: int
    n_episodes: int


def steer(agent: EditableAgent, stream: Stream, factor: str, config: SteeringConfig | None = None) -> Steering:
    """Steer an agent along a factor, and compare what it then does with what the belief policy would do, had the factor another class.

    At the decisions of `find_decisions` the carried activations are moved by a multiple of the difference between two classes, as far as it
    is seen within a context (the observation, and all else that is true). Directions are fitted on two folds, site, kind of direction
    and scale are chosen on validation episodes, and success is counted on the third fold. Two controls move the activations equally
    far: along a random direction (of the activations' own covariance), and along the same direction with its units exchanged. A third
    takes what the same probe finds with shuffled labels, at the same scale.

    Parameters
    ----------
    agent : EditableAgent
    stream : Stream
        Of a finite world; its channels are the agent's.
    factor : str
        Categorical.
    config : SteeringConfig, optional

    Returns
    -------
    Steering

    Raises
    ------
    Unavailable
        If beliefs of the world cannot be changed in this factor alone.
    ValueError
        If too few episodes have a decision, or the agent carries nothing that can be edited.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, record
    >>> from worldprobe.agents import BeliefAgent
    >>> from worldprobe.analysis import Labels, Stream, steer
    >>> from worldprobe.worlds import MemoryChain
    >>> world = MemoryChain(length=4)
    >>> agent = BeliefAgent(world, frozenset({"observation", "action"}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recording = record(agent, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=300, seed=0)
    ...     found = steer(agent, Stream(world, recording, Labels(world.factors)), "cue")
    >>> found.success["steered"].estimate, found.success["untouched"].estimate
    (1.0, 0.0)
    """
    config = config or SteeringConfig()
    if not agent.carried:
        raise ValueError(f"agent {agent.name!r} carries nothing that can be edited: it has no site in `carried`")
    decisions = find_decisions(stream, factor, seed=config.seed)
    folds = stream.folds[decisions.rows]
    for_choice, for_score = (_Site(agent, stream, factor, decisions.take(folds == fold), config) for fold in (VALIDATION, 0))
    for place, site in (("validation", for_choice), ("held-out", for_score)):
        n_episodes = len(np.unique(stream.groups[site.decisions.rows]))
        if n_episodes < MIN_EPISODES:
            raise ValueError(
                f"{n_episodes} {place} episodes have a step where another {factor} would ask for another action; {MIN_EPISODES} are needed"
            )
    best = max(_candidates(agent, config), key=lambda choice: for_choice.succeeds(choice).mean())
    return for_score.steering(best)


def _candidates(agent: EditableAgent, config: SteeringConfig) -> Iterator[Choice]:
    """Yield every site alone, then all together, along either direction, the shortest moves first."""
    alone = [(site,) for site in agent.carried]
    every = alone if len(alone) == 1 else [*alone, tuple(agent.carried)]
    for scale, sites, direction in product(config.scales, every, ("pattern", "probe")):
        yield Choice(sites, direction, scale)


@dataclass(eq=False)
class _Site:
    """An agent at some decisions, and what was fitted on the rows of other episodes."""

    agent: EditableAgent
    stream: Stream
    factor: str
    decisions: Decisions
    config: SteeringConfig
    _fitted: dict[tuple[str, ...], Directions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {f"factor/{each.name}": self.stream.recording[f"factor/{each.name}"][:] for each in self.stream.world.factors}
        factors = {name.removeprefix("factor/"): torch.from_numpy(np.asarray(values)) for name, values in columns.items()}
        received = torch.from_numpy(self.stream.received)
        self.context = contexts(received, factors, self.stream.world, self.factor)
        self.labels = factors[self.factor].numpy()
        self.states = replay(self.agent, self.stream.recording, ("core.state",))["core.state"]
        self.inputs = received[torch.from_numpy(self.decisions.rows)]
        self.groups = self.stream.groups[self.decisions.rows]

    def columns(self, sites: tuple[str, ...]) -> Integers:
        """Columns of the core state."""
        return torch.cat([self.agent.carried[site] for site in sites]).numpy()

    def directions(self, sites: tuple[str, ...]) -> Directions:
        """Directions of these sites, fitted once."""
        if sites not in self._fitted:
            rows = self.stream.fit_rows(0)
            content = self.states[rows][:, self.columns(sites)].astype(np.float64)
            self._fitted[sites] = Directions(content, self.labels[rows], self.context, rows, self.stream.world.factor(self.factor).size)
        return self._fitted[sites]

    def moves(self, choice: Choice) -> Floats:
        """By what each decision's activations are moved, (n, width)."""
        where = self.context[self.decisions.rows], self.decisions.present, self.decisions.other
        return choice.scale * self.directions(choice.sites).between(*where, kind=choice.direction)

    def acting(self, sites: tuple[str, ...], moves: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """Whether the greedy action is wanted (n,), and Q (n, A), after activations were moved."""
        state = torch.from_numpy(self.states[self.decisions.rows])
        state[:, torch.from_numpy(self.columns(sites))] += torch.from_numpy(moves).float()
        return self._act(state)

    def _act(self, state: torch.Tensor) -> tuple[NDArray[np.bool_], Floats]:
        q = self.agent.values(self.inputs, state).double().numpy()
        return self.decisions.wanted[np.arange(len(q)), q.argmax(axis=1)], q

    def succeeds(self, choice: Choice) -> NDArray[np.bool_]:
        """Whether steering succeeds, (n,)."""
        return self.acting(choice.sites, self.moves(choice))[0]

    def steering(self, choice: Choice) -> Steering:
        """Steer, swap, and do what controls do."""
        moves = self.moves(choice)
        steered, q = self.acting(choice.sites, moves)
        untouched, q_before = self.acting(choice.sites, np.zeros_like(moves))
        success = {"steered": steered.astype(float), "untouched": untouched.astype(float), **self._controls(choice, moves)}
        donors, has_donor = self._donors()
        swapped = self._act(torch.from_numpy(self.states[donors]))[0].astype(float)
        estimates = {kind: self._over_episodes(values) for kind, values in success.items()}
        excess = {kind: self._over_episodes(success["steered"] - success[kind]) for kind in CONTROLS}
        return Steering(
            factor=self.factor,
            choice=choice,
            success=estimates | {"swapped": self._over_episodes(swapped, has_donor)},
            excess=excess,
            advantage=(self._advantage(q_before), self._advantage(q)),
            returns=self._returns(choice, moves),
            n_rows=len(self.decisions),
            n_episodes=len(np.unique(self.groups)),
        )

    def _controls(self, choice: Choice, moves: Floats) -> dict[str, Floats]:
        """Mean success over draws of each control, (n,)."""
        rng, fitted = np.random.default_rng(self.config.seed), self.directions(choice.sites)
        length = np.linalg.norm(moves, axis=1, keepdims=True)
        where = self.context[self.decisions.rows], self.decisions.present, self.decisions.other
        found = {kind: np.zeros(len(moves)) for kind in CONTROLS}
        for _ in range(self.config.n_draws):
            random = fitted.random(*where[1:], rng)
            norm = np.maximum(np.linalg.norm(random, axis=1, keepdims=True), np.finfo(float).tiny)
            drawn = {
                "random direction": random * (length / norm),
                "wrong units": moves[:, rng.permutation(moves.shape[1])],
                "shuffled labels": choice.scale * fitted.shuffled(rng).between(*where, kind=choice.direction),
            }
            for kind, move in drawn.items():
                found[kind] += self.acting(choice.sites, move)[0] / self.config.n_draws
        return found

    def _donors(self) -> tuple[Integers, NDArray[np.bool_]]:
        """For each decision a row of another episode in the same context with the other class, and whether there is one."""
        rng, rows = np.random.default_rng(self.config.seed), self.stream.fit_rows(0)
        donors, has_donor = self.decisions.rows.copy(), np.zeros(len(self.decisions), np.bool_)
        keys = np.stack([self.context[self.decisions.rows], self.decisions.other], axis=1)
        for context, other in np.unique(keys, axis=0):
            here = np.flatnonzero((keys == (context, other)).all(axis=1))
            there = rows[(self.context[rows] == context) & (self.labels[rows] == other)]
            if len(there):
                donors[here], has_donor[here] = rng.choice(there, len(here)), True
        return donors, has_donor

    def _over_episodes(self, values: Floats, chosen: NDArray[np.bool_] | None = None) -> Estimate:
        """Mean over episodes of the mean over their decisions."""
        groups = self.groups if chosen is None else self.groups[chosen]
        _, episode = np.unique(groups, return_inverse=True)
        sums = np.bincount(episode, weights=values if chosen is None else values[chosen])
        return t_interval(sums / np.bincount(episode))

    def _advantage(self, q: Floats) -> float:
        """Mean Q of the actions that are wanted, minus that of those that are asked for."""
        wanted, asked = ((q * mask).sum(axis=1) / mask.sum(axis=1) for mask in (self.decisions.wanted, self.decisions.asked))
        return float((wanted - asked).mean())

    def _returns(self, choice: Choice, moves: Floats) -> dict[str, float]:
        """Mean discounted returns of playing on from decisions."""
        world, chosen = self.stream.world, np.arange(min(len(moves), self.config.n_returns))
        rows = self.decisions.rows[chosen]
        leaves = {
            key.removeprefix("state/"): self.stream.recording[key][:][rows] for key in self.stream.recording if key.startswith("state/")
        }
        here = {name: torch.from_numpy(np.asarray(leaf)) for name, leaf in leaves.items()}
        steps = torch.from_numpy(self.stream.t[rows])
        core = torch.from_numpy(self.states[rows])
        moved = core.clone()
        moved[:, torch.from_numpy(self.columns(choice.sites))] += torch.from_numpy(moves[chosen]).float()
        starts: dict[str, tuple[EditableAgent, torch.Tensor]] = {"untouched": (self.agent, core), "steered": (self.agent, moved)}
        if isinstance(world, FiniteWorld):
            planner, begun = BeliefAgent(world, self.agent.channels), torch.ones(len(rows), 1)
            for kind, beliefs in (("belief", self.decisions.beliefs), ("changed belief", self.decisions.changed)):
                starts[kind] = planner, torch.cat([begun, torch.from_numpy(beliefs[chosen]).float()], 1)
        returns = {}
        for kind, (agent, state) in starts.items():
            generator = torch.Generator().manual_seed(self.config.seed)
            returns[kind] = float(play_on(agent, world, here, state, self.inputs[torch.from_numpy(chosen)], steps, generator).mean())
        return returns
