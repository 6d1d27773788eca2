"""Optimiser steps that are clipped, measured, refused where they are not finite, and gone on with bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worldprobe.agents._learner import TrainingDivergedError, below, under

METRICS = ("loss", "td_error", "q_mean", "gradient_norm")
"""What is measured at every optimiser step of Q-learning; logged as means since the last row."""

FASTEST: dict[type[torch.optim.Optimizer], dict[str, Any]] = {torch.optim.Adam: {"fused": True}, torch.optim.RAdam: {"foreach": True}}
"""Forms of the optimisers that take all weights at once."""


class Descent:
    """Steps of one optimiser on one network.

    Parameters
    ----------
    network : nn.Module
        What is moved, in place.
    optimizer : type
        Class of the optimiser, built with its defaults in the fastest form it has; the learning rate is set before every update.
    max_gradient_norm : float
        Gradients are scaled down to this norm.
    metrics : tuple of str
        What is measured at every step, "gradient_norm" last.
    """

    def __init__(
        self, network: nn.Module, optimizer: type[torch.optim.Optimizer], max_gradient_norm: float, metrics: tuple[str, ...] = METRICS
    ) -> None:
        self.metrics = metrics
        self._network = network
        self._parameters = list(network.parameters())
        self._optimizer = optimizer(self._parameters, **FASTEST[optimizer])
        self._max_gradient_norm = max_gradient_norm
        self._totals = torch.zeros(len(metrics) + 1, dtype=torch.float64)

    def begin(self, learning_rate: float) -> None:
        """Forget gradients and set the step size."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad()

    def step(self, measured: Tensor, place: str) -> None:
        """Take a step down the gradients that are there.

        Parameters
        ----------
        measured : Tensor
            float64: values of all `metrics` but the last.
        place : str
            Where in the update this is, for messages.

        Raises
        ------
        TrainingDivergedError
            If a measurement or the norm of the gradient is not finite; the weights are left as they were.
        """
        norm = nn.utils.get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        measured = torch.cat([measured, norm.double().cpu().unsqueeze(0)])
        if not measured.isfinite().all():
            values = ", ".join(f"{name} {value:.3g}" for name, value in zip(self.metrics, measured.tolist(), strict=True))
            where = f"training diverged in {place}: {values}; {self._broken()}"
            raise TrainingDivergedError(f"{where}; lower learning_rate or max_gradient_norm")
        nn.utils.clip_grads_with_norm_(self._parameters, self._max_gradient_norm, norm)
        self._totals[:-1] += measured
        self._totals[-1] += 1
        self._optimizer.step()

    def _broken(self) -> str:
        """Return which weights or, if all of them are finite, which gradients are not."""
        named = dict(self._network.named_parameters())
        weights = [name for name, each in named.items() if not each.isfinite().all()]
        gradients = [name for name, each in named.items() if each.grad is not None and not each.grad.isfinite().all()]
        if not weights and not gradients:
            return "all weights and gradients are finite"
        names = weights or gradients
        more = f" and {len(names) - 3} more" * (len(names) > 3)
        return f"the {'weights' if weights else 'gradients'} of {', '.join(names[:3])}{more} are not finite"

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `metrics` since the last call (NaN if there was no step)."""
        *sums, count = self._totals.tolist()
        self._totals.zero_()
        return {name: total / count if count else float("nan") for name, total in zip(self.metrics, sums, strict=True)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return network, optimiser and running totals."""
        kept = under("network/", self._network.state_dict())
        for index, entry in self._optimizer.state_dict()["state"].items():
            kept |= under(f"optimizer/{index}/", entry)
        return kept | {"totals": self._totals}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._network.load_state_dict(below("network/", saved))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in below("optimizer/", saved).items():
            index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
        self._totals = saved["totals"]
