"""PQN(lambda): Q-learning without replay and without a target network, on whole fused sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from worldprobe.agents._lambda_returns import lambda_returns
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._segments import SegmentBatch, cut_segments

METRICS = ("loss", "td_error", "q_mean", "gradient_norm")
"""What a learner measures at every optimiser step; logged as means since the last row."""


class TrainingDivergedError(ArithmeticError):
    """Training met a number that is not finite."""


@dataclass(frozen=True)
class PqnConfig:
    """How a recurrent Q-network is trained by PQN(lambda)."""

    total_steps: int = 500_000
    """Environment steps of the whole training, over all environments (rounded up to whole rollouts)."""
    n_envs: int = 64
    """Environments stepped at once."""
    n_steps: int = 32
    """Steps of every environment between updates."""
    n_epochs: int = 2
    """Passes over each rollout."""
    n_minibatches: int = 4
    """Groups of whole environments per pass, one optimiser step each."""
    learning_rate: float = 1e-3
    """Step size of RAdam at the start."""
    final_learning_rate: float = 1e-4
    """Step size at the end; linear in between."""
    td_lambda: float = 0.9
    """lambda of the Q(lambda) targets."""
    discount: float | None = None
    """gamma; None: the world's own."""
    epsilon_start: float = 1.0
    """Probability of exploration at the start."""
    epsilon_end: float = 0.05
    """Probability of exploration after `exploration_fraction` of the steps; linear before."""
    exploration_fraction: float = 0.2
    """Part of the training in which epsilon falls."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    reward_source: Literal["own", "yoked"] = "own"
    """"yoked": every environment is paid another one's rewards, never its own."""
    n_checkpoints: int = 12
    """Checkpoints over training, log-spaced, step 0 and the end included."""
    n_evaluations: int = 40
    """Greedy evaluations over training, evenly spaced, beside the one at step 0; a row of metrics each."""
    n_evaluation_episodes: int = 512
    """Episodes of each evaluation."""
    resume_interval: float = 10.0
    """Seconds between resume files (no result depends on it)."""
    n_threads: int = 1
    """torch threads; results are reproducible only at a fixed number."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        counts = ("total_steps", "n_envs", "n_steps", "n_epochs", "n_minibatches", "n_evaluations", "n_evaluation_episodes", "n_threads")
        fractions = ("td_lambda", "epsilon_start", "epsilon_end", "exploration_fraction")
        positive = ("learning_rate", "final_learning_rate", "max_gradient_norm")
        wrong = [f"{name} >= 1" for name in counts if getattr(self, name) < 1]
        wrong += [f"{name} in [0, 1]" for name in fractions if not 0 <= getattr(self, name) <= 1]
        wrong += [f"{name} > 0" for name in positive if not getattr(self, name) > 0]
        wrong += ["discount in [0, 1]"] * (self.discount is not None and not 0 <= self.discount <= 1)
        wrong += ["n_minibatches <= n_envs"] * (self.n_minibatches > self.n_envs)
        wrong += ["n_checkpoints >= 2"] * (self.n_checkpoints < 2)
        wrong += ["reward_source 'own' or 'yoked'"] * (self.reward_source not in ("own", "yoked"))
        if wrong:
            raise ValueError(f"expected {', '.join(wrong)}; got {self}")

    @property
    def n_updates(self) -> int:
        """Number of rollouts."""
        return -(-self.total_steps // (self.n_envs * self.n_steps))

    def epsilon(self, fraction: float) -> float:
        """Return the probability of exploration after a fraction of the training."""
        progress = 1.0 if fraction >= self.exploration_fraction else fraction / self.exploration_fraction
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * progress


class PqnLearner:
    """Improves a network on rollouts, each used at once and never again.

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

    def __init__(self, network: RecurrentQNetwork, config: PqnConfig, discount: float, generator: torch.Generator) -> None:
        self._network = network
        self._config = config
        self._discount = discount
        self._generator = generator
        self._parameters = list(network.parameters())
        self._optimizer = torch.optim.RAdam(self._parameters, lr=config.learning_rate)
        self._totals = torch.zeros(len(METRICS) + 1, dtype=torch.float64)

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Take `n_epochs * n_minibatches` optimiser steps.

        Raises
        ------
        TrainingDivergedError
            If the rollout, a loss or a gradient is not finite; the weights are left as they were before that step.
        """
        _check_finite(rollout)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        segments = cut_segments(rollout)
        for epoch in range(self._config.n_epochs):
            shuffled = torch.randperm(self._config.n_envs, generator=self._generator)
            for index, envs in enumerate(shuffled.tensor_split(self._config.n_minibatches)):
                minibatch = [batch.of_envs(envs) for batch in segments]
                self._descend(minibatch, len(envs) * self._config.n_steps, f"epoch {epoch}, minibatch {index}")

    def _descend(self, minibatch: list[SegmentBatch], n_rows: int, place: str) -> None:
        """Take one optimiser step on some environments with `n_rows` steps together."""
        self._optimizer.zero_grad()
        measured = torch.zeros(len(METRICS) - 1, dtype=torch.float64)
        for batch in minibatch:
            if batch.env.numel():
                loss, sums = self._loss(batch)
                torch.autograd.backward(loss / n_rows)
                measured += sums
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.max_gradient_norm)
        self._count(torch.cat([measured / n_rows, norm.double().unsqueeze(0)]), place)
        self._optimizer.step()

    def _loss(self, batch: SegmentBatch) -> tuple[Tensor, Tensor]:
        """Return the summed loss, and the sums of loss, absolute TD error and Q."""
        q, _ = self._network.sequence(batch.inputs, batch.core_state)
        next_value = q.detach()[1:].amax(-1)
        target = lambda_returns(
            batch.reward, next_value, batch.terminated, batch.is_last, batch.is_real, self._discount, self._config.td_lambda
        )
        taken = q[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1) * batch.is_real
        td_error = taken - target
        loss = td_error.square().sum() / 2
        with torch.no_grad():
            return loss, torch.stack([loss, td_error.abs().sum(), taken.sum()]).double()

    def _count(self, measured: Tensor, place: str) -> None:
        """Add up metrics, and stop where one of them is not finite."""
        if not measured.isfinite().all():
            values = ", ".join(f"{name} {value:.3g}" for name, value in zip(METRICS, measured.tolist(), strict=True))
            raise TrainingDivergedError(f"training diverged in {place}: {values}; lower learning_rate or max_gradient_norm")
        self._totals[:-1] += measured
        self._totals[-1] += 1

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `METRICS` since the last call (NaN if there was no step)."""
        *sums, count = self._totals.tolist()
        self._totals.zero_()
        return {name: total / count if count else float("nan") for name, total in zip(METRICS, sums, strict=True)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on, the network included."""
        kept = {f"network/{name}": value for name, value in self._network.state_dict().items()}
        for index, entry in self._optimizer.state_dict()["state"].items():
            kept |= {f"optimizer/{index}/{name}": value for name, value in entry.items()}
        return kept | {"generator": self._generator.get_state(), "totals": self._totals}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._network.load_state_dict(_below("network/", saved))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("optimizer/", saved).items():
            index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
        self._generator.set_state(saved["generator"])
        self._totals = saved["totals"]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_finite(rollout: Rollout) -> None:
    """Refuse what the world should not have given."""
    for what, values in (("an input", rollout.inputs), ("an input", rollout.successors), ("a reward", rollout.reward)):
        if not values.isfinite().all():
            env, step = (~values.isfinite()).nonzero()[0, :2].tolist()
            raise TrainingDivergedError(
                f"{what} is not finite in environment {env}, step {step} of the rollout: the world gave it; mend the world"
            )
