"""Temporal difference models: what an action leads to, for any goal and horizon, learned without a reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldprobe.agents._goal_head import GoalHead
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._on_policy import OnPolicyConfig, OnPolicyLearner
from worldprobe.agents._segments import SegmentBatch

METRICS = ("loss", "one_step_loss", "gradient_norm")
"""What is measured at every optimiser step."""


@dataclass(frozen=True)
class TdmConfig(OnPolicyConfig):
    """How a recurrent temporal difference model is trained, with RAdam, on undirected behaviour; no reward is used."""

    algorithm: ClassVar[str] = "tdm"

    n_goals: int = 4
    """Goals and horizons that every step is learned for, in every pass anew."""
    epsilon_end: float = 1.0
    """Probability of exploration after `exploration_fraction` of the steps; 1: behaviour aims at nothing."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        return super()._wrong() + self._below_one("n_goals")


class TdmLearner(OnPolicyLearner):
    r"""Draws predictions of each step towards what followed, for goals and horizons that are made up afterwards. A `Learner`.

    .. math:: f(h_t, a_t, g, 0) \to o_{t+1}, \qquad f(h_t, a_t, g, \tau) \to f(h_{t+1}, a', g, \tau - 1), \quad
        a' = \arg\min_a \lVert f(h_{t+1}, a, g, \tau - 1) - g \rVert_1 ,

    by squared errors, so that predictions are means. Goals are observations of the same minibatch, horizons uniform. After a
    termination nothing moves: the prediction is what was seen last.

    Parameters
    ----------
    network : RecurrentQNetwork
        With horizons, trained in place.
    config : TdmConfig
        How.
    discount : float
        Not used: horizons take its place.
    generator : torch.Generator
        Shuffles environments, draws goals and horizons.

    References
    ----------
    Pong, Gu, Dalal & Levine 2018, "Temporal difference models: model-free deep RL for model-based control" (vector-valued form).
    """

    metrics: tuple[str, ...] = METRICS

    def __init__(self, network: RecurrentQNetwork, config: TdmConfig, discount: float, generator: torch.Generator) -> None:
        assert isinstance(network.head, GoalHead)
        super().__init__(network, config, generator, torch.optim.RAdam)
        self._config, self._head = config, network.head

    def _backward(self, batch: SegmentBatch) -> Tensor:
        """Put gradients on the network; return the mean loss, and that of the shortest horizon."""
        size, m = self._network.observation_size, self._config.n_goals
        y = batch.on_grid(self._network.segment_features(batch, batch.core_state))
        here, real = y.device, batch.is_real
        seen = batch.on_grid(batch.inputs[..., :size]).to(here)
        now, after, followed = (each[real.to(here)].repeat_interleave(m, 0) for each in (y[:-1], y[1:].detach(), seen[1:]))
        action, ended = (each[real].repeat_interleave(m, 0).to(here) for each in (batch.action, batch.terminated))
        n = len(action)
        goal = followed[torch.randint(n, (n,), generator=self._generator).to(here)]
        horizon = torch.randint(self._network.config.horizons, (n,), generator=self._generator).to(here)
        with torch.no_grad():
            ahead = self._head(after, goal, (horizon - 1).clamp_min(0))
            nearest = (ahead - goal.unsqueeze(1)).abs().sum(-1).argmin(1)
            reached = ahead[torch.arange(n, device=here), nearest]
            target = torch.where(((horizon == 0) | ended).unsqueeze(1), followed, reached)
        predicted = self._head(now, goal, horizon)[torch.arange(n, device=here), action]
        error = (predicted - target).square().sum(-1)
        torch.autograd.backward(error.mean() / 2)
        with torch.no_grad():
            shortest = error[horizon == 0].mean() / 2 if (horizon == 0).any() else error.new_zeros(())
            return torch.stack([error.mean() / 2, shortest]).double().cpu()
