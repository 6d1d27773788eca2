"""Small random worlds for the property tests: stochastic observations, several rewards, states that end the episode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from worldprobe.worlds import Factor, FiniteTables, FiniteWorld, Headline

torch.set_num_threads(1)  # tensors are small here: a second thread only waits

RandomWorld = Callable[[int], FiniteWorld]


@pytest.fixture(scope="session")
def random_world() -> RandomWorld:
    return _random_world


def _random_world(seed: int) -> FiniteWorld:
    """Build a world of 4 states (the last one terminal), 2 actions and 2 observations."""
    S, A, n_observations = 4, 2, 2
    generator = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> torch.Tensor:
        weights = torch.rand(*shape, generator=generator, dtype=torch.float64)
        weights = weights * (torch.rand(*shape, generator=generator) < 0.7)
        weights[..., 0] += 0.1
        return weights / weights.sum(-1, keepdim=True)

    transition = rows(A, S, S)
    transition[:, -1] = torch.eye(S, dtype=torch.float64)[-1]
    initial = rows(S)
    initial[-1] = 0
    reward = torch.randint(-1, 2, (A, S, S), generator=generator).double()
    reward[:, -1] = 0
    tables = FiniteTables(initial / initial.sum(), transition, rows(S, n_observations), reward, torch.arange(S) == S - 1)
    return FiniteWorld(
        tables,
        name="random",
        factors={Factor("state", "categorical", S): torch.arange(S)},
        action_names=("a", "b"),
        discount=0.9,
        time_limit=3,
        exploration=(0.5, 0.5),
        headline=Headline("state", 1),
    )
