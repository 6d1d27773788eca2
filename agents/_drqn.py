"""DRQN: Q-learning on replayed episodes whose whole history is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from worldprobe.agents._descent import METRICS
from worldprobe.agents._episode_replay import EpisodeReplay, as_rollout
from worldprobe.agents._learner import below, check_finite, under
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._slow_target import SlowTargetQ, TargetRule
from worldprobe.agents._training_config import TrainingConfig


@dataclass(frozen=True)
class DrqnConfig(TrainingConfig):
    """How a recurrent Q-network is trained by DRQN over full histories, with Adam."""

    algorithm: ClassVar[str] = "drqn"

    n_envs: int = 16
    """Environments stepped at once."""
    n_steps: int = 16
    """Steps of every environment between updates."""
    learning_rate: float = 5e-4
    """Step size of Adam at the start."""
    max_gradient_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    resume_interval: float = 60.0
    """Seconds between resume files, which hold the replay (no result depends on it)."""
    replay_episodes: int = 8192
    """Episodes kept."""
    batch_size: int = 32
    """Histories of an optimiser step."""
    learn_from: Literal["all steps", "one step"] = "all steps"
    """"all steps": of whole episodes, drawn uniformly. "one step": of the last of each history, the steps being drawn uniformly."""
    gradient_steps_per_episode: int = 1
    """Optimiser steps after each episode that ended."""
    target_interval: int = 100
    """Episodes between copies into the target network."""
    n_step: int = 1
    """Rewards before the bootstrap (1 if learning from one step)."""
    double: bool = False
    """Whether the network chooses the action that the target network values."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        counts = ("replay_episodes", "batch_size", "gradient_steps_per_episode", "target_interval", "n_step")
        wrong = super()._wrong() + self._below_one(*counts)
        wrong += ["learn_from 'all steps' or 'one step'"] * (self.learn_from not in ("all steps", "one step"))
        return wrong + ["n_step = 1 to learn from one step"] * (self.learn_from == "one step" and self.n_step != 1)


class DrqnLearner:
    """Improves a network on replayed episodes, each from its beginning. A `Learner`.

    Parameters
    ----------
    network : RecurrentQNetwork
        What is trained, in place.
    config : DrqnConfig
        How.
    discount : float
        gamma.
    generator : torch.Generator
        Draws episodes or steps.
    """

    metrics: tuple[str, ...] = METRICS

    def __init__(self, network: RecurrentQNetwork, config: DrqnConfig, discount: float, generator: torch.Generator) -> None:
        self._config, self._generator = config, generator
        self._q = SlowTargetQ(network, TargetRule(discount, config.n_step, config.double), config.max_gradient_norm)
        self._replay = EpisodeReplay(config.replay_episodes, config.n_envs)
        self._state_size = 2 * network.state_size
        self._n_episodes = 0

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Store a rollout and, for every episode that ended in it, take `gradient_steps_per_episode` optimiser steps.

        Raises
        ------
        TrainingDivergedError
            If the rollout, a loss or a gradient is not finite; the weights are left as they were before that step.
        """
        check_finite(rollout)
        for episode in range(self._replay.add(rollout)):
            if self._n_episodes % self._config.target_interval == 0:
                self._q.copy()
            self._n_episodes += 1
            for index in range(self._config.gradient_steps_per_episode):
                self._descend(learning_rate, f"gradient step {index} of episode {episode}")

    def _descend(self, learning_rate: float, place: str) -> None:
        is_single = self._config.learn_from == "one step"
        draw = self._replay.sample_histories if is_single else self._replay.sample_episodes
        histories = as_rollout(draw(self._config.batch_size, self._generator), self._state_size)
        self._q.step(histories, torch.ones(1), learning_rate, place, only_last=is_single)

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `metrics` since the last call (NaN if there was no step)."""
        return self._q.pop_metrics()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on: network, target network, optimiser, replay and chance."""
        own = {"generator": self._generator.get_state(), "n_episodes": torch.tensor(self._n_episodes)}
        return own | under("q/", self._q.state_dict()) | under("replay/", self._replay.state_dict())

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._q.load_state_dict(below("q/", saved))
        self._replay.load_state_dict(below("replay/", saved))
        self._generator.set_state(saved["generator"])
        self._n_episodes = int(saved["n_episodes"])
