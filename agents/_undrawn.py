"""Modules whose weights are not drawn yet: the global generator is neither read nor moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

Built = TypeVar("Built", bound=nn.Module)


def undrawn(kind: Callable[..., Built], *sizes: Any, **options: Any) -> Built:
    """Build a module of torch with memory for its weights and nothing in it; on the meta device, without memory either."""
    return kind(*sizes, device="meta", **options).to_empty(device=torch.get_default_device())
