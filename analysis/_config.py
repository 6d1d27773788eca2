"""The configuration of a run: the same object is the command line, the Python API and the JSON in the run directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from worldprobe.agents import ALGORITHMS, AnyConfig, NetworkConfig, PqnConfig, from_json, make_network, seal, training_preset, unseal
from worldprobe.analysis._bits import BitsConfig
from worldprobe.analysis._examine import ExamineConfig
from worldprobe.analysis._interventions import InterveneConfig
from worldprobe.analysis._memory_bits import MemoryConfig
from worldprobe.analysis._tables import write_atomically
from worldprobe.worlds import WORLDS, make_world


class ConfigError(ValueError):
    """A configuration, or a run directory, is not what was expected."""


@dataclass(frozen=True)
class StreamConfig:
    """How much is recorded."""

    n_common: int = 2000
    """Episodes of the world's common streams, the same for every agent."""
    n_own: int = 1000
    """Episodes under the agent's own policy."""
    epsilon: float = 0.05
    """Exploration of the agent's own policy while it is recorded."""
    sites: tuple[str, ...] = ("core.h", "q")
    """Sites of the network that are recorded; those beside the headline's are examined as well, briefly."""
    n_envs: int = 128
    """Environments stepped at once."""
    n_evaluation: int = 1000
    """Greedy episodes that the return is measured on."""


@dataclass(frozen=True)
class RunConfig:
    """One question to one world: train, record, probe, report."""

    world: tyro.conf.Suppress[str] = "tmaze"
    """Name of the world (`worldprobe worlds` lists them)."""
    seed: int = 0
    """Seed of everything; network i trains with seed + i."""
    n_networks: int = 1
    """Networks trained on reward. The first is examined in full; five or more speak for the algorithm."""
    n_yoked: int = 0
    """Networks trained on another environment's rewards: the control for "due to reward" (five or more)."""
    codelength: bool = False
    """Whether online codelengths are computed (rung 3)."""
    n_processes: int = 2
    """Processes that share the work; each runs one torch thread."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(core="gru"))
    """Architecture of the agent."""
    training: tyro.conf.AvoidSubcommands[AnyConfig] = field(default_factory=PqnConfig)
    """How it learns; the class of the settings says by which algorithm."""
    streams: StreamConfig = field(default_factory=StreamConfig)
    """What is recorded."""
    examine: ExamineConfig = field(default_factory=ExamineConfig)
    """How it is probed."""
    bits: BitsConfig = field(default_factory=BitsConfig)
    """The families of probes that the second score, usable information in bits, is relative to."""
    memory: MemoryConfig = field(default_factory=MemoryConfig, metadata={"added": True})
    """How the bits that the task needs are counted."""
    intervene: InterveneConfig = field(default_factory=InterveneConfig, metadata={"added": True})
    """How it is steered, and what is erased from it."""

    def full(self) -> RunConfig:
        """Return the configuration that decides every rung of this version: 5 networks, 5 yoked ones, codelengths."""
        return replace(self, n_networks=max(5, self.n_networks), n_yoked=max(5, self.n_yoked), codelength=True)

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def preset(world: str, algorithm: str = "pqn") -> RunConfig:
    """Return the configuration that suits a world of the registry and an algorithm of `worldprobe.agents.ALGORITHMS`.

    Raises
    ------
    ConfigError
        If there is no such world or algorithm; the message lists those there are.

    Examples
    --------
    >>> preset("tmaze").network.core
    'gru'
    """
    if world not in WORLDS:
        raise ConfigError(f"there is no world {world!r}; choose one of {', '.join(WORLDS)}")
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"there is no algorithm {algorithm!r}; choose one of {', '.join(ALGORITHMS)}")
    network, training = training_preset(world, algorithm)
    return RunConfig(world=world, network=network, training=training, streams=STREAMS.get(world, StreamConfig()))


def command_line(config: RunConfig) -> str:
    """Return the command that makes a run again: the seed, the algorithm, and every setting that is not their preset.

    Examples
    --------
    >>> from dataclasses import replace
    >>> command_line(replace(preset("tmaze").full(), n_processes=1))
    'worldprobe run tmaze --seed 0 --full --n-processes 1'
    """
    is_full = config.full() == config
    algorithm = config.training.algorithm
    default = preset(config.world, algorithm).full() if is_full else preset(config.world, algorithm)
    settings = _flattened(config.to_json())
    changed = {name: value for name, value in settings.items() if name != "seed" and value != _flattened(default.to_json())[name]}
    words = ["worldprobe run", config.world, f"--seed {config.seed}", *[f"--algorithm {algorithm}"] * (algorithm != "pqn")]
    words += ["--full"] * is_full
    return " ".join([*words, *(_flag(name, value) for name, value in changed.items())])


def _flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _flag(name: str, value: Any) -> str:
    """One setting as the command line spells it."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        head, _, tail = option.rpartition(".")
        return f"--{option}" if value else f"--{head + '.' if head else ''}no-{tail}"
    return f"--{option} {' '.join(map(str, value)) if isinstance(value, list) else value}"


STREAMS: dict[str, StreamConfig] = {
    "minigrid-memory": StreamConfig(n_common=200, n_own=400, n_envs=32, n_evaluation=200),
}
"""What is recorded of worlds that the default does not suit."""


def check_directory(directory: Path, config: RunConfig) -> None:
    """Give a run directory its configuration, or refuse one that belongs to another.

    Raises
    ------
    ConfigError
        If the directory holds another configuration (the message names what differs), or the network has no such site.
    """
    _check_sites(config)
    path = directory / "config.json"
    if path.exists():
        differing = sorted(_differences(read_config_values(directory), config.to_json()))
        if differing:
            raise ConfigError(
                f"{directory} belongs to another configuration (it differs in {', '.join(differing)}): "
                "name another --directory, or remove this one"
            )
        return
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no config.json: name another --directory")
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(seal(config.to_json()), indent=2) + "\n")


def _check_sites(config: RunConfig) -> None:
    """Refuse sites that the network does not have, and a selection without the headline's."""
    world = make_world(config.world)
    known = [*make_network(world, config.network, config.seed).sites, "core.state"]
    unknown = [site for site in config.streams.sites if site not in known]
    if unknown:
        raise ConfigError(f"the network has no site {', '.join(map(repr, unknown))}; its sites are {', '.join(known)}")
    if world.headline.site not in config.streams.sites:
        raise ConfigError(f"the sites must hold {world.headline.site!r}, which the ladder is decided in; got {config.streams.sites}")


def read_config_values(directory: Path) -> dict[str, Any]:
    """Read config.json of a run directory.

    Raises
    ------
    ConfigError
        If it is missing or damaged.
    """
    path = directory / "config.json"
    try:
        return unseal(json.loads(path.read_text()))
    except FileNotFoundError:
        raise ConfigError(
            f"{directory} is no run directory (it has no config.json): start with `worldprobe train WORLD --directory {directory}`"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}): restore it, or start in another directory") from None


def read_config(directory: Path) -> RunConfig:
    """Read the configuration of a run directory.

    Raises
    ------
    ConfigError
        If it is missing, damaged, or written by a version with other settings.
    """
    values = read_config_values(directory)
    try:
        return from_json(RunConfig, values)
    except ValueError as error:
        raise ConfigError(f"{directory / 'config.json'} does not hold settings ({error}): start in another directory") from None


def _differences(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names at which two nested objects differ."""
    found = {prefix + key for key in left.keys() ^ right.keys()}
    for key in left.keys() & right.keys():
        if isinstance(left[key], dict) and isinstance(right[key], dict):
            found |= _differences(left[key], right[key], f"{prefix}{key}.")
        elif left[key] != right[key]:
            found.add(prefix + key)
    return found
