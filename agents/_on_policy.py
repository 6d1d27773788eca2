"""What learns from each rollout at once and never again: some epochs over minibatches of whole environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._descent import Descent
from worldprobe.agents._learner import check_finite
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._segments import SegmentBatch, Segments
from worldprobe.agents._training_config import TrainingConfig


@dataclass(frozen=True)
class OnPolicyConfig(TrainingConfig):
    """Settings of learners that use each rollout at once."""

    n_epochs: int = 2
    """Passes over each rollout."""
    n_minibatches: int = 4
    """Groups of whole environments per pass, one optimiser step each."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        wrong = super()._wrong() + self._below_one("n_epochs", "n_minibatches")
        return wrong + ["n_minibatches <= n_envs"] * (self.n_minibatches > self.n_envs)


class OnPolicyLearner(ABC):
    """Takes optimiser steps on rollouts; a subclass says down which loss. A `Learner`.

    Parameters
    ----------
    network : RecurrentQNetwork
        What is trained, in place.
    config : OnPolicyConfig
        How.
    generator : torch.Generator
        Shuffles environments into minibatches.
    optimizer : type
        Class of the optimiser.
    """

    metrics: tuple[str, ...]

    def __init__(
        self, network: RecurrentQNetwork, config: OnPolicyConfig, generator: torch.Generator, optimizer: type[torch.optim.Optimizer]
    ) -> None:
        self._network, self._generator = network, generator
        self._n_epochs, self._n_minibatches = config.n_epochs, config.n_minibatches
        self._descent = Descent(network, optimizer, config.max_gradient_norm, self.metrics)

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Take `n_epochs * n_minibatches` optimiser steps.

        Raises
        ------
        TrainingDivergedError
            If the rollout, a loss or a gradient is not finite; the weights are left as they were before that step.
        """
        check_finite(rollout)
        segments = Segments(rollout, self._n_minibatches)
        self._look_back(segments)
        for epoch in range(self._n_epochs):
            shuffled = torch.randperm(len(rollout.action), generator=self._generator)
            for index, envs in enumerate(shuffled.tensor_split(self._n_minibatches)):
                batch = segments.batch(envs)
                self._descent.begin(learning_rate)
                self._descent.step(self._backward(batch), f"epoch {epoch}, minibatch {index}")

    def _look_back(self, segments: Segments) -> None:  # noqa: B027 (most losses need nothing of it)
        """Keep what the network that acted thought of the rollout, where the loss needs it."""

    @abstractmethod
    def _backward(self, batch: SegmentBatch) -> Tensor:
        """Put gradients on the network; return all metrics but the last, float64."""

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `metrics` since the last call (NaN if there was no step)."""
        return self._descent.pop_metrics()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on, the network included."""
        return self._descent.state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._descent.load_state_dict(saved)
        self._generator.set_state(saved["generator"])
