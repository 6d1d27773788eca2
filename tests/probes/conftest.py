"""Planted codes: activations that hold something known, in episodes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # networks are small here: a second thread only waits


@pytest.fixture(scope="session")
def plant() -> Callable[..., SimpleNamespace]:
    return _plant


def _plant(n_groups: int = 40, length: int = 25, n_features: int = 6, noise: float = 0.5, seed: int = 0) -> SimpleNamespace:
    """Draw activations X (correlated, of unequal scales), real targets Y that are linear in them, labels of three classes, and groups."""
    rng = np.random.default_rng(seed)
    n = n_groups * length
    latent = rng.normal(size=(n, n_features))
    X = latent @ rng.normal(size=(n_features, n_features)) * np.logspace(-1, 1, n_features) + rng.normal(size=n_features)
    Y = latent[:, :3] + noise * rng.normal(size=(n, 3))
    return SimpleNamespace(X=X, Y=Y, labels=Y.argmax(axis=1), groups=np.repeat(np.arange(n_groups), length))
