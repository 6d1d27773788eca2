"""Recording: episodes are played or taken over, annotated, and committed shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from worldprobe.activations._beliefs import add_beliefs
from worldprobe.activations._describe import describe_agent, describe_world, environment
from worldprobe.activations._episodes import Episodes
from worldprobe.activations._files import RecordingError, remove_partials
from worldprobe.activations._manifest import MANIFEST, Identity, Manifest, differences
from worldprobe.activations._reader import Recording, load_episodes, open_recording
from worldprobe.activations._replay import check_fit, check_sites, run_agent
from worldprobe.activations._rollout import play
from worldprobe.activations._schema import read_manifest
from worldprobe.activations._streams import Behaviour
from worldprobe.activations._writer import commit_shard
from worldprobe.agents import Agent, seeded_generator
from worldprobe.worlds import World, check_channels

SPLIT_FRACTIONS = (0.6, 0.2, 0.2)
WITHOUT_AGENT = frozenset({"observation", "action"})
"""Channels of a stream that is recorded without an agent, unless others are named."""

Progress = Callable[[int, int], None]
"""Told, after every shard, how many episodes are recorded, and of how many."""


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
    progress: Progress | None = None,
) -> Recording:
    """Record an agent in a world while a behaviour acts; what is there already is kept.

    Every shard is a function of (seed, shard) and is committed whole: after a crash, the same call goes on with the missing
    shards and ends in the same arrays. Sites, and beliefs where the world has them, are computed in batched passes after the
    episodes were played.

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
    progress : callable, optional
        Told (episodes recorded, episodes planned) after every shard.

    Returns
    -------
    Recording
        The finished recording, open.

    Raises
    ------
    RecordingError
        If `path` holds a recording of something else, or of other package versions and unfinished; or the disk refuses.
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
    )

    def make(index: int) -> Episodes:
        played = play(world, behaviour, identity.shard_episodes(index), n_envs, seed, index)
        return add_beliefs(played, world, frozenset(identity.channels), seeded_generator(seed, "shard", index, "belief"))

    return _record_shards(Path(path), _checked_plan(identity), make, agent, progress)


def record_on(
    agent: Agent, stream: Recording, path: str | Path, sites: Sequence[str] = ("core.h", "q"), *, progress: Progress | None = None
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
    progress : callable, optional
        Told (episodes recorded, episodes planned) after every shard.

    Returns
    -------
    Recording
        The finished recording, open. Its splits are those of the stream.

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
    identity = replace(stream.identity, agent=describe_agent(agent), sites=check_sites(agent, sites), stream=stream.identity.fingerprint)
    kept = [key for key in stream if not key.startswith(("site/", "episode/")) and key not in ("t", "episode")]

    def make(index: int) -> Episodes:
        numbers = stream.identity.shard_episodes(index)
        return load_episodes(stream, kept, np.flatnonzero(stream.episodes.index.isin(numbers)))

    return _record_shards(Path(path), identity, make, agent, progress)


def _record_shards(
    path: Path, identity: Identity, make: Callable[[int], Episodes], agent: Agent | None, progress: Progress | None
) -> Recording:
    """Make and commit every shard that is missing."""
    manifest = _begun(path, identity)
    for index in manifest.missing:
        episodes = make(index)
        if agent:
            sites = run_agent(agent, episodes, tuple(identity.sites))
            episodes = episodes.with_arrays({f"site/{name}": values for name, values in sites.items()})
        manifest = commit_shard(path, manifest, index, episodes)
        if progress:
            progress(sum(entry.n_episodes for entry in manifest.shards), identity.n_episodes)
    return open_recording(path)


def _begun(path: Path, identity: Identity) -> Manifest:
    """Return the manifest at `path`, a new one if there is none, after checking that it is of the same thing."""
    if not (path / MANIFEST).exists():
        return _new(path, identity)
    manifest = read_manifest(path)
    changed = differences(asdict(manifest.identity), asdict(identity))
    if changed:
        raise RecordingError(f"{path} holds another recording ({'; '.join(changed[:3])}): choose another path, or delete it")
    changed = differences(manifest.environment, environment())
    if manifest.missing and changed:
        raise RecordingError(f"{path} was begun elsewhere ({'; '.join(changed[:3])}): go on with the same, or delete it and record anew")
    remove_partials(path)
    return manifest


def _new(path: Path, identity: Identity) -> Manifest:
    """Make the directory and its first manifest."""
    if path.exists() and (not path.is_dir() or any(entry.name != f"{MANIFEST}.partial" for entry in path.iterdir())):
        raise RecordingError(f"{path} exists and is no recording: choose another path")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"cannot make the directory {path}: {error.strerror}") from error
    remove_partials(path)
    manifest = Manifest(identity, environment())
    manifest.write(path)
    return manifest


def _checked_channels(agent: Agent | None, channels: frozenset[str] | None) -> frozenset[str]:
    """Return what the beliefs condition on."""
    if agent is None:
        return check_channels(channels or WITHOUT_AGENT)
    if channels is not None and channels != agent.channels:
        raise ValueError(
            f"agent {agent.name!r} receives {sorted(agent.channels)}; beliefs on {sorted(channels)} are not its own: leave out `channels`"
        )
    return check_channels(agent.channels)


def _checked_plan(identity: Identity) -> Identity:
    """Return the identity if its numbers make sense."""
    least = min(identity.n_episodes, identity.n_envs, identity.episodes_per_shard)
    if least < 1 or identity.seed < 0:
        raise ValueError(
            f"expected n_episodes, n_envs, episodes_per_shard >= 1 and seed >= 0; got at least {least}, and seed {identity.seed}"
        )
    if len(identity.splits) != 3 or min(identity.splits) < 0 or abs(sum(identity.splits) - 1) > 1e-9:
        raise ValueError(f"splits must be three fractions that sum to 1; got {identity.splits}")
    return identity
