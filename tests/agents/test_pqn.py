from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    Actor,
    NetworkConfig,
    PqnConfig,
    PqnLearner,
    RecurrentQNetwork,
    Rollout,
    TrainingDivergedError,
    evaluate_return,
    make_network,
    seeded_generator,
)
from worldprobe.worlds import TMaze, World

BuildWorld = Callable[..., World]
TINY = PqnConfig(total_steps=1, n_envs=6, n_steps=12, n_epochs=1, n_minibatches=1, max_gradient_norm=1e9)


def act_and_learn(world: World, config: PqnConfig, core: str = "lstm") -> tuple[RecurrentQNetwork, Actor, PqnLearner]:
    network = make_network(world, NetworkConfig(core=core, hidden_size=5, encoder_sizes=(4,)), seed=0)
    actor = Actor(network, world.driver(config.n_envs, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    return network, actor, PqnLearner(network, config, world.discount, seeded_generator(0, "minibatches"))


def plain_loss(network: RecurrentQNetwork, rollout: Rollout, discount: float, td_lambda: float) -> Tensor:
    """The objective written down as directly as possible: one environment and one step at a time."""
    losses = []
    for env in range(len(rollout.action)):
        state, q_values, next_values = rollout.core_state[env : env + 1], [], []
        for t in range(rollout.action.shape[1]):
            if t > 0 and rollout.ended[env, t - 1]:
                state = torch.zeros_like(state)
            q, state = network.sequence(rollout.inputs[env : env + 1, t].unsqueeze(0), state)
            q_next, _ = network.sequence(rollout.successors[env : env + 1, t].unsqueeze(0), state)
            q_values.append(q[0, 0, rollout.action[env, t]])
            next_values.append(q_next.max().item())
        target = 0.0
        for t in reversed(range(rollout.action.shape[1])):
            cut = t == rollout.action.shape[1] - 1 or rollout.ended[env, t]
            follows = next_values[t] if cut else (1 - td_lambda) * next_values[t] + td_lambda * target
            target = rollout.reward[env, t].item() + (0.0 if rollout.terminated[env, t] else discount * follows)
            losses.append((q_values[t] - target) ** 2 / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("core", ["lstm", "gru"])
def test_the_step_is_the_gradient_of_the_plain_objective(core: str, corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Termination, truncation, the rollout's border, stored states and padding all come out as in the plain loop."""
    world = corridor(end=4, time_limit=6)
    network, actor, learner = act_and_learn(world, TINY, core)
    actor.collect(4, epsilon=1.0)
    rollout = actor.collect(TINY.n_steps, epsilon=1.0)
    assert rollout.terminated.any()
    assert (rollout.ended & ~rollout.terminated).any()
    assert (rollout.core_state != 0).any()
    loss = plain_loss(network, rollout, world.discount, TINY.td_lambda)
    expected = torch.autograd.grad(loss, list(network.parameters()))
    monkeypatch.setattr(torch.optim.RAdam, "step", lambda self: None)
    learner.update(rollout, learning_rate=1.0)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)
    assert learner.pop_metrics()["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_minibatches_split_the_environments_evenly_in_every_epoch(corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TINY, n_epochs=3, n_minibatches=4)
    _, actor, learner = act_and_learn(corridor(), config)
    steps: list[int] = []
    monkeypatch.setattr(torch.optim.RAdam, "step", lambda self: steps.append(1))
    learner.update(actor.collect(config.n_steps, 1.0), 1e-3)
    assert len(steps) == 12


def test_large_gradients_are_scaled_down(corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    network, actor, learner = act_and_learn(corridor(), replace(TINY, max_gradient_norm=0.01))
    monkeypatch.setattr(torch.optim.RAdam, "step", lambda self: None)
    learner.update(actor.collect(TINY.n_steps, 1.0), 1e-3)
    norm = torch.stack([parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)
    assert learner.pop_metrics()["gradient_norm"] > 0.01


def test_metrics_are_means_since_the_last_look(corridor: BuildWorld) -> None:
    _, actor, learner = act_and_learn(corridor(), TINY)
    assert all(math.isnan(value) for value in learner.pop_metrics().values())
    learner.update(actor.collect(TINY.n_steps, 1.0), 1e-3)
    assert all(math.isfinite(value) for value in learner.pop_metrics().values())
    assert all(math.isnan(value) for value in learner.pop_metrics().values())


@pytest.mark.parametrize(("field", "what"), [("reward", "a reward"), ("inputs", "an input"), ("successors", "an input")])
def test_broken_worlds_are_named(field: str, what: str, corridor: BuildWorld) -> None:
    _, actor, learner = act_and_learn(corridor(), TINY)
    rollout = actor.collect(TINY.n_steps, 1.0)
    getattr(rollout, field)[2, 5] = torch.nan
    with pytest.raises(TrainingDivergedError, match=f"{what} is not finite in environment 2, step 5"):
        learner.update(rollout, 1e-3)


def test_divergence_stops_before_the_weights_are_spoilt(corridor: BuildWorld) -> None:
    network, actor, learner = act_and_learn(corridor(), TINY)
    rollout = actor.collect(TINY.n_steps, 1.0)
    rollout.reward[:] = 3e38
    before = [parameter.clone() for parameter in network.parameters()]
    with pytest.raises(TrainingDivergedError, match="epoch 0, minibatch 0: loss inf"):
        learner.update(rollout, 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_learner_goes_on_bit_for_bit(corridor: BuildWorld) -> None:
    config = replace(TINY, n_epochs=2, n_minibatches=2)
    network, actor, learner = act_and_learn(corridor(), config)
    learner.update(actor.collect(config.n_steps, 1.0), 1e-3)
    saved = {name: value.clone() for name, value in learner.state_dict().items()}
    rollout = actor.collect(config.n_steps, 1.0)
    learner.update(rollout, 1e-3)
    other_network, _, other = act_and_learn(corridor(), config)
    other.load_state_dict(saved)
    other.update(rollout, 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other_network.parameters(), strict=True))
    assert other.pop_metrics() == learner.pop_metrics()


def test_a_short_maze_is_learned() -> None:
    """The goal is shown once and needed three steps later: 1.95 without memory, 4 with it."""
    world = TMaze(length=3, stochasticity=0.0)
    config = PqnConfig(n_envs=32, n_steps=16, n_epochs=4, learning_rate=3e-3)
    network = make_network(world, NetworkConfig(core="gru", hidden_size=32), seed=0)
    actor = Actor(network, world.driver(32, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    learner = PqnLearner(network, config, world.discount, seeded_generator(0, "minibatches"))
    for _ in range(40):
        learner.update(actor.collect(16, epsilon=0.3), 3e-3)
    assert evaluate_return(network, world, 200, seeded_generator(0, "evaluation")).mean_return > 3.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_envs": 0}, "n_envs >= 1"),
        ({"td_lambda": 1.5}, r"td_lambda in \[0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"discount": -0.1}, r"discount in \[0, 1\]"),
        ({"n_envs": 2, "n_minibatches": 3}, "n_minibatches <= n_envs"),
        ({"n_checkpoints": 1}, "n_checkpoints >= 2"),
        ({"reward_source": "none"}, "reward_source 'own' or 'yoked'"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PqnConfig(), **change)  # type: ignore[arg-type]  # wrong on purpose


def test_epsilon_falls_linearly_and_stays() -> None:
    config = PqnConfig(epsilon_start=1.0, epsilon_end=0.1, exploration_fraction=0.5)
    assert [config.epsilon(fraction) for fraction in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert replace(config, exploration_fraction=0.0).epsilon(0.0) == pytest.approx(0.1)
