"""A head that says where an action leads, given a goal and a horizon."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from worldprobe.agents._dense import dense_layers
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._undrawn import undrawn

DEFAULT_SIZES = (128,)
"""Widths of its layers where `NetworkConfig.head_sizes` names none: a linear one could not let goals matter differently by state."""


class GoalHead(nn.Module):
    """f(h, a, g, tau): the observation that is expected tau + 1 steps after action a, when everything is done to end near g.

    Parameters
    ----------
    input_size : int
        Width of the core's output h.
    config : NetworkConfig
        Its number of horizons, and the widths of its layers.
    observation_size, n_actions : int
        Of goals and predictions; of actions.
    """

    def __init__(self, input_size: int, config: NetworkConfig, observation_size: int, n_actions: int) -> None:
        super().__init__()
        self._n_horizons, self._shape = config.horizons, (n_actions, observation_size)
        sizes = config.head_sizes or DEFAULT_SIZES
        width = input_size + observation_size + config.horizons
        self.layers = nn.Sequential(*dense_layers(width, sizes, False), undrawn(nn.Linear, sizes[-1], n_actions * observation_size))

    def forward(self, y: Tensor, goal: Tensor, horizon: Tensor) -> Tensor:
        """Return predictions (..., n_actions, observation_size) of y (..., input_size), goals (..., observation_size), horizons (...)."""
        when = one_hot(horizon, self._n_horizons).to(y.dtype)
        predicted: Tensor = self.layers(torch.cat([y, goal, when], -1))
        return predicted.view(*predicted.shape[:-1], *self._shape)
