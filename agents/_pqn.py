"""PQN(lambda): Q-learning without replay and without a target network, on whole fused sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from worldprobe.agents._descent import METRICS
from worldprobe.agents._from_json import added
from worldprobe.agents._lambda_returns import lambda_returns
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._on_policy import OnPolicyConfig, OnPolicyLearner
from worldprobe.agents._segments import SegmentBatch


@dataclass(frozen=True)
class PqnConfig(OnPolicyConfig):
    """How a recurrent Q-network is trained by PQN(lambda), with RAdam."""

    algorithm: ClassVar[str] = "pqn"

    td_lambda: float = 0.9
    """lambda of the Q(lambda) targets; heads of rewards that are not acted on are off their policy: 0 is right for them."""
    bootstrap: Literal["own", "common"] = added("own")
    """Which action the targets of several heads go on with: "own": the best of each head (action values of every reward); "common": the
    best of what is acted on (successor features of its policy)."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        wrong = super()._wrong() + self._no_fraction("td_lambda")
        return wrong + ["bootstrap 'own' or 'common'"] * (self.bootstrap not in ("own", "common"))


class PqnLearner(OnPolicyLearner):
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
        super().__init__(network, config, generator, torch.optim.RAdam)
        self._config, self._discount = config, discount

    def _backward(self, batch: SegmentBatch) -> Tensor:
        """Put gradients on the network; return the means of loss, absolute TD error and Q over steps."""
        n_rows = int(batch.is_real.sum())
        if self._network.n_rewards > 1:
            return self._backward_heads(batch, n_rows)
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

    def _backward_heads(self, batch: SegmentBatch, n_rows: int) -> Tensor:
        """The same for several reward functions, each with a head; measured are means over heads."""
        values, task = self._network.segment_heads(batch, batch.core_state)
        following, n_heads = values.detach()[1:], values.shape[2]
        if self._config.bootstrap == "own":
            next_value = following.amax(-1)
        else:
            best = (task[1:].unsqueeze(-1) * following).sum(2).argmax(-1)
            next_value = following.gather(-1, best[..., None, None].expand(*following.shape[:3], 1)).squeeze(-1)
        ended, last, real = (each.repeat_interleave(n_heads, 1) for each in (batch.terminated, batch.is_last, batch.is_real))
        target = lambda_returns(
            batch.reward.flatten(1), next_value.flatten(1), ended, last, real, self._discount, self._config.td_lambda
        ).view_as(next_value)
        chosen = batch.action[..., None, None].expand(*following.shape[:3], 1)
        taken = values[:-1].gather(-1, chosen).squeeze(-1) * batch.is_real.unsqueeze(-1)
        td_error = taken - target
        loss = td_error.square().sum() / (2 * n_heads)
        torch.autograd.backward(loss / n_rows)
        with torch.no_grad():
            return torch.stack([loss, td_error.abs().sum() / n_heads, taken.sum() / n_heads]).double() / n_rows
