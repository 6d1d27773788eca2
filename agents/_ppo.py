"""PPO: a recurrent actor-critic on whole fused sequences, the policy-gradient side of the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldprobe.agents._lambda_returns import lambda_returns
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._on_policy import OnPolicyConfig, OnPolicyLearner
from worldprobe.agents._segments import SegmentBatch, Segments

METRICS = ("policy_loss", "value_loss", "entropy", "clipped", "explained_variance", "gradient_norm")
"""What is measured at every optimiser step."""


@dataclass(frozen=True)
class PpoConfig(OnPolicyConfig):
    """How a recurrent actor-critic is trained by PPO, with Adam. It explores by drawing its actions; epsilon is not used."""

    algorithm: ClassVar[str] = "ppo"

    n_epochs: int = 4
    """Passes over each rollout."""
    gae_lambda: float = 0.95
    """lambda of the advantages."""
    clip: float = 0.2
    """How far the probability of an action may move, as a ratio, before nothing more is gained by moving it."""
    entropy_weight: float = 0.01
    """Of the policy's entropy, in nats."""
    value_weight: float = 0.5
    """Of the squared error of values."""
    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        wrong = super()._wrong() + self._no_fraction("gae_lambda")
        wrong += ["clip > 0"] * (not self.clip > 0)
        return wrong + [f"{name} >= 0" for name in ("entropy_weight", "value_weight") if not getattr(self, name) >= 0]


@dataclass(frozen=True)
class _Lived:
    """What the policy that acted thought of each step of a rollout, (n_envs * n_steps,)."""

    log_probability: Tensor
    advantage: Tensor
    value_target: Tensor


class PpoLearner(OnPolicyLearner):
    r"""Improves an actor-critic on rollouts, each used for some epochs and never again. A `Learner`.

    .. math:: -\min(\rho_t A_t,\ \mathrm{cut}(\rho_t, 1 \pm c) A_t) + \tfrac{v}{2} (V(h_t) - G_t)^2 - e H(\pi(h_t)), \qquad
        \rho_t = \pi(a_t | h_t) / \pi_{old}(a_t | h_t),

    with G_t the lambda-return of the values of the policy that acted, and A_t = G_t - V_old(h_t), which is the generalised advantage;
    advantages are standardised over each minibatch.

    Parameters
    ----------
    network : RecurrentQNetwork
        An actor-critic, trained in place.
    config : PpoConfig
        How.
    discount : float
        gamma.
    generator : torch.Generator
        Shuffles environments into minibatches.

    References
    ----------
    Schulman et al. 2017, "Proximal policy optimization algorithms"; Schulman et al. 2016, "High-dimensional continuous control using
    generalized advantage estimation".
    """

    metrics: tuple[str, ...] = METRICS

    def __init__(self, network: RecurrentQNetwork, config: PpoConfig, discount: float, generator: torch.Generator) -> None:
        super().__init__(network, config, generator, torch.optim.Adam)
        self._config, self._discount = config, discount

    def _judge(self, batch: SegmentBatch) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of all actions (length + 1, n, A) and values (length + 1, n); differentiable."""
        log_policy, value = self._network.preferences_and_value(self._network.segment_features(batch, batch.core_state))
        return batch.on_grid(log_policy.cpu()), batch.on_grid(value.cpu())

    @torch.no_grad()
    def _look_back(self, segments: Segments) -> None:
        """Judge a whole rollout by the policy that acted in it."""
        batch = segments.batch()
        log_policy, value = self._judge(batch)
        target = lambda_returns(
            batch.reward, value[1:], batch.terminated, batch.is_last, batch.is_real, self._discount, self._config.gae_lambda
        )
        taken = log_policy[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        real, rows = batch.is_real, batch.row[batch.is_real]
        self._lived = _Lived(*(torch.empty(len(rows)).index_copy(0, rows, each[real]) for each in (taken, target - value[:-1], target)))

    def _backward(self, batch: SegmentBatch) -> Tensor:
        """Put gradients on the network; return all metrics but the last."""
        config, lived, real = self._config, self._lived, batch.is_real
        rows = batch.row[real]
        log_policy, value = self._judge(batch)
        taken = log_policy[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)[real]
        advantage, target = lived.advantage[rows], lived.value_target[rows]
        scaled = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        ratio = (taken - lived.log_probability[rows]).exp()
        policy_loss = -torch.minimum(ratio * scaled, ratio.clamp(1 - config.clip, 1 + config.clip) * scaled).mean()
        error = value[:-1][real] - target
        value_loss = error.square().mean() / 2
        chosen = log_policy[:-1][real]
        entropy = -(chosen.exp() * chosen).sum(-1).mean()
        torch.autograd.backward(policy_loss + config.value_weight * value_loss - config.entropy_weight * entropy)
        with torch.no_grad():
            clipped = ((ratio - 1).abs() > config.clip).float().mean()
            explained = 1 - error.var(correction=0) / target.var(correction=0).clamp_min(1e-12)
            return torch.stack([policy_loss, value_loss, entropy, clipped, explained]).double()
