"""J* and its bounds: published values, exhaustive search on small worlds, and what the policies earn when played."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.worlds import BeliefPolicy, FiniteWorld, FourRooms, LookaheadPolicy, PomdpSolution, TMaze, VectorDriver, solve_pomdp
from worldprobe.worlds._belief_mdp import belief_mdp, merge_equal
from worldprobe.worlds._belief_policy import evaluate_policy

SEEING = frozenset({"observation", "action"})
CHANNEL_SETS = [frozenset({"action", *more}) for more in ((), ("observation",), ("reward",), ("observation", "reward"))]


@pytest.mark.parametrize("length", [2, 10, 50])
def test_sure_maze_is_worth_four(length: int) -> None:
    solution = solve_pomdp(TMaze(length, stochasticity=0.0), SEEING)
    assert solution.exact
    assert solution.undiscounted == pytest.approx(4.0)
    assert solution.lower == pytest.approx(4 * 0.98**length)


def test_noisy_maze_is_worth_what_was_published() -> None:
    solution = solve_pomdp(TMaze(10, stochasticity=0.2), SEEING)
    assert solution.exact
    assert solution.upper - solution.lower < 1e-6
    assert solution.undiscounted == pytest.approx(3.63, abs=0.01)
    assert solution.method == "lower: QMDP, by enumeration of its beliefs; upper: fast informed bound"


def exhaustive(world: FiniteWorld, channels: frozenset[str], choose: Callable[[Tensor], int] | None = None) -> float:
    """Return the best expected discounted return over every history (or that of a policy on beliefs), from the tables alone."""
    tables = world.tables
    sights = tables.observation.T if "observation" in channels else torch.ones(1, tables.n_states, dtype=torch.float64)
    rewards = sorted(set(tables.reward.flatten().tolist())) if "reward" in channels else [None]

    def value(joint: Tensor, steps: int) -> float:
        """`joint` is P(state, history)."""
        if steps == 0 or joint.sum() < 1e-15:
            return 0.0
        actions = range(tables.n_actions) if choose is None else [choose(joint / joint.sum())]
        returns = []
        for a in actions:
            following = joint.unsqueeze(1) * tables.transition[a]
            paid = float((following * tables.reward[a]).sum())
            running = following * ~tables.terminal
            events = [running * (tables.reward[a] == r) if r is not None else running for r in rewards]
            returns.append(paid + world.discount * sum(value(event.sum(0) * sight, steps - 1) for event in events for sight in sights))
        return max(returns)

    return sum(value(tables.initial * sight, world.time_limit) for sight in sights)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), channels=st.sampled_from(CHANNEL_SETS))
def test_bounds_hold_in_random_worlds(random_world: Callable[[int], FiniteWorld], seed: int, channels: frozenset[str]) -> None:
    """The lower bound is exactly what its policy earns, and the optimum over all histories lies between the bounds."""
    world = random_world(seed)
    solution = solve_pomdp(world, channels, n_beliefs=50)

    def choose(belief: Tensor) -> int:
        return int(solution.policy.action({"state": belief.unsqueeze(0)}))

    best = exhaustive(world, channels)
    assert solution.lower == pytest.approx(exhaustive(world, channels, choose), abs=1e-9)
    assert solution.lower - 1e-9 <= best <= solution.upper + 1e-9
    assert not solution.exact or best == pytest.approx(solution.lower, abs=1e-6)


def play(world: FiniteWorld, solution: PomdpSolution, n: int) -> tuple[Tensor, Tensor]:
    """Return discounted and plain returns of `n` episodes of the policy on the exact filter's beliefs."""
    generator, belief_filter = torch.Generator().manual_seed(0), world.belief_filter(solution.channels)
    driver = VectorDriver(world, n, generator)
    belief = belief_filter.start(driver.observation, generator)
    discounted, plain = torch.zeros(2, n, dtype=torch.float64)
    rows = torch.arange(n)
    for t in range(world.time_limit):
        action = torch.zeros(n, dtype=torch.int64)
        action[rows] = solution.policy.action(belief)
        step = driver.step(action)
        discounted[rows] += world.discount**t * step.reward[rows].double()
        plain[rows] += step.reward[rows].double()
        running = ~(step.terminated | step.truncated)[rows]
        before, rows = {"state": belief["state"][running]}, rows[running]
        if not len(rows):
            break
        belief = belief_filter.update(before, action[rows], step.reward[rows], step.observation[rows], step.terminated[rows], generator)
    return discounted, plain


@pytest.fixture(scope="module")
def grid() -> tuple[FiniteWorld, PomdpSolution]:
    world = FourRooms(7)
    return world, solve_pomdp(world, SEEING, n_beliefs=300)


def assert_earned(solution: PomdpSolution, discounted: Tensor, plain: Tensor) -> None:
    for returns, stated in ((discounted, solution.lower), (plain, solution.undiscounted)):
        assert abs(float(returns.mean()) - stated) < 4.5 * float(returns.std()) / len(returns) ** 0.5 + 2e-3


def test_maze_policy_earns_the_lower_bound_when_played() -> None:
    world = TMaze()
    solution = solve_pomdp(world, SEEING)
    assert_earned(solution, *play(world, solution, 4000))


def test_grid_policy_earns_the_lower_bound_when_played(grid: tuple[FiniteWorld, PomdpSolution]) -> None:
    assert_earned(grid[1], *play(*grid, 4000))


def test_finding_out_is_worth_it_in_the_grid(grid: tuple[FiniteWorld, PomdpSolution]) -> None:
    """QMDP never looks before it walks; planning on beliefs beats it and comes within 2 % of what is possible."""
    _, solution = grid
    assert isinstance(solution.policy, LookaheadPolicy)
    assert solution.standard_error == 0
    assert solution.lower > 0.98 * solution.upper
    assert "point-based value iteration" in solution.method
    assert "sawtooth" in solution.method


def test_grid_without_slips_is_solved_exactly_and_repeatably() -> None:
    first, second = (solve_pomdp(FourRooms(7, slip=0.0), SEEING, n_beliefs=200) for _ in range(2))
    assert first.exact
    assert (first.lower, first.upper) == (second.lower, second.upper)


def test_policies_are_greedy_and_batched(grid: tuple[FiniteWorld, PomdpSolution]) -> None:
    world, solution = grid
    state = world.reset(64, torch.Generator().manual_seed(0))
    belief = world.belief_filter(SEEING).start(world.observe(state, torch.Generator()), torch.Generator())
    q_values, action = solution.policy.q_values(belief), solution.policy.action(belief)
    assert q_values.shape == (64, 4)
    assert (q_values.gather(1, action.unsqueeze(1)).squeeze(1) >= q_values.amax(1) - 1e-9).all()
    alone = solution.policy.q_values({"state": belief["state"][5:6]})
    torch.testing.assert_close(alone, q_values[5:6])


class Uniform(BeliefPolicy):
    """Acts by a fixed function of the belief that has nothing to do with value."""

    def q_values(self, belief: dict[str, Tensor]) -> Tensor:
        weights = torch.rand(belief["state"].shape[1], 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return belief["state"] @ weights


@pytest.mark.parametrize("channels", CHANNEL_SETS, ids=lambda channels: "+".join(sorted(channels)))
def test_giving_up_unlikely_beliefs_only_lowers_the_value(channels: frozenset[str]) -> None:
    mdp = belief_mdp(TMaze(length=2, stochasticity=0.4), channels)
    full = evaluate_policy(mdp, Uniform(), limit=10_000)
    cut = evaluate_policy(mdp, Uniform(), limit=3, slack=1.0)
    sampled = evaluate_policy(mdp, Uniform(), limit=1, slack=-1.0)
    assert full.method == "enumeration of its beliefs"
    assert cut.discounted <= full.discounted + 1e-12
    assert sampled.standard_error > 0
    assert sampled.method.startswith("Monte Carlo")
    assert abs(sampled.discounted - full.discounted) < 4.5 * sampled.standard_error


class Leftward(BeliefPolicy):
    """Walks into the wall for ever."""

    def q_values(self, belief: dict[str, Tensor]) -> Tensor:
        return torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64).expand(len(belief["state"]), -1)


def test_what_is_given_up_counts_at_the_worst_reward() -> None:
    """Where nearly every step costs, forgetting unlikely beliefs must not look like earning more."""
    mdp = belief_mdp(TMaze(length=4, stochasticity=0.4), SEEING)
    full, cut = evaluate_policy(mdp, Leftward(), limit=10_000), evaluate_policy(mdp, Leftward(), limit=1, slack=1.0)
    assert full.discounted < 0
    assert cut.discounted < full.discounted
    assert "counted at the worst reward" in cut.method


def test_merging_adds_the_weights_of_equal_beliefs() -> None:
    beliefs = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.5 + 1e-14, 0.5 - 1e-14]], dtype=torch.float64)
    distinct, weights, which = merge_equal(beliefs, torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(distinct[which], beliefs)
    assert sorted(weights.tolist()) == [2.0, 5.0]
    assert which[0] == which[2] != which[1]
