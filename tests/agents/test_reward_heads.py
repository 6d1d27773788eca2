"""Several rewards on one trunk: values of every reward, successor features of the policy, universal ones, and the best of policies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from worldprobe.agents import (
    GpiAgent,
    NetworkConfig,
    PqnConfig,
    R2d2Config,
    RecurrentQNetwork,
    check_agent,
    evaluate_return,
    load_checkpoint,
    make_network,
    train,
)
from worldprobe.worlds import (
    Factor,
    FiniteWorld,
    Headline,
    RandomConfig,
    RandomWorld,
    make_world,
    solve_mdp,
    solve_rewards,
    successor_representation,
    with_tasks,
)

WORLD = RandomWorld(RandomConfig(n_states=5, n_actions=3, n_successors=3, n_rewards=6))
SETTINGS = PqnConfig(
    total_steps=100_000,
    n_envs=32,
    n_steps=16,
    n_epochs=4,
    learning_rate=3e-3,
    td_lambda=0.0,
    epsilon_end=1.0,
    final_learning_rate=1e-5,
    max_gradient_norm=10.0,
    n_evaluations=1,
    n_evaluation_episodes=32,
    n_checkpoints=2,
)
NETWORK = NetworkConfig(core="feedforward", hidden_size=48, encoder_sizes=(48,), layer_norm=False)


def trained(world: object, network: NetworkConfig, settings: PqnConfig, folder: Path) -> RecurrentQNetwork:
    return load_checkpoint(train(world, network, settings, folder, seed=0).final)[0]  # type: ignore[arg-type]


def heads_of_states(network: RecurrentQNetwork, world: FiniteWorld) -> torch.Tensor:
    """Values (K, S, A) at the first step of an episode in every state."""
    inputs = torch.cat([world.tables.observation.float(), torch.zeros(world.tables.n_states, world.n_actions)], 1)
    sites = network.activations(inputs.unsqueeze(0), network.initial_state(len(inputs)))
    return sites["heads"][0].view(len(inputs), network.n_rewards, world.n_actions).transpose(0, 1)


def test_every_head_learns_the_optimal_values_of_its_reward(tmp_path: Path) -> None:
    network = trained(WORLD, replace(NETWORK, n_rewards=6), SETTINGS, tmp_path)
    assert WORLD.reward_functions is not None
    exact = solve_rewards(WORLD.tables, WORLD.reward_functions, WORLD.discount)
    error = (heads_of_states(network, WORLD) - exact).abs().mean((1, 2))
    assert error.max() < 0.15 * exact.std()
    inputs = torch.rand(7, network.input_size)
    q, _ = network.step(inputs, network.initial_state(7), torch.ones(7, dtype=torch.bool))
    heads = network.activations(inputs.unsqueeze(0), network.initial_state(7))["heads"][0].view(7, 6, 3)
    torch.testing.assert_close(q, heads[:, 0])  # the world's own reward is the first


def with_visits(world: RandomWorld) -> FiniteWorld:
    """The same world, whose other rewards count visits to its states."""
    tables, S = world.tables, world.tables.n_states
    visits = torch.eye(S, dtype=torch.float64)[:, None, None, :].expand(S, tables.n_actions, S, S)
    return FiniteWorld(
        tables, name="visits", factors={Factor("state", "categorical", S): torch.arange(S)}, action_names=world.action_names,
        discount=world.discount, time_limit=world.time_limit, exploration=world.exploration, headline=Headline("state", 1),
        reward_functions=torch.cat([tables.reward.unsqueeze(0), visits]),
    )  # fmt: skip


def test_successor_features_of_states_are_discounted_visits_under_the_policy(tmp_path: Path) -> None:
    world = with_visits(RandomWorld(RandomConfig(n_states=5, n_actions=3, n_successors=3)))
    network = trained(world, replace(NETWORK, n_rewards=6), replace(SETTINGS, bootstrap="common"), tmp_path)
    values = heads_of_states(network, world).double()
    policy = one_hot(values[0].argmax(1), 3).double()
    visits = successor_representation(world.tables, policy, world.discount)  # (I - gamma P_pi)^-1
    exact = (world.tables.transition @ visits).permute(2, 1, 0)
    assert (values[1:] - exact).abs().max() < 0.6  # of 10 visits in all
    assert (values[1:] - exact).abs().mean() < 0.15
    torch.testing.assert_close(values[1:].sum(0), torch.full((5, 3), 10.0, dtype=torch.float64), rtol=0.05, atol=0)
    own = replace(SETTINGS, total_steps=50_000)
    apart = heads_of_states(trained(world, replace(NETWORK, n_rewards=6), own, tmp_path / "own"), world)
    assert apart[1:].sum(0).mean() > 14  # each head the most visits that any policy makes: together more than there are


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_best_of_policies_is_no_worse_than_any(seed: int, n_policies: int) -> None:
    """Generalised policy improvement, on exact tables (Barreto et al. 2017, theorem 1 without errors)."""
    world = RandomWorld(RandomConfig(n_states=6, n_actions=3, n_successors=3, seed=seed % 50))
    generator, tables, gamma = torch.Generator().manual_seed(seed), world.tables, world.discount

    def values(policy: torch.Tensor) -> torch.Tensor:
        visits = successor_representation(tables, policy, gamma)
        state_values = visits @ (policy * tables.expected_reward()).sum(1)
        return tables.expected_reward() + gamma * (tables.transition @ state_values).T

    policies = [one_hot(torch.randint(3, (6,), generator=generator), 3).double() for _ in range(n_policies)]
    best = torch.stack([values(policy) for policy in policies]).amax(0)
    improved = values(one_hot(best.argmax(1), 3).double())
    assert (improved >= best - 1e-9).all()
    assert (improved <= solve_mdp(tables, gamma).q_values + 1e-9).all()


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> RecurrentQNetwork:
    config = replace(NETWORK, n_rewards=3, acts_by="task")
    return trained(TASKS, config, replace(SETTINGS, bootstrap="common", epsilon_end=0.5), tmp_path_factory.mktemp("universal"))


TASKS = with_tasks(RandomWorld(RandomConfig(n_states=5, n_actions=3, n_successors=3, n_rewards=3)))


def earned(agent: GpiAgent | RecurrentQNetwork) -> tuple[float, float]:
    result = evaluate_return(agent, TASKS, 2048, torch.Generator().manual_seed(0))
    return result.mean_discounted_return, result.discounted_standard_error


def test_a_universal_network_acts_for_the_task_that_it_sees(universal: RecurrentQNetwork) -> None:
    assert TASKS.inner.reward_functions is not None
    exact = solve_rewards(TASKS.inner.tables, TASKS.inner.reward_functions, TASKS.discount)
    optimum = float(exact.amax(-1).mean()) * (1 - 0.9**50)
    assert earned(universal)[0] > 0.95 * optimum
    check_agent(universal, TASKS)


def test_the_best_of_imagined_policies_is_no_worse_than_any_and_alone_is_the_network(universal: RecurrentQNetwork) -> None:
    every, alone = GpiAgent(universal, torch.eye(3)), [GpiAgent(universal, one.unsqueeze(0)) for one in torch.eye(3)]
    check_agent(every, TASKS)
    best, error = earned(every)
    for one in alone:
        assert best >= earned(one)[0] - 3 * error
    assert min(earned(one)[0] for one in alone) < best - 3 * error  # a policy for one task is poor at the others
    inputs = torch.cat([torch.eye(5)[:4], torch.eye(3)[[1] * 4], torch.zeros(4, 3)], 1)
    start, reset = torch.zeros(4, universal.state_size), torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(alone[1].step(inputs, start, reset)[0], universal.step(inputs, start, reset)[0])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="7 heads need as many reward functions; world 'random-mdp' has 6"):
        make_network(WORLD, replace(NETWORK, n_rewards=7), 0)
    with pytest.raises(ValueError, match="2 heads need as many reward functions; world 'tmaze' has 1"):
        make_network(make_world("tmaze"), replace(NETWORK, n_rewards=2), 0)
    with pytest.raises(ValueError, match="acting by the task needs a world that shows it"):
        make_network(WORLD, replace(NETWORK, n_rewards=6, acts_by="task"), 0)
    with pytest.raises(ValueError, match="do not make up its own reward in every episode"):
        make_network(TASKS, replace(NETWORK, n_rewards=3), 0)
    with pytest.raises(ValueError, match="several rewards are learned by pqn alone"):
        train(WORLD, replace(NETWORK, n_rewards=6), R2d2Config(), tmp_path, 0)
    with pytest.raises(ValueError, match="expected a network that acts by the task"):
        GpiAgent(make_network(WORLD, replace(NETWORK, n_rewards=6), 0), torch.eye(6))
    for wrong in ({"n_rewards": 0}, {"n_rewards": 5000}, {"acts_by": "task"}, {"n_rewards": 2, "dueling": True}):
        with pytest.raises(ValueError, match=r"at least 1|at most|acts_by|dueling"):
            NetworkConfig(**wrong)
