"""One training in progress: what moves, what is written down, and how it goes on after an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldprobe.agents._algorithms import ALGORITHMS
from worldprobe.agents._checkpoints import save_checkpoint
from worldprobe.agents._evaluate import evaluate_return
from worldprobe.agents._learner import TrainingDivergedError
from worldprobe.agents._metrics import MetricsFile, TensorBoardLog
from worldprobe.agents._network import make_network
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._resume import ResumeError, claim_directory, load_parts, save_parts
from worldprobe.agents._rollout import Actor
from worldprobe.agents._seeds import seeded_generator
from worldprobe.agents._training_config import TrainingConfig
from worldprobe.worlds import World

COLUMNS = (
    *("step", "evaluation_return", "evaluation_standard_error", "evaluation_discounted_return"),
    *("training_return", "training_length", "n_episodes", "epsilon", "learning_rate"),
)
"""Columns of metrics.csv, before those that the learner measures."""
SPEED_COLUMNS = ("step", "seconds", "steps_per_second")
"""Columns of speed.csv, the only file that holds times."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a training stands."""

    step: int
    """Environment steps so far, over all environments."""
    total_steps: int
    evaluation_return: float
    """Last greedy evaluation."""
    steps_per_second: float
    """Of this session; 0 before its first rollout."""
    seconds_left: float
    """Estimated from this session; infinite before its first rollout."""


@dataclass
class Counters:
    """Numbers that a resumed training goes on from."""

    update: int = 0
    stopped: bool = False
    best_return: float = -math.inf
    evaluation_return: float = math.nan
    seconds: float = 0.0
    metrics_position: int = 0
    speed_position: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """Return the numbers as tensors."""
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Counters:
        """Undo `tensors`."""
        like = asdict(cls())
        numbers: dict[str, Any] = {name: type(like[name])(tensor.item()) for name, tensor in tensors.items()}
        return cls(**numbers)


class TrainingSession:
    """A training in its directory, new or gone on with.

    Parameters
    ----------
    world : World
        Where to learn.
    network : NetworkConfig
        What learns.
    config : TrainingConfig
        How; its class says by which algorithm.
    directory : Path
        Where everything is kept.
    seed : int
        Source of all chance.

    Raises
    ------
    ResumeError
        If the directory holds another training, or a damaged one.
    """

    def __init__(self, world: World, network: NetworkConfig, config: TrainingConfig, directory: Path, seed: int) -> None:
        self._world, self._config, self._directory, self._seed = world, config, directory, seed
        self._identity = {"world": world.name, "seed": seed, "network": asdict(network), config.algorithm: asdict(config)}
        if network.n_rewards > 1 and config.algorithm != "pqn":
            raise ValueError(f"several rewards are learned by pqn alone; got n_rewards={network.n_rewards} and {config.algorithm}")
        needs = "actor-critic" if network.actor_critic else "horizons" if network.horizons else "values"
        if needs != {"ppo": "actor-critic", "tdm": "horizons"}.get(config.algorithm, "values"):
            given = f"actor_critic={network.actor_critic}, horizons={network.horizons} and {config.algorithm}"
            raise ValueError(f"ppo learns an actor-critic, tdm horizons, and nothing else does; got {given}")
        is_yoked = config.reward_source == "yoked"
        self._network = make_network(world, network, seed, name="yoked" if is_yoked else "trained")
        self._network.run_on(config.device, config.precision, compiled=config.compiled)
        discount = world.discount if config.discount is None else config.discount
        self._learner = ALGORITHMS[config.algorithm].learner(self._network, config, discount, seeded_generator(seed, "minibatches"))
        driver = world.driver(config.n_envs, seeded_generator(seed, "driver"))
        self._actor = Actor(self._network, driver, seeded_generator(seed, "exploration"), is_yoked, network.n_rewards, network.actor_critic)
        self._checkpoint_updates = log_spaced(config.n_updates, config.n_checkpoints)
        evenly = {round(config.n_updates * i / config.n_evaluations) for i in range(config.n_evaluations + 1)}
        self._evaluation_updates = evenly | self._checkpoint_updates
        claim_directory(directory, self._identity)
        self._counters = Counters()
        self._is_new = not self._restore()
        self._open_logs()

    def _restore(self) -> bool:
        """Go back to where the resume file says the training stood; False if there is none."""
        parts = load_parts(self._directory)
        if parts is None:
            return False
        try:
            self._learner.load_state_dict(parts["learner"])
            self._actor.load_state_dict(parts["actor"])
            self._counters = Counters.of(parts["counters"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ResumeError(
                f"the resume file in {self._directory} does not fit its training ({error}); delete it to begin anew"
            ) from error
        return True

    def _open_logs(self) -> None:
        """Open metrics and times where the training stands."""
        counters, columns = self._counters, (*COLUMNS, *self._learner.metrics)
        try:
            self._metrics = MetricsFile(self._directory / "metrics.csv", columns, None if self._is_new else counters.metrics_position)
            self._speed = MetricsFile(self._directory / "speed.csv", SPEED_COLUMNS, None if self._is_new else counters.speed_position)
        except ValueError as error:
            raise ResumeError(str(error)) from error

    def _done(self) -> bool:
        return self._counters.stopped or self._counters.update == self._config.n_updates

    @property
    def _step(self) -> int:
        return self._counters.update * self._config.n_envs * self._config.n_steps

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, progress: Callable[[TrainingProgress], None] | None) -> None:
        """Train to the end; a training that is finished is left alone."""
        if self._done():
            return
        self._tensorboard = TensorBoardLog(self._directory / "tensorboard", None if self._is_new else self._step)
        self._began, self._saved, self._step_at_start = time.monotonic(), time.monotonic(), self._step
        self._seconds_at_start = self._counters.seconds
        if self._is_new:
            self._keep_books()
        while not self._done():
            self._learn()
            self._keep_books()
            self._save_if_due()
            if progress is not None:
                progress(self._progress())
        self._tensorboard.close()

    def _schedule(self) -> tuple[float, float]:
        """Return epsilon and the learning rate of the present update."""
        fraction = self._counters.update / self._config.n_updates
        config = self._config
        return config.epsilon(fraction), config.learning_rate + (config.final_learning_rate - config.learning_rate) * fraction

    def _learn(self) -> None:
        epsilon, learning_rate = self._schedule()
        rollout = self._actor.collect(self._config.n_steps, epsilon)
        try:
            self._learner.update(rollout, learning_rate)
        except TrainingDivergedError as error:
            raise TrainingDivergedError(f"step {self._step} (update {self._counters.update}): {error}") from error
        self._counters.update += 1

    def _progress(self) -> TrainingProgress:
        rate = (self._step - self._step_at_start) / max(time.monotonic() - self._began, 1e-9)
        total = self._config.n_updates * self._config.n_envs * self._config.n_steps
        left = (total - self._step) / rate if rate else math.inf
        return TrainingProgress(self._step, total, self._counters.evaluation_return, rate, left)

    # --- the books --------------------------------------------------------------------------------------------------

    def _keep_books(self) -> None:
        """Evaluate, log and save checkpoints where this update is due for it."""
        update = self._counters.update
        evaluation = self._evaluate() if update in self._evaluation_updates else {}
        if update in self._checkpoint_updates or self._done():
            self._checkpoint(f"step-{self._step:012d}", evaluation)
        if self._done():
            self._checkpoint("final", evaluation)

    def _evaluate(self) -> dict[str, float]:
        """Evaluate greedily on the same episodes every time, log, and keep the best.

        The best is the latest network within one standard error of the highest return so far: of returns that cannot be told
        apart, the longer training counts.
        """
        result = evaluate_return(self._network, self._world, self._config.n_evaluation_episodes, seeded_generator(self._seed, "evaluation"))
        evaluation = asdict(result)
        self._counters.evaluation_return = result.mean_return
        enough = self._config.stop_at_return
        self._counters.stopped = enough is not None and result.mean_return >= enough
        self._log(evaluation)
        slack = result.standard_error if result.n_episodes > 1 else 0.0
        if result.mean_return >= self._counters.best_return - slack:
            self._checkpoint("best", evaluation)
        self._counters.best_return = max(self._counters.best_return, result.mean_return)
        return evaluation

    def _log(self, evaluation: dict[str, float]) -> None:
        """Write a row of metrics, and of times apart from it."""
        n_episodes, training_return, training_length = self._actor.pop_episodes()
        epsilon, learning_rate = self._schedule()
        row = {
            "step": self._step,
            "evaluation_return": evaluation["mean_return"],
            "evaluation_standard_error": evaluation["standard_error"],
            "evaluation_discounted_return": evaluation["mean_discounted_return"],
            "training_return": training_return,
            "training_length": training_length,
            "n_episodes": n_episodes,
            "epsilon": epsilon,
            "learning_rate": learning_rate,
            **self._learner.pop_metrics(),
        }
        self._metrics.append(row)
        self._tensorboard.append(row)
        self._counters.seconds = self._seconds_at_start + time.monotonic() - self._began
        rate = self._progress().steps_per_second
        self._speed.append({"step": self._step, "seconds": round(self._counters.seconds, 3), "steps_per_second": round(rate)})

    def _checkpoint(self, name: str, evaluation: dict[str, float]) -> None:
        save_checkpoint(
            self._directory / "checkpoints" / name,
            self._network,
            world=self._world.name,
            step=self._step,
            seed=self._seed,
            training=asdict(self._config),
            evaluation=evaluation,
        )

    def _save_if_due(self) -> None:
        """Write the resume file where enough time has passed, and at the end."""
        now = time.monotonic()
        if self._done() or now - self._saved >= self._config.resume_interval:
            self._counters.metrics_position, self._counters.speed_position = self._metrics.position, self._speed.position
            parts = {"learner": self._learner.state_dict(), "actor": self._actor.state_dict()}
            save_parts(self._directory, parts | {"counters": self._counters.tensors()})
            self._saved = now


def log_spaced(n_updates: int, n_checkpoints: int) -> set[int]:
    """Return up to `n_checkpoints` updates from 0 to `n_updates`, the later ones each a fixed factor after the one before.

    Examples
    --------
    >>> sorted(log_spaced(100, 5))
    [0, 1, 5, 22, 100]
    """
    return {0} | {round(n_updates ** (i / (n_checkpoints - 2))) for i in range(n_checkpoints - 1)} if n_checkpoints > 2 else {0, n_updates}
