"""Planted agents hold what they are said to hold, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    PLANTED,
    Agent,
    BeliefAgent,
    ClockAgent,
    CodedBeliefAgent,
    DriftingNoiseAgent,
    MemorylessAgent,
    agent_inputs,
    evaluate_return,
    reservoir_agent,
    seeded_generator,
)
from worldprobe.agents._hash import draw_streams, hashed_normal, hashed_uniform, next_stream
from worldprobe.agents._planted import split_inputs
from worldprobe.worlds import TMaze, Unavailable, World, make_world, solve_pomdp

PLAIN, REWARDED = frozenset({"observation", "action"}), frozenset({"observation", "action", "reward"})


@dataclass
class Life:
    """Episodes lived by undirected exploration, in columns, with the exact beliefs along the way."""

    inputs: Tensor
    belief: Tensor
    is_running: Tensor


def live(world: World, channels: frozenset[str], n: int, n_steps: int) -> Life:
    """Follow the first episode of `n` environments with the world's own filter, written out step by step."""
    generator = seeded_generator(0, "life")
    driver, belief_filter = world.driver(n, generator), world.belief_filter(channels)
    action, reward, running = torch.full((n,), -1), torch.zeros(n), torch.ones(n, dtype=torch.bool)
    belief = belief_filter.start(driver.observation, generator)
    inputs, beliefs, alive = [], [], []
    for _ in range(n_steps):
        inputs.append(agent_inputs(driver.observation, action, reward, channels, world.n_actions))
        beliefs.append(torch.cat([leaf.flatten(1) for leaf in belief.values()], 1))
        alive.append(running)
        action = torch.randint(world.n_actions, (n,), generator=generator)
        step = driver.step(action)
        reward, running = step.reward, running & ~(step.terminated | step.truncated)
        rows = running.nonzero().flatten()
        before = {name: leaf[rows] for name, leaf in belief.items()}
        ends = torch.zeros(len(rows), dtype=torch.bool)
        after = belief_filter.update(before, action[rows], reward[rows], step.observation[rows], ends, generator)
        belief = {name: leaf.index_copy(0, rows, after[name]) for name, leaf in belief.items()}
    return Life(torch.stack(inputs), torch.stack(beliefs), torch.stack(alive))


@pytest.mark.parametrize("channels", [PLAIN, REWARDED, frozenset({"action"})])
@pytest.mark.parametrize("name", ["tmaze", "tmaze-irrelevant", "red-light"])
def test_a_belief_agent_holds_the_exact_belief(name: str, channels: frozenset[str]) -> None:
    world = make_world(name)
    life = live(world, channels, n=20, n_steps=15)
    agent = BeliefAgent(world, channels)
    hidden = agent.activations(life.inputs, agent.initial_state(20))["core.h"]
    torch.testing.assert_close(hidden[life.is_running].double(), life.belief[life.is_running], atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", [BeliefAgent, lambda world, channels: CodedBeliefAgent(world, channels, seed=0)])
def test_knowing_agents_earn_the_optimum(build: Callable[[World, frozenset[str]], Agent]) -> None:
    world = TMaze()
    result = evaluate_return(build(world, PLAIN), world, 2000, torch.Generator().manual_seed(0))
    best = solve_pomdp(world, PLAIN)
    assert best.exact
    assert result.mean_discounted_return == pytest.approx(best.lower, abs=4 * result.discounted_standard_error)
    assert result.mean_return == pytest.approx(best.undiscounted, abs=4 * result.standard_error)


def test_a_history_that_cannot_be_follows_its_action_alone() -> None:
    """Padding and counterfeit laws give such rows; the possible ones beside them are as if alone."""
    world = TMaze(length=3, stochasticity=0.0)
    agent = BeliefAgent(world, PLAIN)
    up, corridor, crossroad = torch.eye(4)[0], torch.eye(4)[2], torch.eye(4)[3]
    start = agent_inputs(up.expand(5, 4), torch.full((5,), -1), torch.zeros(5), PLAIN, 4)
    _, state = agent.step(start, agent.initial_state(5), torch.ones(5, dtype=torch.bool))
    seen = torch.stack([corridor, crossroad, corridor, crossroad, corridor])  # one step from the start: a crossroad cannot be
    after = agent.step(agent_inputs(seen, torch.zeros(5, dtype=torch.int64), torch.zeros(5), PLAIN, 4), state, torch.zeros(5).bool())[1]
    belief = agent.hidden(after)
    assert belief.argmax(1).tolist() == [1] * 5
    assert torch.equal(belief[0], belief[2])
    assert torch.equal(belief.sum(1), torch.ones(5))


def test_worlds_without_a_belief_are_refused() -> None:
    with pytest.raises(Unavailable):
        BeliefAgent(make_world("cartpole"), PLAIN)


def r_squared(features: Tensor, labels: Tensor, n_train: int) -> float:
    """Held-out R^2 of least squares, over all columns of `labels` that vary."""
    features = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    labels = labels.double()[:, labels.double().std(0) > 1e-3]
    weights = torch.linalg.lstsq(features[:n_train], labels[:n_train], driver="gelsd").solution
    held_out, mean = labels[n_train:], labels[:n_train].mean(0)
    unexplained, total = (held_out - features[n_train:] @ weights).square().sum(), (held_out - mean).square().sum()
    return 1 - float(unexplained / total)


def test_a_coded_belief_is_hidden_from_lines_and_open_to_products() -> None:
    world = TMaze()
    life = live(world, PLAIN, n=400, n_steps=15)
    agent = CodedBeliefAgent(world, PLAIN, seed=0)
    hidden = agent.activations(life.inputs, agent.initial_state(400))["core.h"].transpose(0, 1)
    running = life.is_running.T
    belief = life.belief.transpose(0, 1)[running]
    code = hidden[running]
    n_train = int(running[:300].sum())
    sign = code[:, -1:]
    assert set(torch.unique(sign).tolist()) == {-1.0, 1.0}
    assert abs(sign.mean().item()) < 5 / len(sign) ** 0.5
    assert r_squared(code, belief, n_train) < 0.01
    assert r_squared(code[:, :-1] * sign, belief, n_train) > 0.999


def test_signs_are_new_at_every_step_and_in_every_episode() -> None:
    agent = CodedBeliefAgent(TMaze(), PLAIN, seed=0)
    inputs = live(TMaze(), PLAIN, n=1, n_steps=1).inputs.expand(200, 1, -1)
    first, second = (agent.activations(inputs, agent.initial_state(1))["core.h"][:, 0, -1] for _ in range(2))
    for a, b in [(first[1:], first[:-1]), (first, second)]:
        assert abs((a * b).mean().item()) < 0.3  # 4 standard errors


def test_a_memoryless_agent_shows_the_input_and_nothing_before_it() -> None:
    agent = MemorylessAgent(TMaze(), PLAIN, seed=0)
    inputs = torch.randn(6, 2, agent.input_size, generator=torch.Generator().manual_seed(0))
    inputs[-1, 1] = inputs[-1, 0]
    hidden = agent.activations(inputs, agent.initial_state(2))["core.h"]
    assert torch.equal(hidden[-1, 0], hidden[-1, 1])
    assert not torch.equal(hidden[0, 0], hidden[0, 1])


def test_a_clock_shows_the_time_and_nothing_else() -> None:
    agent = ClockAgent(TMaze(), PLAIN, seed=0)
    inputs = torch.randn(40, 2, agent.input_size, generator=torch.Generator().manual_seed(0))
    hidden = agent.activations(inputs, agent.initial_state(2))["core.h"]
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    assert torch.cdist(hidden[:, 0], hidden[:, 0])[~torch.eye(40, dtype=torch.bool)].min() > 0.1
    _, restarted = agent.step(inputs[0], torch.full((2, 1), 17.0), torch.tensor([True, False]))
    assert restarted.flatten().tolist() == [1.0, 18.0]


def test_drifting_noise_drifts_and_ignores_the_world() -> None:
    world = TMaze()
    agent, same = DriftingNoiseAgent(world, PLAIN, seed=0), DriftingNoiseAgent(world, PLAIN, seed=0)
    inputs, other = torch.randn(2, 60, 100, agent.input_size, generator=torch.Generator().manual_seed(0))
    h = agent.activations(inputs, agent.initial_state(100))["core.h"]
    assert torch.equal(h, same.activations(other, same.initial_state(100))["core.h"])
    assert h[0].std().item() == pytest.approx(1, abs=0.05)  # stationary from the first step
    assert h[-1].std().item() == pytest.approx(1, abs=0.05)
    for lag in (1, 10):
        assert (h[lag:] * h[:-lag]).mean().item() == pytest.approx(0.95**lag, abs=0.05)
    across = torch.corrcoef(h.permute(1, 0, 2).flatten(1))[~torch.eye(100, dtype=torch.bool)]
    assert across.abs().max() < 0.5  # 64 units x 60 steps of memory 40: about 200 free numbers per episode


def test_every_episode_has_noise_of_its_own() -> None:
    agent = DriftingNoiseAgent(TMaze(), PLAIN, seed=0, width=4)
    none, every, reset = torch.zeros(3, agent.input_size), [], torch.ones(3, dtype=torch.bool)
    state = agent.initial_state(3)
    for _ in range(20):
        _, state = agent.step(none, state, reset)
        every.append(agent.hidden(state))
    every.append(agent.hidden(agent.step(none, agent.initial_state(3), ~reset)[1]))
    first_units = torch.cat(every)[:, 0]
    assert len(torch.unique(first_units)) == 63
    assert first_units.std().item() == pytest.approx(1, abs=0.35)


def test_noise_must_be_stationary() -> None:
    with pytest.raises(ValueError, match="0 <= rho < 1"):
        DriftingNoiseAgent(TMaze(), PLAIN, seed=0, rho=1.0)


def test_a_reservoir_has_the_width_asked_for() -> None:
    assert reservoir_agent(TMaze(), REWARDED, seed=0, width=26).sites["core.h"] == 26


@pytest.mark.parametrize("channels", [PLAIN, REWARDED, frozenset({"action"}), frozenset({"action", "reward"})])
def test_inputs_are_split_as_they_were_joined(channels: frozenset[str]) -> None:
    world = TMaze()
    observation, action = torch.eye(4)[[0, 2, 3]], torch.tensor([-1, 0, 3])
    reward = torch.tensor([0.0, -0.1, 0.0])
    found = split_inputs(agent_inputs(observation, action, reward, channels, 4), world, channels)
    assert torch.equal(found[0], observation * ("observation" in channels))
    assert torch.equal(found[1], action)
    assert torch.equal(found[2], reward * ("reward" in channels))


def test_hashed_numbers_look_random() -> None:
    counters = torch.arange(300).unsqueeze(1), torch.arange(200)
    uniform = hashed_uniform(*counters)
    assert torch.equal(uniform, hashed_uniform(*counters))
    counts = torch.histc(uniform, 20, 0, 1)
    assert ((counts - 3000) ** 2 / 3000).sum() < 45  # chi squared, 19 degrees of freedom: p = 7e-4
    for shifted in (uniform[1:, :], uniform[:, 1:]):
        pair = torch.stack([uniform[: shifted.shape[0], : shifted.shape[1]].flatten(), shifted.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.02  # 5 standard errors
    normal = hashed_normal(*counters)
    assert normal.isfinite().all()
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.std().item() == pytest.approx(1, abs=0.02)


def test_streams_are_exact_in_float32() -> None:
    stream = draw_streams(10_000, torch.Generator().manual_seed(0))
    following = next_stream(stream)
    for each in (stream, following):
        assert each.dtype == torch.float32
        assert torch.equal(each, each.round())
        assert each.min() >= 1
        assert each.max() < 2**24
        assert len(torch.unique(each)) > 9_980


def test_the_registry_names_its_agents() -> None:
    world = TMaze(length=3)
    assert {name: build(world, PLAIN, 0).name for name, build in PLANTED.items()} == {name: name for name in PLANTED}
