"""Declared relevance is what Q* says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldprobe.worlds import WORLDS, Factor, FiniteTables, FiniteWorld, Headline, factor_relevance, make_world

DECLARED = [(name, factor) for name in WORLDS if isinstance(world := make_world(name), FiniteWorld) for factor in world.factors]


@pytest.mark.parametrize(("name", "factor"), DECLARED, ids=lambda part: part if isinstance(part, str) else part.name)
def test_declared_relevance_is_computed(name: str, factor: Factor) -> None:
    world = make_world(name)
    assert isinstance(world, FiniteWorld)
    assert factor.relevance in {"unknown", factor_relevance(world, factor.name)}


def product_world(pays_by: str) -> FiniteWorld:
    """Two unseen bits that flip at random; action 1 pays by one of them, or both actions do."""
    first, second = torch.arange(4) // 2, torch.arange(4) % 2
    move = torch.full((2, 4, 4), 0.25, dtype=torch.float64)
    reward = torch.zeros(2, 4, 4, dtype=torch.float64)
    if pays_by == "action":
        reward[1] = (2 * first.double() - 1).unsqueeze(1)
    else:
        reward[:] = first.double().unsqueeze(1)
    sight = torch.ones(4, 1, dtype=torch.float64)
    return FiniteWorld(
        FiniteTables(torch.full((4,), 0.25, dtype=torch.float64), move, sight, reward, torch.zeros(4, dtype=torch.bool)),
        name="product",
        factors={
            Factor("first", "categorical", 2): first,
            Factor("second", "categorical", 2): second,
            Factor("constant", "categorical", 1): torch.zeros(4, dtype=torch.int64),
        },
        action_names=("wait", "act"),
        discount=0.9,
        time_limit=5,
        exploration=(0.5, 0.5),
        headline=Headline("first", 1),
    )


@pytest.mark.parametrize(("pays_by", "expected"), [("action", "policy"), ("state", "value")])
def test_planted_relevance_is_found(pays_by: str, expected: str) -> None:
    world = product_world(pays_by)
    assert factor_relevance(world, "first") == expected
    assert factor_relevance(world, "second") == "irrelevant"
    assert factor_relevance(world, "constant") == "unknown"


def test_what_differs_only_in_terminal_states_is_not_compared() -> None:
    world = product_world("action")
    tables = world.tables
    ended = torch.tensor([False, False, True, True])
    move = tables.transition.clone()
    move[:, ended] = torch.eye(4, dtype=torch.float64)[ended]
    reward = tables.reward.clone()
    reward[:, ended] = 0
    initial = torch.tensor([0.5, 0.5, 0, 0], dtype=torch.float64)
    world.tables = replace(tables, transition=move, reward=reward, terminal=ended, initial=initial)
    assert factor_relevance(world, "first") == "unknown"


def test_unknown_factors_are_refused() -> None:
    with pytest.raises(KeyError, match="no factor 'colour'"):
        factor_relevance(product_world("action"), "colour")
