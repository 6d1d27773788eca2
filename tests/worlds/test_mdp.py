"""Q*, finite horizons and successor representations against closed forms and brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldprobe.worlds import FiniteWorld, RedLight, TMaze, solve_mdp, solve_mdp_horizon, successor_representation


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_best_of_all_policies(random_world: Callable[[int], FiniteWorld], seed: int) -> None:
    """No deterministic policy beats V*, and one reaches it; values come from the successor representation."""
    world = random_world(seed)
    reward, values = world.tables.expected_reward(), []
    for actions in itertools.product(range(2), repeat=4):
        policy = torch.tensor(actions)
        visits = successor_representation(world.tables, policy, world.discount)
        values.append(visits @ reward[torch.arange(4), policy])
    solution = solve_mdp(world.tables, world.discount)
    torch.testing.assert_close(torch.stack(values).amax(0), solution.values, rtol=0, atol=1e-10)
    assert solution.residual < 1e-9


def test_values_fall_by_the_discount_along_the_corridor() -> None:
    solution = solve_mdp(TMaze(length=6, stochasticity=0.0).tables, 0.9)
    expected = 4 * 0.9 ** torch.arange(6, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(solution.values[:7], expected)
    assert solution.policy[:6].tolist() == [0] * 6
    assert solution.policy[[6, 6 + 9]].tolist() == [1, 3]


@pytest.mark.parametrize("discount", [-0.1, 1.0, 1.5])
def test_discount_outside_its_range_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match="discount must lie"):
        solve_mdp(TMaze(length=2).tables, discount)


def test_horizon_values_grow_into_the_discounted_ones() -> None:
    tables = RedLight().tables
    horizon = solve_mdp_horizon(tables, 0.9, 300)
    torch.testing.assert_close(horizon.values[0], solve_mdp(tables, 0.9).values, rtol=0, atol=1e-9)
    assert horizon.q_values.shape == (300, 6, 2)
    assert not horizon.values[-1].any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_horizon_values_are_the_best_tree(random_world: Callable[[int], FiniteWorld], seed: int) -> None:
    tables = random_world(seed).tables

    def best(state: int, steps: int) -> float:
        if steps == 0:
            return 0.0
        return max(
            sum(
                float(p) * (float(tables.reward[a, state, s]) + 0.8 * best(s, steps - 1))
                for s, p in enumerate(tables.transition[a, state])
                if p > 0
            )
            for a in range(2)
        )

    values = solve_mdp_horizon(tables, 0.8, 3).values
    assert [best(s, 3) for s in range(4)] == pytest.approx(values[0].tolist())


def test_successor_representation_counts_discounted_visits() -> None:
    world, discount = TMaze(length=4, stochasticity=0.3), 0.7
    policy = torch.tensor(world.exploration).expand(world.tables.n_states, -1)
    visits = successor_representation(world.tables, policy, discount)
    step = torch.einsum("sa,ast->st", policy.double(), world.tables.transition)
    series = sum(torch.linalg.matrix_power(discount * step, k) for k in range(200))
    torch.testing.assert_close(visits, series)


def test_values_are_occupancy_times_reward() -> None:
    world = TMaze(length=4, stochasticity=0.3)
    solution = solve_mdp(world.tables, 0.9)
    visits = successor_representation(world.tables, solution.policy, 0.9)
    reward = world.tables.expected_reward().gather(1, solution.policy.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(visits @ reward, solution.values)
