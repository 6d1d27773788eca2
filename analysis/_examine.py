"""One agent, examined: every measurement of the ladder that one stream of episodes supports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from worldprobe.activations import fork_stream
from worldprobe.agents import Agent
from worldprobe.analysis._decoders import Decoder, Losses
from worldprobe.analysis._emergence import emergence, reweighted_emergence
from worldprobe.analysis._floors import FloorConfig, floor_sources
from worldprobe.analysis._measurement import Cell, Measurement
from worldprobe.analysis._own_update import Future, own_update
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.analysis._sources import Hidden, History, Joined, Kept
from worldprobe.analysis._stream import Stream
from worldprobe.analysis._sufficiency import sufficiency
from worldprobe.worlds import Unavailable, World, finite_core


@dataclass(frozen=True)
class ExamineConfig:
    """How an agent is examined; the defaults are those of the published report."""

    n_folds: int = 3
    """Cross-fitting folds over train and test episodes."""
    horizon: int = 8
    """Forked steps of the own-update curve; at least the world's headline horizon is taken."""
    n_forks: int = 3000
    """Rows at which world and core are forked."""
    n_counterfeits: int = 20
    """Counterfeit laws that the own update is compared with."""
    n_counterfeit_forks: int = 1500
    """Rows forked under each counterfeit law."""
    n_twins: int = 19
    """Fresh initialisations, and weight-noise twins: 19 make a rank test at 5 %."""
    floors: FloorConfig = field(default_factory=FloorConfig)
    """The floors."""
    seed: int = 0
    """Seed of folds, forks and counterfeit laws."""


@dataclass(frozen=True)
class Twins:
    """Networks that were never trained on the reward, compared with the agent on the same streams."""

    own: Agent | RecordedAgent | None = None
    """The agent's own initialisation."""
    fresh: tuple[Agent | RecordedAgent, ...] = ()
    """Other initialisations; 19 make one rank test at 5 %."""
    noise: tuple[Agent | RecordedAgent, ...] = ()
    """The initialisation moved by Gaussian noise of the norm of the training displacement; 19 likewise."""
    echo: tuple[Agent | RecordedAgent, ...] = ()
    """Echo-state reservoirs over a range of gains: the best that mere memory does (printed; no rung stands on them)."""


@dataclass
class Examination:
    """Everything that is measured of one agent on one stream.

    Parts are computed when asked for and share floors, folds and forks, so that every difference is paired.
    """

    agent: Agent | RecordedAgent
    stream: Stream
    name: str
    """Name of the stream: "own" or "common"."""
    twins: Twins = field(default_factory=Twins)
    config: ExamineConfig = field(default_factory=ExamineConfig)

    @property
    def world(self) -> World:
        """The world the stream was recorded in."""
        return self.stream.world

    def site(self, agent: Agent | RecordedAgent, site: str | None = None) -> Hidden | Kept:
        """Return a site of the agent or of a twin on this stream, by default the headline's."""
        name = site or self.world.headline.site
        if not isinstance(agent, RecordedAgent):
            return Hidden(self.stream, agent, name)
        return Kept(self.stream, agent.name, agent.activations(self.name, name), name)

    @cached_property
    def hidden(self) -> Hidden | Kept:
        """The agent's headline site on this stream."""
        return self.site(self.agent)

    @cached_property
    def floors(self) -> dict[str, Decoder]:
        """Decoders of every form of both floors."""
        own = None if self.twins.own is None else self.site(self.twins.own)
        sources = floor_sources(self.stream, own, self.hidden.rows(0).shape[1], self.config.floors)
        return {name: Decoder(source) for name, source in sources.items()}

    @cached_property
    def joined(self) -> dict[str, Decoder]:
        """Decoders of each floor together with the hidden state."""
        return {name: Decoder(Joined(decoder.source, self.hidden)) for name, decoder in self.floors.items()}

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder D of the hidden state alone."""
        return Decoder(self.hidden)

    def cell(self, quantity: str, floor: str, law: str = "true") -> Cell:
        """Name a measurement of this agent on this stream."""
        return Cell(quantity, self.agent.name, self.name, self.hidden.site, floor, law)

    # --- state ----------------------------------------------------------------------------------------------------

    def states(self) -> list[Measurement]:
        """Emergence beyond every form of each floor, and the hidden state in place of it."""
        beyond = [m for name, floor in self.floors.items() for m in emergence(floor, self.joined[name], self.cell("emergence", name))]
        instead = [m for name, floor in self.floors.items() for m in emergence(floor, self.decoder, self.cell("replacement", name))]
        evenly = [
            m for name, floor in self.floors.items() for m in reweighted_emergence(floor, self.joined[name], self.cell("reweighted", name))
        ]
        return self._with_best(beyond) + self._with_best(instead) + self._with_best(evenly)

    def _with_best(self, measured: list[Measurement]) -> list[Measurement]:
        """Add, for each floor and factor, the form that did best on validation episodes, once more under the floor's own name."""
        best = [m for m in measured if m.cell.floor in self.floors and m.cell.floor == self.best_form(m.cell.floor.split()[0], m.factor)]
        return measured + [replace(m, cell=replace(m.cell, floor=f"{m.cell.floor.split()[0]} best")) for m in best]

    def best_form(self, floor: str, factor: str) -> str:
        """Return the form of F0 or F1 that loses least of `factor` on validation episodes."""
        forms = [name for name in self.floors if name.startswith(f"{floor} ")]
        return min(forms, key=lambda name: self.floors[name].validation_loss[factor])

    def follow(
        self, network: Agent | RecordedAgent, quantity: str, name: str, step: int = -1, site: str | None = None
    ) -> list[Measurement]:
        """Measure another network, or another site, on this stream, briefly: its state and its own update beyond F0, read linearly."""
        hidden, floor = self.site(network, site), Decoder(History(self.stream))
        cell = Cell(quantity, name, self.name, hidden.site, "F0 linear", step=step)
        measured = emergence(floor, Decoder(Joined(floor.source, hidden)), cell)
        if self.can_fork:
            cell = replace(cell, quantity="own-update" if quantity == "emergence" else f"{quantity}-update")
            measured += own_update(self.future, self._on_forks(floor), self._on_forks(Decoder(hidden)), cell)
        return measured

    def training(self) -> list[Measurement]:
        """The loss that training took away: F0 and the agent against F0 and each of its twins."""
        ours = self.joined["F0 linear"]
        return [m for name, twin in self._twins() for m in emergence(self._with_input(twin), ours, self.cell("training", name))]

    def _twins(self) -> Iterable[tuple[str, Agent | RecordedAgent]]:
        if self.twins.own is not None:
            yield "own init", self.twins.own
        yield from ((f"fresh {index:02d}", twin) for index, twin in enumerate(self.twins.fresh))
        yield from ((f"noise {index:02d}", twin) for index, twin in enumerate(self.twins.noise))
        yield from ((twin.name, twin) for twin in self.twins.echo)

    def _with_input(self, agent: Agent | RecordedAgent) -> Decoder:
        return Decoder(Joined(History(self.stream), self.site(agent)))

    def sufficiency(self) -> list[Measurement]:
        """Tests of predictive state representations, under the world's law and under counterfeit ones."""
        if "optimum" not in self.world.gives or finite_core(self.world).state_factor is None:
            return []
        floor, joined, horizons = self.floors["F0 linear"], self.joined["F0 linear"], (1, 2, self.world.headline.horizon)
        counterfeits = {f"counterfeit {index:02d}": law for index, law in enumerate(self._counterfeit_laws(self.config.n_counterfeits))}
        return [
            m
            for name, law in {"true": self.world, **counterfeits}.items()
            for m in sufficiency(floor, joined, finite_core(law), horizons, self.cell("sufficiency", "F0 linear", name))
        ]

    def _counterfeit_laws(self, n_laws: int) -> list[World]:
        """Worlds of the same states and observations under other laws; none where the world cannot say what others there are."""
        generator = torch.Generator().manual_seed(self.config.seed)
        try:
            return [self.world.counterfeit(generator) for _ in range(n_laws)]
        except Unavailable:
            return []

    # --- model ----------------------------------------------------------------------------------------------------

    @property
    def can_fork(self) -> bool:
        """Whether the world can be forked beside the core, and filtered exactly."""
        return {"simulation", "belief"} <= self.world.gives and not isinstance(self.agent, RecordedAgent)

    @cached_property
    def future(self) -> Future:
        """Forks of this stream under the world's own law."""
        return self._future(self.config.n_forks, self.horizon, None)

    @property
    def horizon(self) -> int:
        """Forked steps."""
        return max(self.config.horizon, self.world.headline.horizon)

    def _future(self, n_forks: int, horizon: int, law: World | None) -> Future:
        generator = torch.Generator().manual_seed(self.config.seed)
        eligible = self.stream.scored[self.stream.t[self.stream.scored] + horizon < self.world.time_limit]
        chosen = np.random.default_rng(self.config.seed).choice(eligible, min(n_forks, len(eligible)), replace=False)
        return Future.of(self.stream, fork_stream(self.world, self.stream.recording, np.sort(chosen), horizon, generator, law))

    def _on_forks(self, decoder: Decoder) -> Losses:
        return decoder.fork_losses(self.future.forks, self.future.targets)

    def updates(self) -> list[Measurement]:
        """The own-update score over k, with the decoder frozen and refit, beyond every floor and beyond the initialisation."""
        if not self.can_fork:
            return []
        own, refit = self._on_forks(self.decoder), self.decoder.refit_losses(self.future.forks, self.future.targets)
        floors = {name: self._on_forks(decoder) for name, decoder in self.floors.items()}
        if self.twins.own is not None:
            floors["own init"] = self._on_forks(Decoder(self.site(self.twins.own)))
        frozen = [m for name, floor in floors.items() for m in own_update(self.future, floor, own, self.cell("own-update", name))]
        again = self.floors["F0 linear"].refit_losses(self.future.forks, self.future.targets)
        return self._with_best(frozen) + own_update(self.future, again, refit, self.cell("own-update-refit", "F0 linear"))

    def counterfeits(self) -> list[Measurement]:
        """The own-update score where the forks follow a law that is not the world's."""
        if not self.can_fork:
            return []
        best = self.best_form("F0", self.world.headline.factor)
        measured: list[Measurement] = []
        for index, law in enumerate(self._counterfeit_laws(self.config.n_counterfeits)):
            future = self._future(self.config.n_counterfeit_forks, self.world.headline.horizon, law)
            floor, own = (decoder.fork_losses(future.forks, future.targets) for decoder in (self.floors[best], self.decoder))
            measured += own_update(future, floor, own, self.cell("own-update", "F0 best", f"counterfeit {index:02d}"))
        return measured

    def everything(self) -> list[Measurement]:
        """Return all measurements of this agent on this stream."""
        counterfeits = self.counterfeits() if self.name == self.world.headline.streams else []
        return [*self.states(), *self.training(), *self.sufficiency(), *self.updates(), *counterfeits]
