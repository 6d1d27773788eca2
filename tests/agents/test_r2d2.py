"""R2D2 against its objective written down one step at a time, and each trap that public versions fell into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    Actor,
    NetworkConfig,
    R2d2Config,
    R2d2Learner,
    RecurrentQNetwork,
    Rollout,
    load_checkpoint,
    make_network,
    rescale,
    seeded_generator,
    train_r2d2,
    unscale,
)
from worldprobe.agents._slow_target import SlowTargetQ, TargetRule, burn_in_state
from worldprobe.worlds import World, make_world

BuildWorld = Callable[..., World]
N_ENVS, LENGTH = 5, 14


@pytest.fixture
def sequences(corridor: BuildWorld) -> tuple[RecurrentQNetwork, RecurrentQNetwork, Rollout]:
    """Return a network, another one, and what the first lived: terminations, truncations and stored states."""
    world = corridor(end=4, time_limit=6)
    network, slow = (make_network(world, NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,)), seed) for seed in (0, 1))
    actor = Actor(network, world.driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    actor.collect(3, epsilon=1.0)
    rollout = actor.collect(LENGTH, epsilon=1.0)
    assert rollout.terminated.any()
    assert (rollout.ended & ~rollout.terminated).any()
    assert (rollout.core_state != 0).any()
    return network, slow, rollout


def unrolled(network: RecurrentQNetwork, rollout: Rollout, env: int, begin: int) -> tuple[Tensor, Tensor]:
    """Return Q of every step from `begin` on, and of what followed each in its episode; the steps before have no gradient."""
    state, q_values, q_following = rollout.core_state[env : env + 1], [], []
    for t in range(LENGTH):
        if t > 0 and rollout.ended[env, t - 1]:
            state = torch.zeros_like(state)
        if t == begin:
            state = state.detach()
        q, state = network.sequence(rollout.inputs[env : env + 1, t].unsqueeze(0), state)
        following, _ = network.sequence(rollout.successors[env : env + 1, t].unsqueeze(0), state)
        q_values.append(q[0, 0])
        q_following.append(following[0, 0])
    return torch.stack(q_values), torch.stack(q_following).detach()


def plain_errors(network: RecurrentQNetwork, slow: RecurrentQNetwork, rollout: Rollout, rule: TargetRule, burn_in: int) -> Tensor:
    """TD errors (n_envs, LENGTH - burn_in), written down as directly as possible."""
    errors = []
    for env in range(N_ENVS):
        q, following = unrolled(network, rollout, env, burn_in)
        _, slow_following = unrolled(slow, rollout, env, burn_in)
        for t in range(burn_in, LENGTH):
            target, factor = torch.zeros(()), 1.0
            for j in range(t, min(t + rule.n_step, LENGTH)):
                target = target + factor * rollout.reward[env, j]
                factor *= rule.discount
                if rollout.ended[env, j] or j == min(t + rule.n_step, LENGTH) - 1:
                    action = (following if rule.double else slow_following)[j].argmax()
                    value = slow_following[j, action]
                    value = unscale(value) if rule.rescale else value
                    target = target + factor * value * ~rollout.terminated[env, j]
                    break
            target = rescale(target) if rule.rescale else target
            errors.append(q[t, rollout.action[env, t]] - target)
    return torch.stack(errors).view(N_ENVS, LENGTH - burn_in)


@pytest.mark.parametrize("burn_in", [0, 1, 6, LENGTH - 1])
@pytest.mark.parametrize(
    "rule",
    [
        TargetRule(0.9),
        TargetRule(0.9, n_step=3, double=True),
        TargetRule(0.9, n_step=4, rescale=True),
        TargetRule(0.9, n_step=20, double=True, rescale=True),
    ],
    ids=str,
)
def test_the_step_is_the_gradient_of_the_plain_objective(
    sequences: tuple[RecurrentQNetwork, RecurrentQNetwork, Rollout], rule: TargetRule, burn_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Burn-in (also none), resets inside sequences, ends of both kinds and the sequence's own end come out as in the plain loop."""
    network, slow, rollout = sequences
    q = SlowTargetQ(network, rule, max_gradient_norm=1e9)
    q._slow.load_state_dict(slow.state_dict())
    weight = torch.linspace(0.5, 1.5, N_ENVS)
    plain = plain_errors(network, slow, rollout, rule, burn_in)
    expected = torch.autograd.grad((weight.unsqueeze(1) * plain.square()).mean() / 2, list(network.parameters()))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    sequence, error = q.step(q.warmed(rollout, burn_in), weight, 1e-3, "here")
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)
    for env in range(N_ENVS):
        absolute = error[:, sequence == env].sum().item()
        assert absolute == pytest.approx(plain[env].abs().sum().item(), rel=1e-4)


@pytest.mark.parametrize("core", ["lstm", "lru"])
@pytest.mark.parametrize("n_steps", [0, 1, 5, 9, LENGTH])
def test_burning_in_is_stepping_with_resets(core: str, n_steps: int, corridor: BuildWorld) -> None:
    world = corridor(end=4, time_limit=6)
    network = make_network(world, NetworkConfig(core=core, hidden_size=5, n_layers=2), seed=0)
    actor = Actor(network, world.driver(40, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    actor.collect(3, epsilon=1.0)
    rollout = actor.collect(LENGTH, epsilon=1.0)
    state = rollout.core_state
    for t in range(n_steps):
        _, state = network.step(rollout.inputs[:, t], state, rollout.ended[:, t - 1] & (t > 0))
    if n_steps:
        state = state.masked_fill(rollout.ended[:, n_steps - 1 : n_steps], 0.0)
    torch.testing.assert_close(burn_in_state(network, rollout, n_steps), state, atol=1e-5, rtol=0)


def learner(world: World, config: R2d2Config) -> tuple[Actor, R2d2Learner]:
    network = make_network(world, NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,)), seed=0)
    actor = Actor(network, world.driver(config.n_envs, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    return actor, R2d2Learner(network, config, world.discount, seeded_generator(0, "minibatches"))


TINY = R2d2Config(
    n_envs=4,
    n_steps=3,
    sequence_length=9,
    burn_in=4,
    replay_steps=120,
    warm_up_steps=60,
    n_gradient_steps=2,
    batch_size=6,
    target_interval=3,
)


def test_the_target_network_is_copied_every_so_many_steps(corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    actor, built = learner(corridor(), TINY)
    copies: list[int] = []
    monkeypatch.setattr(built._q, "copy", lambda: copies.append(built._n_descents))
    for _ in range(10):
        built.update(actor.collect(3, 1.0), 1e-3)
    assert built._n_descents == 2 * 6  # five rollouts of warm-up, whose last one counts
    assert copies == [0, 3, 6, 9]


def test_priorities_mix_the_largest_error_with_the_mean(corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    actor, built = learner(corridor(), replace(TINY, n_gradient_steps=1, warm_up_steps=0))
    given: dict[int, float] = {}
    segments: list[tuple[Tensor, Tensor]] = []
    step, set_priorities = built._q.step, built._replay.set_priorities

    def kept_step(*arguments: Any) -> tuple[Tensor, Tensor]:
        segments[:] = [step(*arguments)]
        return segments[0]

    def kept_priorities(index: Tensor, priority: Tensor) -> None:
        given.update(enumerate(priority.tolist()))
        set_priorities(index, priority)

    monkeypatch.setattr(built._q, "step", kept_step)
    monkeypatch.setattr(built._replay, "set_priorities", kept_priorities)
    for _ in range(6):
        built.update(actor.collect(3, 1.0), 1e-3)
    for sequence, priority in given.items():
        index, error = segments[0]
        errors = error[:, index == sequence]
        assert priority == pytest.approx(0.9 * errors.max().item() + 0.1 * errors.sum().item() / 5, rel=1e-5)


def test_a_learner_goes_on_bit_for_bit(corridor: BuildWorld) -> None:
    actor, built = learner(corridor(), TINY)
    for _ in range(8):
        built.update(actor.collect(3, 1.0), 1e-3)
    _, other = learner(corridor(), TINY)
    other.load_state_dict({name: value.clone() for name, value in built.state_dict().items()})
    for _ in range(8):
        rollout = actor.collect(3, 1.0)
        for each in (built, other):
            each.update(rollout, 1e-3)
    first, second = built.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


class InterruptedByUserError(Exception):
    """What a user may do at any moment."""


def test_interruptions_change_no_byte(tmp_path: Path) -> None:
    """The replay, too, is gone on with; and what was trained is recorded and probed like any other network."""
    world, network = make_world("tmaze"), NetworkConfig(core="gru", hidden_size=6, encoder_sizes=(5,), dueling=True)
    config = replace(TINY, total_steps=240, n_evaluations=3, n_evaluation_episodes=8, n_checkpoints=3, resume_interval=0.0)

    def interrupt(progress: object) -> None:
        raise InterruptedByUserError

    whole = train_r2d2(world, network, config, tmp_path / "whole", seed=0)
    for _ in range(7):
        with pytest.raises(InterruptedByUserError):
            train_r2d2(world, network, config, tmp_path / "cut", seed=0, progress=interrupt)
    cut = train_r2d2(world, network, config, tmp_path / "cut", seed=0)
    assert cut.final.read_bytes() == whole.final.read_bytes()
    assert (cut.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()
    agent, info = load_checkpoint(cut.final)
    assert info.training["burn_in"] == 4
    assert agent.config == network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence_length": 10}, "sequence_length a multiple of n_steps"),
        ({"burn_in": 9}, "0 <= burn_in < sequence_length"),
        ({"burn_in": -1}, "0 <= burn_in < sequence_length"),
        ({"replay_steps": 20}, "replay_steps >= n_envs \\* sequence_length"),
        ({"n_step": 0}, "n_step >= 1"),
        ({"priority_exponent": 2.0}, r"priority_exponent in \[0, 1\]"),
        ({"warm_up_steps": -1}, "warm_up_steps >= 0"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]  # wrong on purpose
