"""Training as a tool: checkpoints, metrics, exact resume, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from worldprobe.agents._drqn import DrqnConfig
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._ppo import PpoConfig
from worldprobe.agents._pqn import PqnConfig
from worldprobe.agents._r2d2 import R2d2Config
from worldprobe.agents._session import TrainingProgress, TrainingSession
from worldprobe.agents._training_config import TrainingConfig
from worldprobe.worlds import World

Progress = Callable[[TrainingProgress], None]
"""Is shown where a training stands, after every rollout."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind."""

    directory: Path
    checkpoints: dict[int, Path]
    """Step -> weights, ascending, step 0 and the last included."""
    best: Path
    """The latest weights whose greedy return is within one standard error of the highest."""
    final: Path
    """Weights at the end."""


def train(
    world: World,
    network: NetworkConfig,
    config: TrainingConfig,
    directory: str | Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a recurrent network by the algorithm that its settings are of, or go on with a training that was interrupted.

    The directory gets training.json (the configuration), checkpoints/ (log-spaced `step-*`, `best`, `final`), metrics.csv,
    speed.csv and a resume file. A run that was killed and started again ends with the same bytes of weights and metrics
    as one that was not; a finished one returns at once.

    Parameters
    ----------
    world : World
        Where to learn.
    network : NetworkConfig
        What learns.
    config : TrainingConfig
        How: `PqnConfig`, or the settings of another of `ALGORITHMS`.
    directory : path
        Where to keep everything; empty, new, or of the same training.
    seed : int
        Source of all chance.
    progress : callable, optional
        Is shown a `TrainingProgress` after every rollout.

    Raises
    ------
    ResumeError
        If the directory holds another training (the message lists what differs), or a damaged one.
    TrainingDivergedError
        If a loss, a gradient, an input or a reward is not finite; the message says when and where.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.agents import NetworkConfig, PqnConfig, train
    >>> from worldprobe.worlds import make_world
    >>> tiny = PqnConfig(total_steps=1024, n_envs=16, n_steps=16, n_evaluations=2, n_evaluation_episodes=16, n_checkpoints=3)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     result = train(make_world("tmaze"), NetworkConfig(hidden_size=8), tiny, directory, seed=0)
    ...     sorted(result.checkpoints), result.best.name
    ([0, 256, 1024], 'best.safetensors')
    """
    directory = Path(directory)
    with _threads(config.n_threads):
        TrainingSession(world, network, config, directory, seed).run(progress)
    return find_training(directory)


def train_pqn(
    world: World, network: NetworkConfig, config: PqnConfig, directory: str | Path, seed: int, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a recurrent Q-network by PQN(lambda): `train` for these settings alone."""
    return train(world, network, config, directory, seed, progress=progress)


def train_r2d2(
    world: World, network: NetworkConfig, config: R2d2Config, directory: str | Path, seed: int, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a recurrent Q-network by R2D2: `train` for these settings alone."""
    return train(world, network, config, directory, seed, progress=progress)


def train_drqn(
    world: World, network: NetworkConfig, config: DrqnConfig, directory: str | Path, seed: int, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a recurrent Q-network by DRQN over full histories: `train` for these settings alone."""
    return train(world, network, config, directory, seed, progress=progress)


def train_ppo(
    world: World, network: NetworkConfig, config: PpoConfig, directory: str | Path, seed: int, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a recurrent actor-critic by PPO: `train` for these settings alone."""
    return train(world, network, config, directory, seed, progress=progress)


def find_training(directory: str | Path) -> TrainingResult:
    """Return what is in a training's directory, finished or not.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint in it.
    """
    folder = Path(directory) / "checkpoints"
    steps = {int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("step-*.safetensors"))}
    if not steps:
        raise FileNotFoundError(f"no checkpoint in {folder}; expected the directory of a training")
    return TrainingResult(Path(directory), steps, folder / "best.safetensors", folder / "final.safetensors")


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Compute with so many torch threads, and go back to what was before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
