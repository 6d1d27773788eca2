"""Every core by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from worldprobe.agents._cores import Core, CoreShape, LayeredCore
from worldprobe.agents._drc import DRCCore
from worldprobe.agents._layers import FeedForwardLayer, GRULayer, LSTMLayer, RNNLayer
from worldprobe.agents._scan_layers import LRULayer, MinGRULayer

CORES: dict[str, Callable[[CoreShape], Core]] = {
    "lstm": partial(LayeredCore, LSTMLayer),
    "gru": partial(LayeredCore, GRULayer),
    "rnn": partial(LayeredCore, RNNLayer),
    "lru": partial(LayeredCore, LRULayer),
    "mingru": partial(LayeredCore, MinGRULayer),
    "feedforward": partial(LayeredCore, FeedForwardLayer),
    "drc": DRCCore,
}
"""Every core, by name; "feedforward" is the memoryless control, "drc" works on maps."""
