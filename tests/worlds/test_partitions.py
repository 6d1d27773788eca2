"""Abstractions of a law: bisimulation is finer than equal Q*, and that finer than equal optimal actions; planted copies are merged."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.worlds import FiniteTables, RandomConfig, RandomWorld, TMaze, bisimulation, optimal_sets, q_irrelevance, solve_mdp


def refines(finer: Tensor, coarser: Tensor) -> bool:
    """Whether states of one finer block are always in one coarser block."""
    pairs = {(int(a), int(b)) for a, b in zip(finer, coarser, strict=True)}
    return len(pairs) == int(finer.max()) + 1


def with_copies(tables: FiniteTables, copies: Tensor, generator: torch.Generator) -> tuple[FiniteTables, Tensor]:
    """Split every state into some copies that share out what leads to it at random; return the tables and the original of each."""
    original = torch.arange(tables.n_states).repeat_interleave(copies)
    weight = torch.rand(tables.n_actions, len(original), len(original), generator=generator, dtype=torch.float64) + 0.1
    member = torch.nn.functional.one_hot(original).double()
    share = weight / (weight @ member @ member.T)
    law = tables.transition[:, original][:, :, original] * share
    first = tables.initial[original] / copies[original]
    reward = tables.reward[:, original][:, :, original]
    return FiniteTables(first, law, tables.observation[original], reward, tables.terminal[original]), original


@given(st.integers(0, 10_000))
def test_copies_of_states_are_merged_and_nothing_else(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tables = RandomWorld(RandomConfig(n_states=5, n_actions=2, n_successors=3, seed=seed)).tables
    split, original = with_copies(tables, torch.randint(1, 4, (5,), generator=generator), generator)
    blocks = bisimulation(split)
    assert refines(original, blocks)
    assert int(blocks.max()) == int(bisimulation(tables).max())
    q = solve_mdp(split, 0.9).q_values.round(decimals=7)
    assert refines(blocks, q_irrelevance(q))
    assert refines(q_irrelevance(q), optimal_sets(q))


def test_a_maze_merges_ends_of_equal_worth_and_the_goals_only_where_no_action_depends_on_them() -> None:
    world = TMaze(length=3)
    blocks, goal, place = bisimulation(world.tables), world.class_maps["goal"], world.class_maps["position"]
    ends = world.tables.terminal
    assert len(set(blocks[ends].tolist())) == 1
    for cell in range(4):
        up, down = (int(blocks[(goal == side) & (place == cell)]) for side in (0, 1))
        assert up != down
    assert refines(bisimulation(world.tables, observed=True), blocks)


def test_actions_that_are_nearly_as_good_are_good() -> None:
    q = torch.tensor([[1.0, 0.995, 0.0], [1.0, 0.0, 0.0], [1.0, 0.999, 0.5]], dtype=torch.float64)
    assert optimal_sets(q).tolist() == [0, 0, 0]
    assert optimal_sets(q, epsilon=0.01).tolist() == [0, 1, 0]
