"""The trunk of every network: encoder -> core, with what all heads on it share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Self

import torch
from torch import Tensor, nn

from worldprobe.agents._convolutional import ConvolutionalEncoder
from worldprobe.agents._core_registry import CORES
from worldprobe.agents._cores import Core
from worldprobe.agents._dense import BEFORE_RELU, dense_layers, draw_dense
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._segments import SegmentBatch
from worldprobe.agents._training_config import PRECISIONS, Precision


class Trunk(nn.Module, ABC):
    """Encoder -> core; a subclass adds the head, and `q_values`, by which it acts. An `Agent`.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    input_size, n_actions : int
        Widths of what comes in and goes out.
    name : str
        What the agent is called in tables.
    observation_shape : tuple of int
        Of the world's observations; matters where they are seen as images.
    """

    head: nn.Module

    def __init__(self, config: NetworkConfig, input_size: int, n_actions: int, name: str, observation_shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.channels = frozenset(config.channels)
        self.n_actions = n_actions
        self.input_size = input_size
        self.observation_shape = tuple(observation_shape)
        self.encoder: nn.Module
        map_size = (0, 0)
        if config.encoder == "convolutional":
            images = self.observation_shape if "observation" in config.channels else ()
            self.encoder = ConvolutionalEncoder(images, input_size, config.encoder_sizes, config.layer_norm)
            encoded_size, map_size = self.encoder.output_size, self.encoder.map_size
        else:
            self.encoder = nn.Sequential(*dense_layers(input_size, config.encoder_sizes, config.layer_norm))
            encoded_size = (input_size, *config.encoder_sizes)[-1]
        self.core = CORES[config.core](config.core_shape(encoded_size, map_size))
        self.state_size = self.core.state_size
        self.sites = {"encoder": encoded_size, **self.core.sites, "q": n_actions}
        self.carried = self.core.carried
        self._learns_in: Precision = "float32"
        self._is_compiled = False

    def run_on(self, device: str, precision: Precision = "float32", *, compiled: bool = False) -> Self:
        """Compute on a device from here on; what comes in, and what is acted on, stays in main memory.

        Parameters
        ----------
        device : str
            "cpu", "cuda" or "cuda:1".
        precision : str
            "bfloat16": encoder and core multiply in bfloat16 where they are learned from (automatic mixed precision); weights,
            heads, losses and the optimiser stay in float32, and so does acting.
        compiled : bool
            Whether the core is compiled where it is learned from (`torch.compile`, within a minute, at its first use). It pays for
            cores that are written out here (lru, mingru); the fused kernels of the others are library code already.

        Raises
        ------
        ValueError
            If there is no such device here, or no such precision.
        """
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {device!r} needs a GPU that torch can use; there is none here: take 'cpu'")
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
        self._learns_in, self._is_compiled = precision, compiled
        return self.to(device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @abstractmethod
    def q_values(self, y: Tensor, inputs: Tensor) -> Tensor:
        """Return what the network acts on, greedily (..., n_actions), from the core's output (..., output_size) on inputs."""

    def _draw_trunk(self, generator: torch.Generator) -> None:
        """Draw orthogonal encoder weights (gain sqrt 2) and the core's own."""
        draw_dense(self.encoder, generator, BEFORE_RELU)
        self.core.initialise(generator)

    def initial_state(self, n: int) -> Tensor:
        """Return zeros, the core state in which every episode begins."""
        return torch.zeros(n, self.state_size)

    def features(self, inputs: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the core's output (T, n, output_size) and the last core state; differentiable.

        Parameters
        ----------
        inputs : Tensor
            (T, n, input_size).
        state : Tensor
            Core state before the first step, (n, state_size).
        gap : Tensor, optional
            bool (T, n): rows that hold no step; the state is zeros after them. None: there are none.
        """
        here = self.device
        return self.core.sequence(self.encoder(inputs.to(here)), state.to(here), None if gap is None else gap.to(here))

    def sequence(self, inputs: Tensor, state: Tensor, gap: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return Q (T, n, n_actions) and the last core state of `features`; differentiable."""
        y, state = self.features(inputs, state, gap)
        return self.q_values(y, inputs), state

    def segment_features(self, batch: SegmentBatch, state: Tensor) -> Tensor:
        """Return the core's output (height, n_lanes, output_size) of lanes that begin in `state`; differentiable."""
        here = self.device
        run = compiled_sequence() if self._is_compiled else run_sequence
        with torch.autocast(here.type, torch.bfloat16) if self._learns_in == "bfloat16" else nullcontext():
            gap = None if batch.gap is None else batch.gap.to(here)
            y, _ = run(self.core, self.encoder(batch.inputs.to(here)), state.to(here), gap)
        return y.float()

    def segment_values(self, batch: SegmentBatch, state: Tensor) -> Tensor:
        """Return Q by step and segment (length + 1, n, n_actions) of lanes that begin in `state`; differentiable."""
        return batch.on_grid(self.q_values(self.segment_features(batch, state), batch.inputs).cpu())

    @torch.no_grad()
    def values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return Q (n, n_actions) of core states (n, state_size) that took in `inputs` (n, input_size); no gradient."""
        here = self.device
        return self.q_values(self.core.given(self.encoder(inputs.to(here)), state.to(here)), inputs).cpu()

    @torch.no_grad()
    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state, which stays where it is; from zeros where `reset` (n,) holds; no gradient."""
        here = self.device
        y, state = self.core.step(self.encoder(inputs.to(here)), state.to(here), reset.to(here))
        return self.q_values(y, inputs).cpu(), state

    @torch.no_grad()
    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return every site (T, n, width), and "core.state", over one unbroken stretch; no gradient."""
        encoded = self.encoder(inputs.to(self.device))
        y, core = self.core.record(encoded, state.to(self.device))
        return {site: values.cpu() for site, values in {"encoder": encoded, **core, **self._of_head(y, inputs)}.items()}

    def _of_head(self, y: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        """Return the sites of the head, from the core's output on inputs."""
        return {"q": self.q_values(y, inputs)}


SequenceRun = Callable[[Core, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def run_sequence(core: Core, x: Tensor, state: Tensor, gap: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the core's output over a sequence, and its last state."""
    return core.sequence(x, state, gap)


@cache
def compiled_sequence() -> SequenceRun:
    """Return `run_sequence`, compiled for any length and number of rows."""
    compiled: SequenceRun = torch.compile(run_sequence, dynamic=True)
    return compiled
