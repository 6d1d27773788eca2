"""Agents and worlds of which only recordings are there: examined as far as recordings go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from worldprobe.activations import Recording
from worldprobe.analysis._labels import Array
from worldprobe.worlds import Factor, Headline, State, World


@dataclass(frozen=True, eq=False)
class RecordedAgent:
    """What was recorded of an agent, or replayed of its twin: it cannot be stepped, forked or edited.

    Parameters
    ----------
    name : str
        What it is called in tables.
    held : mapping of str to mapping of str to ndarray
        For each stream, "own" or "common", site to float32 (n_steps, width).
    """

    name: str
    held: Mapping[str, Mapping[str, Array]]

    @classmethod
    def of(cls, recordings: Mapping[str, Recording], name: str | None = None) -> RecordedAgent:
        """Take the sites that recordings hold."""
        own = next(iter(recordings.values()))
        held = {stream: {site: recording[site][:] for site in recording.sites} for stream, recording in recordings.items()}
        return cls(name or str((own.identity.agent or {"name": "nobody"})["name"]), held)

    def activations(self, stream: str, site: str) -> Array:
        """Return a site on a stream.

        Raises
        ------
        KeyError
            If it was not recorded there; the message lists what was.
        """
        if stream not in self.held or site not in self.held[stream]:
            known = ", ".join(f"{site} ({stream})" for stream, sites in self.held.items() for site in sites)
            raise KeyError(f"{self.name!r} has no site {site!r} on the {stream} stream; it has {known}")
        return self.held[stream][site]


class RecordedWorld(World):
    """What a recording says of the world that it was made in: names and sizes, and nothing that could be stepped or known exactly.

    Parameters
    ----------
    recordings : mapping of str to Recording
        Streams of the same world.
    headline : Headline
        The cell that the ladder is decided in.

    Raises
    ------
    ValueError
        If the recording has no factors, or not this one.
    """

    gives = frozenset()

    def __init__(self, recordings: Mapping[str, Recording], headline: Headline) -> None:
        recording = next(iter(recordings.values()))
        described = recording.identity.world
        self.name = described["name"]
        self.factors = tuple(Factor(**{**each, "labels": tuple(each.get("labels", ()))}) for each in described["factors"])
        if headline.factor not in [factor.name for factor in self.factors]:
            names = ", ".join(factor.name for factor in self.factors) or "none: hand `factors=` to `record_policy`"
            raise ValueError(f"the recording has no factor {headline.factor!r} to decide the ladder in; it has {names}")
        self.observation_shape = tuple(described["observation_shape"])
        self.action_names = tuple(described["actions"])
        self.discount = described["discount"] or 1.0
        self.time_limit = max(int(each["t"][:].max()) for each in recordings.values()) + 1
        self.exploration = (1 / max(1, len(self.action_names)),) * len(self.action_names)
        self.headline = headline

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Refuse: a recording has no states."""
        raise self.unavailable("states")
