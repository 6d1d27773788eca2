"""Contexts in which a factor is looked at apart: what is observed, together with all else that is true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.worlds import World

Integers = NDArray[np.int64]

MAX_CONTEXTS = 64
"""Contexts up to which a factor is looked at in each apart."""


def contexts(inputs: Tensor, factors: Mapping[str, Tensor], world: World, factor: str) -> Integers:
    """Number the contexts of rows (n,): what is observed, together with all else that is true.

    All else are the categorical factors that do not themselves say what the factor is, and that it does not say. Where that makes too
    many contexts, the observation alone.
    """
    labels = factors[factor].numpy()
    kinds = observation_kinds(inputs, world)
    others = [factors[each.name].numpy() for each in world.factors if each.kind == "categorical" and each.name != factor]
    free = [values for values in others if not determines(values, labels) and not determines(labels, values)]
    joint = _numbered(np.stack([kinds, *free], axis=1))
    return joint if joint.any() else kinds


def observation_kinds(inputs: Tensor, world: World) -> Integers:
    """Number the kinds of observation among inputs (n, input_size), whose first columns they are; one kind if there are too many."""
    size = world.observation_size if inputs.shape[1] >= world.observation_size + world.n_actions else 0
    return _numbered(inputs[:, :size].numpy())


def determines(values: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Whether labels are a function of values, in these rows."""
    codes = _numbered(values[:, None], most=len(values))
    first = np.zeros(int(codes.max()) + 1, labels.dtype)
    first[codes] = labels
    return bool(np.all(first[codes] == labels))


def _numbered(rows: NDArray[Any], most: int = MAX_CONTEXTS) -> Integers:
    """Number distinct rows (n, width); all zero if there are more than `most`."""
    _, codes = np.unique(rows, axis=0, return_inverse=True)
    numbers = codes.reshape(-1).astype(np.int64)
    return numbers if numbers.max(initial=0) < most else np.zeros_like(numbers)
