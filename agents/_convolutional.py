"""The encoder of observations that are images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from worldprobe.agents._undrawn import undrawn

KERNEL = 3


class ConvolutionalEncoder(nn.Module):
    """Conv 3x3 (-> norm over all channels and cells) -> ReLU per size, on maps as large as the observation, flattened at the end.

    What is received beside the observation (a_{t-1}, r_{t-1}) comes in as planes of equal values.

    Parameters
    ----------
    observation_shape : tuple of int
        (channels, height, width).
    input_size : int
        Width of all inputs; the flattened observation comes first.
    sizes : sequence of int
        Channels of every layer, at least one.
    layer_norm : bool
        Whether layers are normalised before their ReLU.

    Raises
    ------
    ValueError
        If there is no image, or no layer.
    """

    def __init__(self, observation_shape: tuple[int, ...], input_size: int, sizes: Sequence[int], layer_norm: bool) -> None:
        super().__init__()
        if len(observation_shape) != 3 or input_size < math.prod(observation_shape) or not sizes:
            raise ValueError(
                "a convolutional encoder needs at least one size and images (channels, height, width) among its inputs; got sizes "
                f"{tuple(sizes)} and observations of shape {observation_shape} in {input_size} inputs"
            )
        self._shape = observation_shape
        self._image_size = math.prod(observation_shape)
        channels = observation_shape[0] + input_size - self._image_size
        layers: list[nn.Module] = []
        for size in sizes:
            layers.append(undrawn(nn.Conv2d, channels, size, KERNEL, padding="same"))
            layers += [nn.GroupNorm(1, size)] if layer_norm else []
            layers.append(nn.ReLU())
            channels = size
        self.layers = nn.Sequential(*layers)
        self.map_size = (observation_shape[1], observation_shape[2])
        self.output_size = channels * math.prod(self.map_size)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., input_size) to maps, flattened (..., output_size)."""
        image, rest = torch.split(inputs, [self._image_size, inputs.shape[-1] - self._image_size], -1)
        maps = image.reshape(-1, *self._shape)
        planes = rest.reshape(len(maps), -1, 1, 1).expand(-1, -1, *self.map_size)
        encoded: Tensor = self.layers(torch.cat([maps, planes], 1))
        return encoded.reshape(*inputs.shape[:-1], self.output_size)
