"""Tables over tasks that follow each other: they find what is exactly known, and reuse what they say they reuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldprobe.agents import SuccessorFeatureLearner, TabularConfig, TransferResult, _tabular_learners, learn_in_turn
from worldprobe.agents._tabular_learners import Experience, PolicyReuseLearner
from worldprobe.worlds import RandomConfig, RandomWorld, make_world, solve_rewards, successor_representation

WORLD = RandomWorld(RandomConfig(n_states=5, n_actions=3, n_successors=1, n_rewards=4, seed=3))
"""Moves are certain, so that a constant step size ends at the truth."""
LONG = TabularConfig(steps_per_task=2500, epsilon=1.0)


def weights(n_tasks: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, size=(2, n_tasks, 4)).astype(np.float32)


def rows_of_states(result: TransferResult) -> NDArray[np.int64]:
    """Row of every state, in each run (2, S)."""
    states = WORLD.tables.observation.float()
    return np.stack([result.situations.rows(state.expand(2, -1).contiguous()) for state in states], 1)


@pytest.mark.parametrize("method", ["q-learning", "kept values", "policy reuse"])
def test_values_are_the_optimal_ones_of_every_task(method: str) -> None:
    w = weights(2)
    result = learn_in_turn(WORLD, w, method, LONG, seed=0)
    rows = rows_of_states(result)
    for run in range(2):
        for task in range(2):
            assert WORLD.reward_functions is not None
            mixed = torch.einsum("k,kijl->ijl", torch.from_numpy(w[run, task]).double(), WORLD.reward_functions.double())
            exact = solve_rewards(WORLD.tables, mixed.unsqueeze(0), WORLD.discount)[0].numpy()
            np.testing.assert_allclose(result.learner.table[run, rows[run], task], exact, atol=0.02 * np.abs(exact).max())


def test_successor_features_of_one_task_are_those_of_its_optimal_policy() -> None:
    w = weights(1)
    learner = learn_in_turn(WORLD, w, "successor features", LONG, seed=0)
    assert isinstance(learner.learner, SuccessorFeatureLearner)
    np.testing.assert_allclose(learner.learner.weights[:, 0], w[:, 0], atol=1e-3)
    rows, states = rows_of_states(learner), torch.arange(WORLD.tables.n_states)
    assert WORLD.reward_functions is not None
    for run in range(2):
        psi = learner.learner.table[run, rows[run], 0].astype(np.float64)
        greedy = torch.from_numpy((psi @ w[run, 0]).argmax(1))
        visits = successor_representation(WORLD.tables, greedy, WORLD.discount)
        paid = (WORLD.tables.transition[greedy, states] * WORLD.reward_functions[:, greedy, states]).sum(-1).T
        exact = (visits @ paid).numpy()
        np.testing.assert_allclose(psi[states, greedy], exact, atol=0.04 * np.abs(exact).max())


def test_what_was_learned_is_of_use_in_the_next_task() -> None:
    w = np.random.default_rng(0).uniform(-1, 1, size=(32, 6, 4)).astype(np.float32)
    methods, brief = ("q-learning", "successor features"), TabularConfig(steps_per_task=80)
    scratch, transferred = (learn_in_turn(WORLD, w, method, brief, seed=0).reward[:, 1:].mean(1) for method in methods)
    gain = transferred - scratch
    assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain))


def test_the_best_of_all_policies_is_no_worse_than_each() -> None:
    learner = SuccessorFeatureLearner(TabularConfig(), (2, 3, 3, 4), 0.9, np.random.default_rng(0))
    learner.table[:] = np.random.default_rng(1).normal(size=learner.table.shape)
    learner.weights[:] = 1.0
    learner.begin(2)
    row = np.array([5, 7])
    each, best = learner.policy_values(row), learner.values(row)
    assert each.shape == (2, 3, 3)
    np.testing.assert_allclose(best, each.max(1))
    np.testing.assert_allclose(each[0, 1], learner.table[0, 5, 1].sum(-1), rtol=1e-5)


@pytest.mark.parametrize(("decay", "follows"), [(1.0, [True, True, True]), (0.0, [True, False, False])])
def test_a_reused_policy_is_followed_less_and_less(decay: float, follows: list[bool]) -> None:
    learner = PolicyReuseLearner(TabularConfig(epsilon=0.0, reuse_decay=decay), (1, 2, 3, 1), 0.9, np.random.default_rng(0))
    learner.table[0, 0, 0] = [0.0, 0.0, 1.0]  # the earlier policy
    learner.table[0, 0, 1] = [1.0, 0.0, 0.0]  # the present one
    learner.begin(1)
    learner._policy = np.array([0])
    row, no = np.zeros(1, np.int64), np.zeros(1, bool)
    for follow in follows:
        action = learner.act(row)
        assert (action == 2).all() == follow
        zero = np.zeros(1, np.float32)
        learner.learn(Experience(row, np.ones(1, np.int64), zero, np.zeros((1, 1), np.float32), row, no, no))


def test_what_a_reused_policy_earns_is_averaged_over_its_episodes() -> None:
    learner = PolicyReuseLearner(TabularConfig(), (1, 2, 2, 1), 0.5, np.random.default_rng(0))
    learner.begin(1)
    row, yes = np.zeros(1, np.int64), np.ones(1, bool)
    for paid in (1.0, 3.0):
        learner._policy = np.array([0])
        reward = np.array([paid], np.float32)
        for ended in (~yes, yes):
            learner.learn(Experience(row, row, reward, reward[:, None], row, ended, ended))
    np.testing.assert_allclose(learner._earned[0, 0], (1.5 * 1.0 + 1.5 * 3.0) / 2)
    assert learner._episodes.tolist() == [2]


def test_runs_share_nothing() -> None:
    w = weights(2)
    both = learn_in_turn(WORLD, w, "q-learning", TabularConfig(steps_per_task=200), seed=0)
    changed = w.copy()
    changed[1] = -1.0
    other = learn_in_turn(WORLD, changed, "q-learning", TabularConfig(steps_per_task=200), seed=0)
    assert both.learner.table.shape[0] == 2
    np.testing.assert_array_equal(both.reward[0], other.reward[0])
    np.testing.assert_array_equal(both.learner.table[0], other.learner.table[0])
    assert not np.array_equal(both.reward[1], other.reward[1])


def test_tables_grow_with_what_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tabular_learners, "FIRST_ROWS", 2)
    small = learn_in_turn(WORLD, weights(2), "successor features", TabularConfig(steps_per_task=300), seed=0)
    assert small.learner.table.shape[1] == 8
    monkeypatch.undo()
    large = learn_in_turn(WORLD, weights(2), "successor features", TabularConfig(steps_per_task=300), seed=0)
    np.testing.assert_array_equal(small.learner.table[:, :5], large.learner.table[:, :5])


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown tabular learner 'sarsa'"):
        learn_in_turn(WORLD, weights(1), "sarsa", LONG, seed=0)
    with pytest.raises(ValueError, match="expected weights"):
        learn_in_turn(WORLD, weights(1)[:, :, :2], "q-learning", LONG, seed=0)
    with pytest.raises(ValueError, match="expected weights"):
        learn_in_turn(make_world("tmaze"), weights(1), "q-learning", LONG, seed=0)
    with pytest.raises(ValueError, match="rates, epsilon"):
        TabularConfig(learning_rate=2.0)
