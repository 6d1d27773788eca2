"""Checkpoints: safetensors weights with a JSON sidecar that says what they are. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from worldprobe._version import __version__
from worldprobe.agents._from_json import added, from_json
from worldprobe.agents._network import RecurrentQNetwork, count_parameters
from worldprobe.agents._network_config import WIDEST, NetworkConfig
from worldprobe.agents._storage import pack_tensors, seal, unpack_tensors, unseal, write_atomically, write_json


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or not what it says."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What the weights of a checkpoint are."""

    name: str
    """What the agent is called in tables."""
    world: str
    """Name of the world it was trained in."""
    step: int
    """Environment steps of training so far."""
    seed: int
    """Seed of the training."""
    network: NetworkConfig
    """Architecture."""
    input_size: int
    n_actions: int
    training: dict[str, Any]
    """Configuration of the training, as JSON."""
    evaluation: dict[str, float]
    """Greedy evaluation at this step, where there was one."""
    versions: dict[str, str]
    """Versions of what made it."""
    sha256: str
    """Hash of the weights file."""
    observation_shape: tuple[int, ...] = added(())
    """Of the observations it was trained on."""

    def __post_init__(self) -> None:
        """Refuse sizes that no network has."""
        if not 1 <= min(self.input_size, self.n_actions) <= max(self.input_size, self.n_actions) <= WIDEST:
            raise ValueError(f"input_size and n_actions must be 1 to {WIDEST:,}; got {self.input_size}, {self.n_actions}")


def save_checkpoint(
    path: str | Path,
    network: RecurrentQNetwork,
    *,
    world: str,
    step: int,
    seed: int,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, float] | None = None,
) -> CheckpointInfo:
    """Write `path` (weights, .safetensors) and its sidecar (.json), each atomically.

    Parameters
    ----------
    path : path
        Where to, with or without ".safetensors".
    network : RecurrentQNetwork
        Whose weights.
    world : str
        Name of its world.
    step, seed : int
        Environment steps of training so far, and the training's seed.
    training : Mapping, optional
        Configuration of the training, anything JSON can hold.
    evaluation : Mapping, optional
        Evaluation at this step.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.agents import NetworkConfig, load_checkpoint, make_network, save_checkpoint
    >>> from worldprobe.worlds import make_world
    >>> network = make_network(make_world("tmaze"), NetworkConfig(hidden_size=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     saved = save_checkpoint(f"{directory}/start", network, world="tmaze", step=0, seed=0)
    ...     loaded, info = load_checkpoint(f"{directory}/start.safetensors")
    >>> info == saved, bool((loaded.head.weight == network.head.weight).all())
    (True, True)
    """
    path, sidecar = _both_files(path)
    weights = pack_tensors(network.state_dict())
    info = CheckpointInfo(
        name=network.name,
        world=world,
        step=step,
        seed=seed,
        network=network.config,
        input_size=network.input_size,
        n_actions=network.n_actions,
        training=dict(training or {}),
        evaluation=dict(evaluation or {}),
        versions=versions(),
        sha256=hashlib.sha256(weights).hexdigest(),
        observation_shape=network.observation_shape,
    )
    write_atomically(path, weights)
    write_json(sidecar, seal(asdict(info)))
    return info


def load_checkpoint(path: str | Path) -> tuple[RecurrentQNetwork, CheckpointInfo]:
    """Return the network and what it is.

    Parameters
    ----------
    path : path
        The weights, with or without ".safetensors"; the sidecar lies beside them.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or the weights are not those that the sidecar describes.
    """
    path, sidecar = _both_files(path)
    info = read_checkpoint_info(path)
    weights = _read(path)
    if hashlib.sha256(weights).hexdigest() != info.sha256:
        raise CheckpointError(f"{path} is damaged: its hash is not the one in {sidecar.name}; train again or restore both files")
    try:
        if 4 * count_parameters(info.network, info.input_size, info.n_actions, info.observation_shape) > len(weights):
            raise ValueError("it is too small for the weights")
        network = RecurrentQNetwork(info.network, info.input_size, info.n_actions, None, info.name, info.observation_shape)
        network.load_state_dict(unpack_tensors(weights))
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold the weights of {info.network}: {' '.join(str(error).split())}") from error
    return network, info


def read_checkpoint_info(path: str | Path) -> CheckpointInfo:
    """Return what a checkpoint is, without its weights.

    Raises
    ------
    CheckpointError
        If the sidecar is missing or damaged.
    """
    _, path = _both_files(path)
    try:
        return from_json(CheckpointInfo, unseal(json.loads(_read(path))))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint sidecar ({' '.join(str(error).split())}); train again or restore it"
        ) from error


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    return {
        "worldprobe": __version__,
        "torch": str(torch.__version__),
        "safetensors": safetensors.__version__,
        "python": platform.python_version(),
    }


def _both_files(path: str | Path) -> tuple[Path, Path]:
    """Return the paths of weights and sidecar."""
    stem = str(path).removesuffix(".safetensors").removesuffix(".json")
    return Path(f"{stem}.safetensors"), Path(f"{stem}.json")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read checkpoint file {path} ({error.strerror}); expected weights (.safetensors) and a sidecar (.json)"
        ) from error
