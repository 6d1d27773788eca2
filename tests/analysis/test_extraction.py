"""Laws that are read out of Q-values, successor features and choices, against the law they came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from worldprobe.analysis import (
    ExtractedModel,
    QTable,
    invert_bellman,
    invert_successor_features,
    myopic_chooser,
    optimal_chooser,
    query_goals,
    read_predictions,
)
from worldprobe.analysis._simplex import simplex_least_squares
from worldprobe.worlds import RandomConfig, RandomWorld, TMaze, solve_mdp, solve_rewards, successor_representation


def random_world(n_rewards: int = 1, seed: int = 0) -> RandomWorld:
    return RandomWorld(RandomConfig(n_states=8, n_actions=3, n_successors=3, n_rewards=n_rewards, seed=seed))


def q_of(world: RandomWorld) -> tuple[np.ndarray, np.ndarray]:
    assert world.reward_functions is not None
    return solve_rewards(world.tables, world.reward_functions, world.discount).numpy(), world.reward_functions.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_enough_rewards_determine_the_law_and_one_does_not(seed: int) -> None:
    world = random_world(n_rewards=8, seed=seed)
    q, rewards = q_of(world)
    errors = [invert_bellman(QTable.exact(q[:K]), rewards[:K], world.discount).total_variation(world.tables).mean() for K in (1, 8)]
    assert errors[0] > 0.3
    assert errors[1] < 1e-4


def test_rank_and_free_dimensions_count_what_is_open() -> None:
    world = random_world(n_rewards=9)
    q, rewards = q_of(world)
    for K in (1, 3, 7, 9):
        model = invert_bellman(QTable.exact(q[:K]), rewards[:K], world.discount)
        assert model.rank is not None
        assert model.free_dimensions is not None
        assert np.all(model.rank == min(8, K + 1))
        assert np.all(model.free_dimensions <= 8 - model.rank)
        assert (model.free_dimensions.max() == 0) == bool(model.total_variation(world.tables).max() < 1e-3)


def test_a_law_that_fits_is_value_equivalent() -> None:
    world = random_world(n_rewards=2)
    q, rewards = q_of(world)
    model = invert_bellman(QTable.exact(q[:1]), rewards[:1], world.discount)
    assert model.total_variation(world.tables).mean() > 0.3
    assert model.plan(world.tables, world.discount).share == pytest.approx(1.0)
    solved = solve_mdp(replace(world.tables, transition=torch.from_numpy(model.transition)), world.discount)
    np.testing.assert_allclose(solved.q_values.numpy(), q[0], atol=1e-5)


def test_values_of_a_policy_need_the_operator_of_that_policy() -> None:
    world = random_world(n_rewards=10)
    _, rewards = q_of(world)
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=(10, 8))
    law = world.tables.transition
    q = []
    for reward, chosen in zip(rewards, policy, strict=True):
        expected = (law * torch.from_numpy(reward)).sum(-1).T
        visits = successor_representation(world.tables, torch.from_numpy(chosen), world.discount)
        values = visits @ (torch.from_numpy(chosen) * expected).sum(1)
        q.append((expected + world.discount * (law @ values).T).numpy())
    right = invert_bellman(QTable.exact(np.array(q)), rewards, world.discount, policy=policy)
    wrong = invert_bellman(QTable.exact(np.array(q)), rewards, world.discount)
    assert right.total_variation(world.tables).max() < 1e-4
    assert wrong.total_variation(world.tables).mean() > 0.05


def test_ends_are_worth_nothing_and_not_asked_for() -> None:
    world = TMaze(length=3, stochasticity=0.3)
    S, A = world.tables.n_states, world.tables.n_actions
    rewards = np.random.default_rng(0).normal(size=(2 * S, A, S, S))
    ended = world.tables.terminal.numpy()
    rewards[:, :, ended] = 0.0
    q = solve_rewards(world.tables, torch.from_numpy(rewards), world.discount).numpy()
    error = invert_bellman(QTable.exact(q), rewards, world.discount, terminal=ended).total_variation(world.tables)
    assert np.all(np.isnan(error[ended]))
    assert np.nanmax(error) < 1e-4


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(6):
        world = random_world(n_rewards=12, seed=seed)
        q, rewards = q_of(world)
        noise = np.full_like(q, 0.02)
        table = QTable(q + noise * np.random.default_rng(seed).normal(size=q.shape), noise, np.ones(q.shape[:2], np.int64))
        model = invert_bellman(table, rewards, world.discount, n_draws=60, level=0.9)
        assert model.lower is not None
        assert model.upper is not None
        law = world.tables.transition.numpy()
        inside.append(((model.lower <= law + 1e-6) & (law <= model.upper + 1e-6))[law > 0])
    assert 0.82 < np.mean(np.concatenate(inside)) < 0.97
    open_law = invert_bellman(QTable.exact(q[:1]), rewards[:1], 0.9, n_draws=2)
    assert open_law.lower is not None
    assert open_law.upper is not None
    assert np.all(open_law.lower == 0)
    assert np.all(open_law.upper == 1)


def test_recorded_values_are_averaged_over_rows_with_episodes_as_units() -> None:
    rng = np.random.default_rng(0)
    state, task, groups = np.arange(600) % 3, np.arange(600) // 3 % 2, np.arange(600) // 20
    level = rng.normal(size=(30, 1))[groups]
    q = np.stack([state + 10.0 * task, -state.astype(float)], axis=1) + level
    table = QTable.of_rows(q, state, task, groups, n_states=3, n_tasks=2)
    for k in range(2):
        for s in range(3):
            rows = (state == s) & (task == k)
            means = np.array([q[rows & (groups == g)].mean(axis=0) for g in np.unique(groups[rows])])
            np.testing.assert_allclose(table.mean[k, s], means.mean(axis=0))
            np.testing.assert_allclose(table.standard_error[k, s], means.std(axis=0, ddof=1) / np.sqrt(len(means)))
            assert table.n_visits[k, s] == rows.sum()
    with pytest.raises(ValueError, match=r"3 of 9 states were never visited \(state 0 under reward 2"):
        QTable.of_rows(q, state, task, groups, n_states=3, n_tasks=3)


def test_successor_features_give_the_law_back() -> None:
    world = random_world()
    policy = np.random.default_rng(0).dirichlet(np.ones(3), size=8)
    visits = successor_representation(world.tables, torch.from_numpy(policy), 0.9).numpy()
    law = world.tables.transition.numpy()
    psi = np.eye(8)[:, None] + 0.9 * np.swapaxes(law @ visits, 0, 1)
    model = invert_successor_features(psi, policy, 0.9)
    np.testing.assert_allclose(model.transition, law, atol=1e-9)
    with pytest.raises(ValueError, match="successor features of some states are the same"):
        invert_successor_features(np.ones_like(psi), policy, 0.9)


@given(st.integers(0, 1000))
def test_predictions_become_the_nearest_law(seed: int) -> None:
    given_rows = np.random.default_rng(seed).normal(size=(4, 2, 4))
    law = read_predictions(given_rows).transition
    nearest = simplex_least_squares(np.eye(4), given_rows.reshape(-1, 4)).reshape(4, 2, 4)
    np.testing.assert_allclose(np.swapaxes(law, 0, 1), nearest, atol=1e-5)


@pytest.mark.parametrize("n_trials", [1, 2, 7, 10, 50])
def test_choices_switch_at_the_median(n_trials: int) -> None:
    law = np.random.default_rng(0).dirichlet(np.full(5, 0.5), size=(2, 5))
    read = query_goals(optimal_chooser(law), 5, 2, n_trials).transition
    switch = binom.ppf(0.5, n_trials, law)
    np.testing.assert_allclose(read, (switch + 0.5) / (n_trials + 1))
    assert np.abs(read - law).max() <= 1 / n_trials


def test_an_agent_that_looks_one_step_ahead_says_nothing_of_odds() -> None:
    law = np.array([[[0.6, 0.4], [0.9, 0.1]]])
    read = query_goals(myopic_chooser(law), 2, 1, 50).transition
    assert len(np.unique(read[..., 0])) == 1
    assert len(np.unique(read[..., 1])) == 1


def test_planning_is_worth_what_the_law_is_worth() -> None:
    world = random_world(seed=4)
    law = world.tables.transition.numpy()
    known = ExtractedModel(law, "truth").plan(world.tables, world.discount)
    assert known.share == pytest.approx(1.0)
    assert known.optimum == pytest.approx(float(world.tables.initial @ solve_mdp(world.tables, world.discount).values))
    shuffled = ExtractedModel(law[:, np.random.default_rng(1).permutation(8)], "nonsense").plan(world.tables, world.discount)
    assert shuffled.share < 0.9
    assert shuffled.uniform == known.uniform
    with pytest.raises(ValueError, match="expected a law of shape"):
        ExtractedModel(np.ones((1, 2, 2)), "small").total_variation(world.tables)


def test_r7_the_law_is_found_from_many_rewards(load_study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    mpl.use("Agg")
    study = load_study("r7_bellman_inversion")
    table = study.main(study.Study(tmp_path, n_worlds=1, counts=(1, 20), noises=(0.01,), n_draws=3))
    assert list(table.middle < 0.01) == list(table.corner < 0.01) == [False, True]
    assert table["planning, seen reward"].min() > 0.999
    assert (tmp_path / "r7.png").read_bytes().startswith(b"\x89PNG")


def test_r8_deep_goals_tell_more(load_study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    mpl.use("Agg")
    study = load_study("r8_behavioural_extraction")
    errors = study.main(study.Study(tmp_path, n_worlds=1)).pivot_table(index="depth", columns="agent", values="error")
    assert all(errors["optimal"][depth] <= claim for depth, claim in study.CLAIMS.items())
    assert errors["one step"].min() > 0.1
