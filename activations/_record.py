"""Recording: episodes are played or taken over, annotated, and committed shard by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from worldprobe.activations._beliefs import add_beliefs
from worldprobe.activations._commit import Finish, Progress, Target, done, record_shards
from worldprobe.activations._describe import describe_agent, describe_world
from worldprobe.activations._episodes import Episodes
from worldprobe.activations._files import RecordingError
from worldprobe.activations._held import find_held
from worldprobe.activations._manifest import Identity, Part
from worldprobe.activations._reader import Recording, load_episodes
from worldprobe.activations._replay import check_fit, check_sites, run_agent
from worldprobe.activations._rollout import Tape, play
from worldprobe.activations._storage import PRECISIONS
from worldprobe.activations._streams import Behaviour
from worldprobe.agents import Agent, RecurrentQNetwork, seeded_generator
from worldprobe.worlds import World, check_channels

SPLIT_FRACTIONS = (0.6, 0.2, 0.2)
WITHOUT_AGENT = frozenset({"observation", "action"})
"""Channels of a stream that is recorded without an agent, unless others are named."""


def record(
    agent: Agent | None,
    world: World,
    path: str | Path,
    behaviour: Behaviour,
    n_episodes: int,
    seed: int,
    sites: Sequence[str] = ("core.h", "q"),
    *,
    channels: frozenset[str] | None = None,
    n_envs: int = 64,
    episodes_per_shard: int = 512,
    splits: tuple[float, float, float] = SPLIT_FRACTIONS,
    precision: str = "float32",
    compression: str = "none",
    part: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Record an agent in a world while a behaviour acts; what is there already is kept.

    Every shard is a function of (seed, shard) and is committed whole: after a crash, the same call goes on with the missing
    shards and ends in the same arrays. Where a recurrent Q-network acts itself, its core state and Q are those with which it
    acted; other sites, and beliefs where the world has them, are computed in batched passes after the episodes were played.

    Parameters
    ----------
    agent : Agent or None
        Whose sites are recorded. It need not be the one that acts. None records the stream alone.
    world : World
        Any world; states, beliefs and expectations are recorded where it gives them.
    path : str or Path
        The directory, by custom `name.wpr`.
    behaviour : Behaviour
        Who acts: `EpsilonGreedy(agent)`, `CommonBehaviour(world)`, or your own.
    n_episodes : int
        Number of whole episodes.
    seed : int
        Seed of world, behaviour, filter and split.
    sites : sequence of str
        Names of `agent.sites`, or "core.state"; ignored without an agent.
    channels : frozenset of str, optional
        What the beliefs condition on. The agent's, if there is one (another set is refused); else observation and action.
    n_envs : int
        Copies of the world that are stepped at once.
    episodes_per_shard : int
        Episodes that are held in memory and committed together.
    splits : tuple of float
        Fractions of train, validation and test episodes.
    precision : str
        What sites are stored as: "float32", or half of it as "float16" (relative error 5e-4 up to 65504) or "bfloat16" (4e-3, any
        size). The manifest states the loss of every site; sites are read as float32 whatever it is.
    compression : str
        "none", or "zstd" (after a byte shuffle): lossless, of use where disks are slower than processors.
    part : (int, int), optional
        (index, count): make only every count-th shard, beginning with shard `index`. `count` processes can so record into one
        directory at once; each keeps a manifest of its own, and the reader joins them.
    progress : callable, optional
        Told (episodes recorded, episodes planned) after every shard.

    Returns
    -------
    Recording
        The recording, open; finished, unless it is one part of several.

    Raises
    ------
    RecordingError
        If `path` holds a recording of something else, or of other package versions and unfinished; another process is
        writing there; a value is beyond the precision; or the disk refuses.
    KeyError
        If the agent has no such site.
    ValueError
        If a number is below 1, the fractions do not sum to 1, or the channels are not the agent's.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import EpsilonGreedy, record
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> agent = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(agent, world, f"{folder}/own.wpr", EpsilonGreedy(agent, 0.1), n_episodes=10, seed=0) as recording:
    ...         recording.n_episodes, recording["core.h"].shape[1], recording["q"].shape[1]
    (10, 8, 4)
    """
    identity = Identity(
        world=describe_world(world),
        agent=describe_agent(agent) if agent else None,
        channels=tuple(sorted(_checked_channels(agent, channels))),
        behaviour=behaviour.describe(),
        seed=seed,
        n_episodes=n_episodes,
        n_envs=n_envs,
        episodes_per_shard=episodes_per_shard,
        splits=splits,
        sites=check_sites(agent, sites) if agent else {},
        stream=None,
        precision=precision,
    )
    target = Target(Path(path), compression, Part(*part) if part else None)
    held, tapes = find_held(agent, behaviour, sites), cycle((Tape(), Tape()))

    def make(index: int) -> Finish:
        cut = play(world, behaviour, identity.shard_episodes(index), n_envs, seed, index, held, next(tapes))

        def finish() -> Episodes:
            played = held.split(cut()) if held else cut()
            believed = add_beliefs(played, world, frozenset(identity.channels), seeded_generator(seed, "shard", index, "belief"))
            return believed if held else _with_sites(believed, agent, tuple(identity.sites))

        return finish if _is_shared(agent) else done(finish())

    return record_shards(target, checked_plan(identity), make, progress)


def record_on(
    agent: Agent,
    stream: Recording,
    path: str | Path,
    sites: Sequence[str] = ("core.h", "q"),
    *,
    precision: str = "float32",
    compression: str = "none",
    part: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Record another network on the episodes of a stream: same observations, actions and truth; only the sites differ.

    Parameters
    ----------
    agent : Agent
        Receives the channels of the stream; it chooses nothing.
    stream : Recording
        A finished recording; it is not changed.
    path : str or Path
        The new directory, complete in itself.
    sites : sequence of str
        Names of `agent.sites`, or "core.state".
    precision, compression, part
        As in `record`.
    progress : callable, optional
        Told (episodes recorded, episodes planned) after every shard.

    Returns
    -------
    Recording
        The recording, open; finished, unless it is one part of several. Its splits are those of the stream.

    Raises
    ------
    RecordingError
        If the agent does not fit the stream, the stream is not finished, or `path` holds something else.
    KeyError
        If the agent has no such site.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, record, record_on
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> network = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stream = record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=10, seed=0)
    ...     with stream, record_on(network, stream, f"{folder}/network.wpr") as recording:
    ...         bool((recording["action"][:] == stream["action"][:]).all()), recording.sites
    (True, {'core.h': 8, 'q': 4})
    """
    check_fit(agent, stream)
    if not stream.is_complete:
        raise RecordingError(
            f"{stream.path} is not finished ({stream.n_episodes} of {stream.identity.n_episodes} episodes): record it again first"
        )
    identity = replace(
        stream.identity,
        agent=describe_agent(agent),
        sites=check_sites(agent, sites),
        stream=stream.identity.fingerprint,
        precision=_checked_precision(precision),
    )
    target = Target(Path(path), compression, Part(*part) if part else None)
    kept = [key for key in stream if not key.startswith(("site/", "episode/")) and key not in ("t", "episode")]

    def make(index: int) -> Finish:
        numbers = stream.identity.shard_episodes(index)
        episodes = load_episodes(stream, kept, np.flatnonzero(stream.episodes.index.isin(numbers)))
        finish = partial(_with_sites, episodes, agent, tuple(identity.sites))
        return finish if _is_shared(agent) else done(finish())

    return record_shards(target, identity, make, progress)


def _is_shared(agent: Agent | None) -> bool:
    """Return whether an agent may be run in one thread while it acts in another: of somebody else's nothing is known."""
    return agent is None or isinstance(agent, RecurrentQNetwork)


def _with_sites(episodes: Episodes, agent: Agent | None, sites: Sequence[str]) -> Episodes:
    """Add the sites of an agent that is run over the episodes in batched passes."""
    if agent is None:
        return episodes
    return episodes.with_arrays({f"site/{name}": values for name, values in run_agent(agent, episodes, sites).items()})


def _checked_channels(agent: Agent | None, channels: frozenset[str] | None) -> frozenset[str]:
    """Return what the beliefs condition on."""
    if agent is None:
        return check_channels(channels or WITHOUT_AGENT)
    if channels is not None and channels != agent.channels:
        raise ValueError(
            f"agent {agent.name!r} receives {sorted(agent.channels)}; beliefs on {sorted(channels)} are not its own: leave out `channels`"
        )
    return check_channels(agent.channels)


def checked_plan(identity: Identity) -> Identity:
    """Return the identity if its numbers make sense."""
    least = min(identity.n_episodes, identity.n_envs, identity.episodes_per_shard)
    if least < 1 or identity.seed < 0:
        raise ValueError(
            f"expected n_episodes, n_envs, episodes_per_shard >= 1 and seed >= 0; got at least {least}, and seed {identity.seed}"
        )
    if len(identity.splits) != 3 or min(identity.splits) < 0 or abs(sum(identity.splits) - 1) > 1e-9:
        raise ValueError(f"splits must be three fractions that sum to 1; got {identity.splits}")
    _checked_precision(identity.precision)
    return identity


def _checked_precision(precision: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return precision
