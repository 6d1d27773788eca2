"""The cells of a run's measurement: each is computed from the run directory alone, kept when finished, and done once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from worldprobe.activations import open_recording
from worldprobe.agents import TrainingResult, echo_state_twins, find_training, fresh_initialisations, load_checkpoint, weight_noise_twins
from worldprobe.analysis._bits import usable_bits
from worldprobe.analysis._codelength import representation
from worldprobe.analysis._config import RunConfig
from worldprobe.analysis._examine import Examination, Twins
from worldprobe.analysis._extracting import extraction
from worldprobe.analysis._further_updates import further_updates
from worldprobe.analysis._interventions import coherence, necessity, steering
from worldprobe.analysis._labels import Labels
from worldprobe.analysis._measurement import Measurement
from worldprobe.analysis._memory_bits import memory_bits
from worldprobe.analysis._neurons import neurons
from worldprobe.analysis._stream import Stream
from worldprobe.analysis._transitions import transitions
from worldprobe.worlds import World, make_world

STREAMS = ("common", "own")
"""The world's common streams, and the agent's own policy."""


def network_directory(directory: Path, name: str) -> Path:
    """Return where a network, "trained-0" or "yoked-3", was trained."""
    return directory / "checkpoints" / name


def examined(directory: Path) -> TrainingResult:
    """Return the training of the network that a run examines in full."""
    return find_training(network_directory(directory, "trained-0"))


def network_names(config: RunConfig) -> list[str]:
    """Return the networks of a run, the examined one first."""
    return [*(f"trained-{index}" for index in range(config.n_networks)), *(f"yoked-{index}" for index in range(config.n_yoked))]


Lens = Literal["decode", "extract", "intervene"]
"""Three ways to look at one agent: what its state carries and its update does, what its values imply, what its behaviour uses."""

LENSES: tuple[Lens, ...] = get_args(Lens)


def cell_names(directory: Path, config: RunConfig, lenses: Sequence[Lens] = LENSES) -> list[str]:
    """Return the cells of a run under some lenses, in the order in which they are best started: the longest first."""
    names = {
        "decode": _decoded(directory, config),
        "extract": ["extraction"],
        "intervene": [*(f"erasing {factor.name}" for factor in make_world(config.world).factors), "steering"],
    }
    return [name for lens in ("decode", "intervene", "extract") if lens in lenses for name in names[lens]]


def _decoded(directory: Path, config: RunConfig) -> list[str]:
    """Return the cells of what states carry and updates do."""
    checkpoints = [path.stem for path in examined(directory).checkpoints.values()]
    networks = network_names(config) if config.n_networks + config.n_yoked > 1 else []
    sites = [f"site {site}" for site in further_sites(config)]
    extra = ["codelength"] if config.codelength else []
    return [*STREAMS, "bits", "memory", *extra, "coherence", "further updates", "transitions", "units", *networks, *sites, *checkpoints]


def further_sites(config: RunConfig) -> list[str]:
    """Return the recorded sites that are examined beside the headline's; Q-values are an output, not a representation."""
    headline = make_world(config.world).headline.site
    return [site for site in config.streams.sites if site not in (headline, "q")]


def measure_cell(directory: Path, config: RunConfig, name: str) -> list[Measurement]:
    """Return the measurements of one cell."""
    if name in STREAMS:
        return examination(directory, config, name).everything()
    common = examination(directory, config, "common")
    if name == "bits":
        return usable_bits(common, config.bits)
    if name == "codelength":
        return representation(common)
    if name == "memory":
        return memory_bits(examination(directory, config, "own"), config.bits, config.memory)
    if name == "further updates":
        return further_updates(common)
    if name == "transitions":
        return transitions(examination(directory, config, "own"))
    if name == "units":
        return neurons(common)
    if name.startswith("erasing "):
        return necessity(common, common.world.factor(name.removeprefix("erasing ")), config.intervene.erasing)
    if name in ("coherence", "steering"):
        both = (common, examination(directory, config, "own"))
        return [row for one in both for row in (coherence(one) if name == "coherence" else steering(one, config.intervene.steering))]
    if name == "extraction":
        return extraction(common)
    if name.startswith("site "):
        return common.follow(common.agent, "site", common.agent.name, site=name.removeprefix("site "))
    if name in network_names(config):
        network, _ = load_checkpoint(find_training(network_directory(directory, name)).best)
        return common.follow(network, "network", name)
    network, info = load_checkpoint(examined(directory).final.with_name(f"{name}.safetensors"))
    return common.follow(network, "emergence", network.name, info.step)


def examination(directory: Path, config: RunConfig, stream: str) -> Examination:
    """Return the examination of the run's first network on one of its streams."""
    world = make_world(config.world)
    agent, _ = load_checkpoint(examined(directory).best)
    return Examination(agent, open_stream(directory, config, world, stream), stream, make_twins(directory, config, world), config.examine)


def open_stream(directory: Path, config: RunConfig, world: World, stream: str) -> Stream:
    """Open one of a run's recordings for analysis."""
    recording = open_recording(directory / "recordings" / f"{stream}.wpr")
    return Stream(world, recording, Labels(world.factors), config.examine.n_folds, config.examine.seed)


def make_twins(directory: Path, config: RunConfig, world: World) -> Twins:
    """Return the twins of the run's first network: its initialisation, fresh ones, and weight noise."""
    own, _ = load_checkpoint(examined(directory).checkpoints[0])
    agent, _ = load_checkpoint(examined(directory).best)
    fresh = fresh_initialisations(world, config.network, config.seed, config.examine.n_twins)
    noise = weight_noise_twins(own, agent, config.seed, config.examine.n_twins)
    return Twins(own, tuple(fresh), tuple(noise), tuple(echo_state_twins(world, config.network, config.seed)))
