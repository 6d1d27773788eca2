"""Feed-forward layers before and after the core."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from worldprobe.agents._undrawn import undrawn

BEFORE_RELU, SMALL = 2**0.5, 0.1
"""Gains of orthogonal weights: of layers with a ReLU behind them, and of heads."""


class DuelingHead(nn.Module):
    """Q(a) = V + A(a) - mean A, both linear in the core's output.

    Parameters
    ----------
    input_size, n_actions : int
        Widths of what comes in and goes out.

    References
    ----------
    Wang et al. 2016, "Dueling network architectures for deep reinforcement learning", eq. 9.
    """

    def __init__(self, input_size: int, n_actions: int) -> None:
        super().__init__()
        self.value = undrawn(nn.Linear, input_size, 1)
        self.advantage = undrawn(nn.Linear, input_size, n_actions)

    def forward(self, y: Tensor) -> Tensor:
        """Return Q (..., n_actions) of y (..., input_size)."""
        advantage: Tensor = self.advantage(y)
        value: Tensor = self.value(y)
        return value + advantage - advantage.mean(-1, keepdim=True)


def dense_layers(input_size: int, sizes: Sequence[int], layer_norm: bool) -> list[nn.Module]:
    """Return Linear (-> LayerNorm) -> ReLU for every size, not drawn yet."""
    layers: list[nn.Module] = []
    for size in sizes:
        layers.append(undrawn(nn.Linear, input_size, size))
        layers += [nn.LayerNorm(size)] if layer_norm else []
        layers.append(nn.ReLU())
        input_size = size
    return layers


def q_head(input_size: int, sizes: Sequence[int], n_actions: int, dueling: bool) -> nn.Module:
    """Return the module from the core's output to action values, not drawn yet."""
    last_size = (input_size, *sizes)[-1]
    last = DuelingHead(last_size, n_actions) if dueling else undrawn(nn.Linear, last_size, n_actions)
    return nn.Sequential(*dense_layers(input_size, sizes, False), last) if sizes else last


def draw_dense(module: nn.Module, generator: torch.Generator, gain: float) -> None:
    """Draw orthogonal weights of every linear or convolutional layer in a module, in order; biases begin at zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(part.weight, gain, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def draw_head(head: nn.Module, generator: torch.Generator) -> None:
    """Draw a head: hidden layers for their ReLUs, the last one small, so that values begin near zero."""
    *hidden, last = head if isinstance(head, nn.Sequential) else [head]
    for layer in hidden:
        draw_dense(layer, generator, BEFORE_RELU)
    draw_dense(last, generator, SMALL)
