"""R2D2: Q-learning on prioritised replay of sequences, from stored states that are burnt in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldprobe.agents._descent import METRICS
from worldprobe.agents._learner import below, check_finite, under
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._sequence_replay import SequenceReplay
from worldprobe.agents._slow_target import SlowTargetQ, TargetRule
from worldprobe.agents._training_config import TrainingConfig


@dataclass(frozen=True)
class R2d2Config(TrainingConfig):
    """How a recurrent Q-network is trained by R2D2, with Adam. `n_steps` is also the distance between sequences."""

    algorithm: ClassVar[str] = "r2d2"

    n_envs: int = 32
    """Environments stepped at once."""
    n_steps: int = 20
    """Steps of every environment between updates; a sequence begins at each of them."""
    learning_rate: float = 5e-4
    """Step size of Adam at the start."""
    max_gradient_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    resume_interval: float = 60.0
    """Seconds between resume files, which hold the replay (no result depends on it)."""
    sequence_length: int = 40
    """Steps of a replayed sequence, a multiple of `n_steps`; neighbours overlap by `sequence_length - n_steps`."""
    burn_in: int = 10
    """First steps of a sequence that only bring the core state up to date."""
    replay_steps: int = 200_000
    """Environment steps kept, over all environments."""
    warm_up_steps: int = 5_000
    """Environment steps before the first update."""
    n_gradient_steps: int = 8
    """Optimiser steps after each rollout."""
    batch_size: int = 32
    """Sequences of an optimiser step."""
    target_interval: int = 200
    """Optimiser steps between copies into the target network."""
    n_step: int = 5
    """Rewards before the bootstrap."""
    double: bool = True
    """Whether the network chooses the action that the target network values."""
    rescale: bool = False
    """Whether values are compressed by h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x; pays where returns are large or spread."""
    priority_exponent: float = 0.9
    """How strongly priorities count; 0: sequences are drawn uniformly."""
    importance_exponent: float = 0.6
    """How far weights undo the bias of priorities; 0: not at all, 1: fully."""
    priority_mixture: float = 0.9
    """Share of the largest TD error in a sequence's priority; the rest is their mean."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        counts = ("sequence_length", "replay_steps", "n_gradient_steps", "batch_size", "target_interval", "n_step")
        wrong = super()._wrong() + self._below_one(*counts)
        wrong += self._no_fraction("priority_exponent", "importance_exponent", "priority_mixture")
        wrong += ["warm_up_steps >= 0"] * (self.warm_up_steps < 0)
        if not wrong:
            wrong += ["sequence_length a multiple of n_steps"] * (self.sequence_length % self.n_steps != 0)
            wrong += ["0 <= burn_in < sequence_length"] * (not 0 <= self.burn_in < self.sequence_length)
            wrong += ["replay_steps >= n_envs * sequence_length"] * (self.replay_steps < self.n_envs * self.sequence_length)
        return wrong


class R2d2Learner:
    """Improves a network on sequences replayed by priority. A `Learner`.

    Priority of a sequence: eta max |TD error| + (1 - eta) mean |TD error| over the steps learned from; weights in the loss
    (N P)^-beta, the largest scaled to 1.

    Parameters
    ----------
    network : RecurrentQNetwork
        What is trained, in place.
    config : R2d2Config
        How.
    discount : float
        gamma.
    generator : torch.Generator
        Draws sequences.
    """

    metrics: tuple[str, ...] = METRICS

    def __init__(self, network: RecurrentQNetwork, config: R2d2Config, discount: float, generator: torch.Generator) -> None:
        self._config, self._generator = config, generator
        rule = TargetRule(discount, config.n_step, config.double, config.rescale)
        self._q = SlowTargetQ(network, rule, config.max_gradient_norm)
        capacity = config.replay_steps // (config.n_envs * config.n_steps)
        self._replay = SequenceReplay(capacity, config.sequence_length // config.n_steps, config.priority_exponent)
        self._n_seen, self._n_descents = 0, 0

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Store a rollout and, after the warm-up, take `n_gradient_steps` optimiser steps.

        Raises
        ------
        TrainingDivergedError
            If the rollout, a loss or a gradient is not finite; the weights are left as they were before that step.
        """
        check_finite(rollout)
        self._replay.add(rollout)
        self._n_seen += rollout.action.numel()
        if self._n_seen < self._config.warm_up_steps or not len(self._replay):
            return
        for index in range(self._config.n_gradient_steps):
            self._descend(learning_rate, f"gradient step {index}")

    def _descend(self, learning_rate: float, place: str) -> None:
        config = self._config
        if self._n_descents % config.target_interval == 0:
            self._q.copy()
        self._n_descents += 1
        sample = self._replay.sample(config.batch_size, self._generator)
        weight = (len(self._replay) * sample.probability) ** -config.importance_exponent
        learned = self._q.warmed(sample.rollout, config.burn_in)
        sequence, error = self._q.step(learned, (weight / weight.max()).float(), learning_rate, place)
        largest = torch.zeros(config.batch_size).scatter_reduce(0, sequence, error.amax(0), "amax")
        total = torch.zeros(config.batch_size).scatter_add(0, sequence, error.sum(0))
        mean = total / (config.sequence_length - config.burn_in)
        priority = config.priority_mixture * largest + (1 - config.priority_mixture) * mean
        self._replay.set_priorities(sample.index, priority.clamp_min(LEAST_PRIORITY))

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `metrics` since the last call (NaN if there was no step)."""
        return self._q.pop_metrics()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on: network, target network, optimiser, replay and chance."""
        own = {"generator": self._generator.get_state(), "counts": torch.tensor([self._n_seen, self._n_descents])}
        return own | under("q/", self._q.state_dict()) | under("replay/", self._replay.state_dict())

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._q.load_state_dict(below("q/", saved))
        self._replay.load_state_dict(below("replay/", saved))
        self._generator.set_state(saved["generator"])
        self._n_seen, self._n_descents = saved["counts"].tolist()


LEAST_PRIORITY = 1e-6
"""So that a sequence without error can still be drawn."""
