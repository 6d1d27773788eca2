"""What every world of the registry must keep; a new entry is covered without a line here."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds import (
    WORLDS,
    Factor,
    FiniteWorld,
    State,
    Unavailable,
    VectorDriver,
    World,
    finite_core,
    make_world,
    solve_mdp,
    solve_pomdp,
)

BUILT = {name: make_world(name) for name in WORLDS}
CHANNEL_SETS = [frozenset({"action", *more}) for more in ((), ("observation",), ("reward",), ("observation", "reward"))]
Z_BOUND = 5.0
"""Largest standard score accepted anywhere: two-sided p = 6e-7, so even 1,000 comparisons fail by chance in 0.06 % of seeds."""


def giving(*capabilities: str) -> list[str]:
    return [name for name, world in BUILT.items() if set(capabilities) <= world.gives]


def lacking(capability: str) -> list[str]:
    return [name for name, world in BUILT.items() if capability not in world.gives]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def explore(world: World, n: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(torch.tensor(world.exploration, dtype=torch.float64), n, replacement=True, generator=generator)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def take(leaves: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: leaf[rows] for name, leaf in leaves.items()}


@dataclass
class Step:
    """One step of a batch of episodes that are still running; `episode` numbers the rows."""

    episode: Tensor
    action: Tensor
    reward: Tensor
    state: State
    observation: Tensor
    terminated: Tensor


def play(world: World, n: int, n_steps: int, generator: torch.Generator) -> tuple[State, Tensor, list[Step]]:
    """Explore for `n_steps`, or until the episode ends: the first states, their observations, and what followed."""
    first = world.reset(n, generator)
    seen = world.observe(first, generator)
    steps, state, episode = [], first, torch.arange(n)
    for _ in range(n_steps):
        action = explore(world, len(episode), generator)
        state, reward, terminated = world.step(state, action, generator)
        steps.append(Step(episode, action, reward, state, world.observe(state, generator), terminated))
        running = (~terminated).nonzero().squeeze(1)
        state, episode = take(state, running), episode[running]
    return first, seen, steps


# --- shapes, names, seeds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_description_is_consistent(name: str) -> None:
    world = BUILT[name]
    assert len(world.exploration) == world.n_actions
    assert sum(world.exploration) == pytest.approx(1)
    assert 0 < world.discount < 1
    assert world.time_limit > 0
    assert world.factor(world.headline.factor) in world.factors
    assert all(len(factor.labels) in (0, factor.size) and factor.scale > 0 for factor in world.factors)
    assert WORLDS[name].summary
    assert "\n" not in WORLDS[name].summary


def check_factors(world: World, values: dict[str, Tensor], n: int) -> None:
    assert list(values) == [factor.name for factor in world.factors]
    for factor in world.factors:
        value = values[factor.name]
        if factor.is_categorical:
            assert value.dtype == torch.int64
            assert value.shape == (n,)
            assert n == 0 or (int(value.min()) >= 0 and int(value.max()) < factor.size)
        else:
            assert value.is_floating_point()
            assert value.shape == (n, factor.size)


@pytest.mark.parametrize("name", giving("simulation"))
def test_pure_functions_have_the_promised_shapes(name: str) -> None:
    world, generator = BUILT[name], seeded(0)
    state = world.reset(7, generator)
    moved, reward, terminated = world.step(state, explore(world, 7, generator), generator)
    assert moved.keys() == state.keys()
    assert all(moved[leaf].shape == state[leaf].shape and moved[leaf].dtype == state[leaf].dtype for leaf in state)
    assert (reward.dtype, reward.shape) == (torch.float32, (7,))
    assert (terminated.dtype, terminated.shape) == (torch.bool, (7,))
    seen = world.observe(moved, generator)
    assert (seen.dtype, seen.shape) == (torch.float32, (7, *world.observation_shape))
    check_factors(world, world.factor_values(moved), 7)


@pytest.mark.parametrize("name", giving("simulation"))
def test_step_repeats_from_a_kept_state_and_leaves_it_alone(name: str) -> None:
    world, generator = BUILT[name], seeded(1)
    state = world.reset(16, generator)
    kept = {leaf: value.clone() for leaf, value in state.items()}
    action = explore(world, 16, generator)
    first = world.step(state, action, seeded(2))
    second = world.step(state, action, seeded(2))
    assert same(state, kept)
    assert same(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[2], second[2])


def trajectory(name: str, seed: int, n_steps: int = 25) -> list[Tensor]:
    """Drive 4 copies by fixed actions and keep all that comes out."""
    world = BUILT[name]
    driver = world.driver(4, seeded(seed))
    actions = explore(world, 4 * n_steps, seeded(99)).view(n_steps, 4)
    kept = [driver.observation]
    for action in actions:
        step = driver.step(action)
        kept += [
            step.observation,
            step.reward,
            step.terminated,
            step.truncated,
            step.done,
            step.final_observation,
            *driver.factor_values().values(),
        ]
    return kept


@pytest.mark.parametrize("name", WORLDS)
def test_seed_decides_everything(name: str) -> None:
    first, second, other = trajectory(name, 5), trajectory(name, 5), trajectory(name, 6)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", WORLDS)
def test_driver_keeps_its_contract(name: str) -> None:
    world = BUILT[name]
    driver = world.driver(3, seeded(3))
    assert driver.t.tolist() == [0, 0, 0]
    for action in explore(world, 3 * 40, seeded(4)).view(40, 3):
        before = driver.t
        step = driver.step(action)
        m = len(step.done)
        assert (step.observation.dtype, step.observation.shape) == (torch.float32, (3, *world.observation_shape))
        assert torch.equal(step.observation, driver.observation)
        assert (step.reward.dtype, step.reward.shape) == (torch.float32, (3,))
        assert not (step.terminated & step.truncated).any()
        assert step.done.tolist() == (step.terminated | step.truncated).nonzero().squeeze(1).tolist()
        assert torch.equal(driver.t, (before + 1).index_fill(0, step.done, 0))
        assert (before[step.truncated] + 1 == world.time_limit).all()
        assert step.final_observation.shape == (m, *world.observation_shape)
        check_factors(world, step.final_factors, m)
        check_factors(world, driver.factor_values(), 3)


@pytest.mark.parametrize("name", WORLDS)
def test_a_restored_driver_goes_on_as_if_nothing_had_happened(name: str) -> None:
    world = BUILT[name]
    driver, other = world.driver(3, seeded(5)), world.driver(3, seeded(6))
    actions = explore(world, 3 * 40, seeded(7)).view(40, 3)
    for action in actions[:20]:
        driver.step(action)
    saved = {entry: leaf.clone() for entry, leaf in driver.state_dict().items()}
    expected = [driver.step(action) for action in actions[20:]]
    other.load_state_dict(saved)
    for step, action in zip(expected, actions[20:], strict=True):
        again = other.step(action)
        assert torch.equal(again.observation, step.observation)
        assert torch.equal(again.reward, step.reward)
        assert torch.equal(again.done, step.done)
        assert same(again.final_factors, step.final_factors)
    assert same(driver.state_dict(), other.state_dict())


# --- several rewards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", giving("rewards"))
def test_the_reward_is_the_weighted_sum_of_what_all_functions_pay(name: str) -> None:
    world, generator = BUILT[name], seeded(15)
    state = world.reset(200, generator)
    for _ in range(5):
        action = explore(world, len(next(iter(state.values()))), generator)
        moved, reward, terminated = world.step(state, action, generator)
        paid, weights = world.rewards(state, action, moved), world.reward_weights(state)
        assert (paid.dtype, paid.shape) == (torch.float32, (len(reward), world.n_rewards))
        torch.testing.assert_close(reward, (paid * weights).sum(1))
        assert torch.equal(world.reward_weights(moved), weights)
        state = take(moved, (~terminated).nonzero().squeeze(1))


@pytest.mark.parametrize("name", giving("rewards"))
def test_a_driver_hands_on_what_all_functions_pay(name: str) -> None:
    world = BUILT[name]
    driver = world.driver(5, seeded(16))
    assert isinstance(driver, VectorDriver)
    for action in explore(world, 5 * 30, seeded(17)).view(30, 5):
        weights = world.reward_weights(driver.state)
        step = driver.step(action)
        assert step.rewards is not None
        torch.testing.assert_close(step.reward, (step.rewards * weights).sum(1))


@pytest.mark.parametrize("name", lacking("rewards"))
def test_a_driver_of_one_reward_hands_on_no_other(name: str) -> None:
    world = BUILT[name]
    assert world.n_rewards == 1
    assert world.driver(2, seeded(18)).step(explore(world, 2, seeded(19))).rewards is None


# --- beliefs ----------------------------------------------------------------------------------------------------------


def enumerate_paths(world: FiniteWorld, channels: frozenset[str], seen: int, history: list[tuple[int, float, int, bool]]) -> Tensor:
    """Sum the probability of every state path that fits the history, and normalise by the last state."""
    P, sight, R = world.tables.transition.tolist(), world.tables.observation.tolist(), world.tables.reward.tolist()
    ends, look, pay = world.tables.terminal.tolist(), "observation" in channels, "reward" in channels
    paths: list[tuple[tuple[int, ...], float]] = [
        ((s,), p * (sight[s][seen] if look else 1)) for s, p in enumerate(world.tables.initial.tolist())
    ]
    for action, reward, observed, ended in history:
        paths = [
            ((*path, s), weight * P[action][path[-1]][s] * (sight[s][observed] if look else 1))
            for path, weight in paths
            if weight > 0
            for s in range(len(ends))
            if P[action][path[-1]][s] > 0 and ends[s] == ended and (not pay or abs(R[action][path[-1]][s] - reward) < 1e-6)
        ]
    total = torch.zeros(len(ends), dtype=torch.float64)
    for path, weight in paths:
        total[path[-1]] += weight
    return total / total.sum()


@pytest.mark.parametrize("channels", CHANNEL_SETS, ids=lambda channels: "+".join(sorted(channels)))
@pytest.mark.parametrize("name", giving("tables"))
def test_belief_is_the_sum_over_all_paths(name: str, channels: frozenset[str]) -> None:
    world, generator = BUILT[name], seeded(7)
    assert isinstance(world, FiniteWorld)
    _, seen, steps = play(world, 4, 3, generator)
    belief_filter = world.belief_filter(channels)
    belief = belief_filter.start(seen, generator)
    history: list[list[tuple[int, float, int, bool]]] = [[] for _ in range(4)]
    for step in steps:
        belief = belief_filter.update(belief, step.action, step.reward, step.observation, step.terminated, generator)
        facts = zip(step.action.tolist(), step.reward.tolist(), step.observation.argmax(1).tolist(), step.terminated.tolist(), strict=True)
        for row, (episode, fact) in enumerate(zip(step.episode.tolist(), facts, strict=True)):
            history[episode].append(fact)
            expected = enumerate_paths(world, channels, int(seen[episode].argmax()), history[episode])
            torch.testing.assert_close(belief["state"][row], expected, rtol=0, atol=1e-12)
        belief = take(belief, (~step.terminated).nonzero().squeeze(1))


def features(factor: Factor, values: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Return errors (n, size) of the expectation and test functions (n, m, size) of the belief that must not correlate with them."""
    if factor.is_categorical:
        error = one_hot(values, factor.size).double() - expected
        edges = torch.linspace(0, 1, 6, dtype=torch.float64)
        bins = [(expected > low) & (expected <= high) for low, high in itertools.pairwise(edges.tolist())]
        return error, torch.stack([torch.ones_like(expected), expected, *(b.double() for b in bins)], 1)
    return values.double() - expected.double(), torch.stack([torch.ones_like(expected), expected], 1).double()


def filters() -> list[tuple[str, frozenset[str]]]:
    """Return every world with every set of channels that it has a filter for."""
    kept = []
    for name, channels in itertools.product(giving("belief", "simulation"), CHANNEL_SETS):
        with contextlib.suppress(Unavailable):
            BUILT[name].belief_filter(channels)
            kept.append((name, channels))
    return kept


@pytest.mark.parametrize(("name", "channels"), filters(), ids=lambda part: part if isinstance(part, str) else "+".join(sorted(part)))
def test_belief_is_calibrated(name: str, channels: frozenset[str]) -> None:
    """E[factor | belief] is right on average, at every level of the belief: sum_t phi(b_t) (f_t - E[f_t | b_t]) has mean zero.

    Whole episodes are the independent units, so steps of one episode may depend on each other.
    """
    world, generator, n = BUILT[name], seeded(8), 400
    first, seen, steps = play(world, n, 10, generator)
    belief_filter = world.belief_filter(channels)
    belief = belief_filter.start(seen, generator)
    records = [(torch.arange(n), world.factor_values(first), world.expect_factors(belief))]
    for step in steps:
        belief = belief_filter.update(belief, step.action, step.reward, step.observation, step.terminated, generator)
        records.append((step.episode, world.factor_values(step.state), world.expect_factors(belief)))
        belief = take(belief, (~step.terminated).nonzero().squeeze(1))
    episodes = torch.cat([episode for episode, _, _ in records])
    for factor in world.factors:
        values = torch.cat([values[factor.name] for _, values, _ in records])
        error, tests = features(factor, values, torch.cat([expected[factor.name] for _, _, expected in records]))
        sums = torch.zeros(n, *tests.shape[1:], dtype=torch.float64).index_add(0, episodes, tests * error.unsqueeze(1))
        rare = 10 if factor.is_categorical else 1e-6  # a class of a few expected visits is no Gaussian count
        assert (sums.sum(0).abs() <= Z_BOUND * sums.square().sum(0).sqrt() + rare).all(), factor.name


@pytest.mark.parametrize("name", giving("belief", "simulation"))
def test_prediction_agrees_with_simulation(name: str) -> None:
    world, generator, n, k = BUILT[name], seeded(9), 2000, 4
    _, _, steps = play(world, 8, 2, generator)
    origin = take(steps[-1].state, torch.zeros(1, dtype=torch.int64))
    actions = explore(world, k, generator)
    predicted = world.expect_factors(world.predict_belief(world.point_belief(origin), actions.unsqueeze(0)))
    state, ended = take(origin, torch.zeros(n, dtype=torch.int64)), torch.zeros(n, dtype=torch.bool)
    for action in actions:
        moved, _, terminated = world.step(state, action.expand(n), generator)
        state = {leaf: torch.where(ended.view(-1, *[1] * (moved[leaf].ndim - 1)), state[leaf], moved[leaf]) for leaf in state}
        ended = ended | terminated
    values = world.factor_values(state)
    for factor in world.factors:
        error, _ = features(factor, values[factor.name], predicted[factor.name].expand(n, -1))
        p = predicted[factor.name].clamp(0, 1)
        spread = (p * (1 - p)).sqrt() if factor.is_categorical else error.std(0)
        rare = 5 / n if factor.is_categorical else 1e-6
        assert (error.mean(0).abs() <= Z_BOUND * spread / n**0.5 + rare).all(), factor.name


@pytest.mark.parametrize("name", giving("tables"))
def test_prediction_composes(name: str) -> None:
    world, generator = BUILT[name], seeded(10)
    _, seen, _ = play(world, 5, 0, generator)
    belief = world.belief_filter(frozenset({"observation", "action"})).start(seen, generator)
    actions = explore(world, 15, generator).view(5, 3)
    at_once = world.expect_factors(world.predict_belief(belief, actions))
    in_two = world.expect_factors(world.predict_belief(world.predict_belief(belief, actions[:, :1]), actions[:, 1:]))
    for factor in world.factors:
        torch.testing.assert_close(at_once[factor.name], in_two[factor.name])


# --- tables and optima ------------------------------------------------------------------------------------------------


def chi_square(counts: Tensor, probabilities: Tensor) -> tuple[float, int]:
    """Return Pearson's statistic over rows of counts, and its degrees of freedom; impossible cells must be empty."""
    expected = probabilities * counts.sum(1, keepdim=True)
    possible = expected > 0
    assert not counts[~possible].any()
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    return float(statistic), int(possible.sum() - len(counts))


def assert_drawn_from(counts: Tensor, probabilities: Tensor) -> None:
    statistic, freedom = chi_square(counts, probabilities)
    assert abs(statistic - freedom) <= Z_BOUND * (2 * freedom) ** 0.5 + 1e-9 * counts.sum()


@pytest.mark.parametrize("name", giving("tables"))
def test_samples_follow_the_tables(name: str) -> None:
    world, generator, repeats = BUILT[name], seeded(11), 500
    assert isinstance(world, FiniteWorld)
    tables = world.tables
    S, A = tables.n_states, tables.n_actions
    source = torch.arange(S).repeat_interleave(A * repeats)
    action = torch.arange(A).repeat_interleave(repeats).repeat(S)
    moved, reward, terminated = world.step({"state": source}, action, generator)
    target = moved["state"]
    torch.testing.assert_close(reward.double(), tables.reward[action, source, target], rtol=1e-6, atol=1e-6)
    assert torch.equal(terminated, tables.terminal[target])
    counts = ((source * A + action) * S + target).bincount(minlength=S * A * S).view(S * A, S).double()
    assert_drawn_from(counts, tables.transition.transpose(0, 1).reshape(S * A, S))
    starts = world.reset(20 * S * A, generator)["state"].bincount(minlength=S).double()
    assert_drawn_from(starts.unsqueeze(0), tables.initial.unsqueeze(0))
    seen = world.observe({"state": source}, generator).view(S, -1, tables.n_observations).sum(1).double()
    assert_drawn_from(seen, tables.observation)


@pytest.mark.parametrize("name", giving("tables"))
def test_tables_are_the_same_to_the_last_bit_wherever_they_lie_in_memory(name: str) -> None:
    """Recordings know their world by a hash of its tables; kernels whose sums depend on alignment would break that."""
    built, kept = BUILT[name], []
    assert isinstance(built, FiniteWorld)
    for i in range(8):
        kept.append(torch.empty(2 * i + 1))
        again = make_world(name)
        assert isinstance(again, FiniteWorld)
        for table in ("initial", "transition", "observation", "reward"):
            assert torch.equal(getattr(again.tables, table), getattr(built.tables, table)), table


@pytest.mark.parametrize("name", giving("tables"))
def test_optimal_values_solve_the_bellman_equation(name: str) -> None:
    world = BUILT[name]
    assert isinstance(world, FiniteWorld)
    tables, solution = world.tables, solve_mdp(world.tables, world.discount)
    backed_up = torch.einsum("ast,ast->sa", tables.transition, tables.reward + world.discount * solution.q_values.amax(1))
    assert (solution.q_values - backed_up).abs().max() < 1e-9


@pytest.mark.parametrize("name", giving("belief"))
def test_counterfeit_keeps_all_but_the_law(name: str) -> None:
    world = BUILT[name]
    try:
        other = world.counterfeit(seeded(12))
    except Unavailable as error:
        assert name.split("-")[0] in str(error)  # noqa: PT017 (whether a world has counterfeits is its own choice)
        return
    assert (other.observation_shape, other.factors, other.action_names) == (world.observation_shape, world.factors, world.action_names)
    origin = world.reset(1, seeded(13))
    belief = world.point_belief(take(origin, torch.zeros(64, dtype=torch.int64)))
    actions = explore(world, 64 * 6, seeded(14)).view(64, 6)
    true, false = (w.expect_factors(w.predict_belief(belief, actions)) for w in (world, other))
    assert any(not torch.allclose(true[factor.name], false[factor.name]) for factor in world.factors)


# --- what a world cannot give -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", lacking("simulation"))
def test_missing_simulation_is_named(name: str) -> None:
    world = BUILT[name]
    with pytest.raises(Unavailable, match=world.name):
        world.reset(1, seeded(0))


@pytest.mark.parametrize("name", lacking("belief"))
def test_missing_belief_is_named(name: str) -> None:
    world = BUILT[name]
    with pytest.raises(Unavailable, match=world.name):
        world.belief_filter(frozenset({"action"}))


@pytest.mark.parametrize("name", lacking("optimum"))
def test_missing_tables_are_named(name: str) -> None:
    world = BUILT[name]
    with pytest.raises(Unavailable, match=world.name):
        solve_pomdp(world, frozenset({"observation", "action"}))


@pytest.mark.parametrize("name", giving("optimum"))
def test_an_optimum_has_a_finite_core(name: str) -> None:
    core = finite_core(BUILT[name])
    assert core.n_actions == BUILT[name].n_actions
