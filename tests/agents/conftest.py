from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from worldprobe.worlds import Factor, Headline, State, World


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute on one thread, as training does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Corridor(World):
    """Walks x -> x + 1 (action 1) or stays (action 0); paid x; ends beyond `end`, is cut at `time_limit`. No chance but the start."""

    name = "corridor"
    observation_shape = (2,)
    action_names = ("stay", "go")
    discount = 0.9
    factors = (Factor("x", "continuous", 1),)
    headline = Headline("x", 1)
    exploration = (0.5, 0.5)

    def __init__(self, end: int = 4, time_limit: int = 6, n_starts: int = 3) -> None:
        self.end = end
        self.time_limit = time_limit
        self.n_starts = n_starts

    def reset(self, n: int, generator: torch.Generator) -> State:
        return {"x": torch.randint(self.n_starts, (n,), generator=generator)}

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        x = state["x"].float()
        return torch.stack([x, torch.ones_like(x)], 1)

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        x = state["x"] + action
        return {"x": x}, state["x"].float(), x > self.end

    def factor_values(self, state: State) -> dict[str, Tensor]:
        return {"x": state["x"].float().unsqueeze(1)}


@pytest.fixture
def corridor() -> Callable[..., World]:
    """Build a world in which everything can be worked out by hand."""
    return Corridor
