"""PQN(lambda): Q-learning without replay and without a target network, on whole fused sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldprobe.agents._descent import METRICS, Descent
from worldprobe.agents._lambda_returns import lambda_returns
from worldprobe.agents._learner import check_finite
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._segments import SegmentBatch, Segments
from worldprobe.agents._training_config import TrainingConfig


@dataclass(frozen=True)
class PqnConfig(TrainingConfig):
    """How a recurrent Q-network is trained by PQN(lambda), with RAdam."""

    algorithm: ClassVar[str] = "pqn"

    n_epochs: int = 2
    """Passes over each rollout."""
    n_minibatches: int = 4
    """Groups of whole environments per pass, one optimiser step each."""
    td_lambda: float = 0.9
    """lambda of the Q(lambda) targets."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        wrong = super()._wrong() + self._below_one("n_epochs", "n_minibatches") + self._no_fraction("td_lambda")
        return wrong + ["n_minibatches <= n_envs"] * (self.n_minibatches > self.n_envs)


class PqnLearner:
    """Improves a network on rollouts, each used at once and never again. A `Learner`.

    loss = mean over real steps of (Q(h_t, a_t) - G_t)^2 / 2, with G_t the Q(lambda) target under the very network that is
    updated, recomputed in the same forward pass for every minibatch.

    Parameters
    ----------
    network : RecurrentQNetwork
        What is trained, in place.
    config : PqnConfig
        How.
    discount : float
        gamma.
    generator : torch.Generator
        Shuffles environments into minibatches.
    """

    metrics: tuple[str, ...] = METRICS

    def __init__(self, network: RecurrentQNetwork, config: PqnConfig, discount: float, generator: torch.Generator) -> None:
        self._network = network
        self._config = config
        self._discount = discount
        self._generator = generator
        self._descent = Descent(network, torch.optim.RAdam, config.max_gradient_norm)

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Take `n_epochs * n_minibatches` optimiser steps.

        Raises
        ------
        TrainingDivergedError
            If the rollout, a loss or a gradient is not finite; the weights are left as they were before that step.
        """
        check_finite(rollout)
        segments = Segments(rollout, self._config.n_minibatches)
        for epoch in range(self._config.n_epochs):
            shuffled = torch.randperm(self._config.n_envs, generator=self._generator)
            for index, envs in enumerate(shuffled.tensor_split(self._config.n_minibatches)):
                batch = segments.batch(envs)
                self._descent.begin(learning_rate)
                measured = self._backward(batch, len(envs) * self._config.n_steps)
                self._descent.step(measured, f"epoch {epoch}, minibatch {index}")

    def _backward(self, batch: SegmentBatch, n_rows: int) -> Tensor:
        """Put gradients on the network; return the means of loss, absolute TD error and Q over `n_rows` steps."""
        q = self._network.segment_values(batch, batch.core_state)
        next_value = q.detach()[1:].amax(-1)
        target = lambda_returns(
            batch.reward, next_value, batch.terminated, batch.is_last, batch.is_real, self._discount, self._config.td_lambda
        )
        taken = q[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1) * batch.is_real
        td_error = taken - target
        loss = td_error.square().sum() / 2
        torch.autograd.backward(loss / n_rows)
        with torch.no_grad():
            return torch.stack([loss, td_error.abs().sum(), taken.sum()]).double() / n_rows

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
