"""PPO against its objective written down one step at a time: advantages, ratios, entropy, stored states; and acting by chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    Actor,
    NetworkConfig,
    PpoConfig,
    PpoLearner,
    RecurrentQNetwork,
    Rollout,
    check_agent,
    make_network,
    seeded_generator,
    train,
    train_ppo,
)
from worldprobe.worlds import World, make_world

N_ENVS = 4
NETWORK = NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,), actor_critic=True)
ONCE = PpoConfig(n_envs=N_ENVS, n_steps=9, n_epochs=1, n_minibatches=1, max_gradient_norm=1e9)


def lived(world: World, n_before: int = 2) -> tuple[RecurrentQNetwork, Rollout]:
    """A rollout in the midst of episodes, so that core states count."""
    network = make_network(world, NETWORK, seed=0)
    actor = Actor(network, world.driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "actions"), samples=True)
    for _ in range(n_before):
        actor.collect(ONCE.n_steps, 0.0)
    return network, actor.collect(ONCE.n_steps, 0.0)


def judged(network: RecurrentQNetwork, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (n, T, A), values (n, T) and values of what followed (n, T), one step after the other."""
    log_policy, value, following = [], [], []
    state = rollout.core_state
    for t in range(rollout.action.shape[1]):
        y, after = network.core.step(network.encoder(rollout.inputs[:, t]), state, torch.zeros(N_ENVS, dtype=torch.bool))
        each, worth = network.preferences_and_value(y)
        y_next, _ = network.core.step(network.encoder(rollout.successors[:, t]), after, torch.zeros(N_ENVS, dtype=torch.bool))
        log_policy.append(each)
        value.append(worth)
        following.append(network.preferences_and_value(y_next)[1])
        state = after * ~rollout.ended[:, t, None]
    return torch.stack(log_policy, 1), torch.stack(value, 1), torch.stack(following, 1)


def advantages(value: Tensor, following: Tensor, rollout: Rollout, gamma: float, lam: float) -> Tensor:
    """The recursion of generalised advantages, backwards."""
    result, carried = torch.zeros_like(value), torch.zeros(N_ENVS)
    for t in reversed(range(value.shape[1])):
        delta = rollout.reward[:, t] + gamma * ~rollout.terminated[:, t] * following[:, t] - value[:, t]
        carried = delta + gamma * lam * carried * ~rollout.ended[:, t]
        result[:, t] = carried
    return result


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("clip", [0.2, 0.01])
def test_the_second_epoch_descends_the_objective_from_what_was_lived(lam: float, clip: float, corridor: Callable[..., World]) -> None:
    """At its start the ratios are no longer one; what is left on the network after it are the gradients there."""
    world, config = corridor(), replace(ONCE, gae_lambda=lam, clip=clip, n_epochs=2)
    network, rollout = lived(world)
    acted, moved = make_network(world, NETWORK, seed=0), make_network(world, NETWORK, seed=0)
    PpoLearner(moved, replace(config, n_epochs=1), 0.9, torch.Generator().manual_seed(0)).update(rollout, learning_rate=0.03)
    moved.zero_grad()
    PpoLearner(network, config, 0.9, torch.Generator().manual_seed(0)).update(rollout, learning_rate=0.03)
    with torch.no_grad():
        old_policy, old_value, following = judged(acted, rollout)
        advantage = advantages(old_value, following, rollout, 0.9, lam)
        scaled = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        old = old_policy.gather(-1, rollout.action.unsqueeze(-1)).squeeze(-1)
    log_policy, value, _ = judged(moved, rollout)
    ratio = (log_policy.gather(-1, rollout.action.unsqueeze(-1)).squeeze(-1) - old).exp()
    assert ((ratio - 1).abs() > clip).any() == (clip < 0.1)  # clipped where the clip is narrow
    gain = torch.minimum(ratio * scaled, ratio.clamp(1 - clip, 1 + clip) * scaled).mean()
    entropy = -(log_policy.exp() * log_policy).sum(-1).mean()
    loss = -gain + config.value_weight * (value - advantage - old_value).square().mean() / 2 - config.entropy_weight * entropy
    torch.autograd.backward(loss)
    for (name, one), other in zip(network.named_parameters(), moved.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_nothing_is_gained_beyond_the_clip(corridor: Callable[..., World]) -> None:
    """After epochs of large steps the mean ratio of what was good stays near the clip: clipped steps have no gradient."""
    network, rollout = lived(corridor())
    learner = PpoLearner(network, replace(ONCE, n_epochs=60, entropy_weight=0.0, value_weight=0.0), 0.9, torch.Generator().manual_seed(0))
    learner.update(rollout, learning_rate=3e-3)
    measured = learner.pop_metrics()
    assert 0.0 < measured["clipped"] < 0.9
    assert measured["policy_loss"] > -0.25  # a standardised advantage of mean size below one, times at most the clip, about


def test_actions_are_drawn_by_their_probabilities(corridor: Callable[..., World]) -> None:
    world = corridor()
    network = make_network(world, NETWORK, seed=3)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(20)
    actor = Actor(network, world.driver(512, seeded_generator(0, "driver")), seeded_generator(0, "actions"), samples=True)
    q, _ = network.step(actor.act(0.0).inputs, network.initial_state(512), torch.ones(512, dtype=torch.bool))
    torch.testing.assert_close(q.exp().sum(1), torch.ones(512))
    draws = torch.stack(
        [
            Actor(network, world.driver(512, seeded_generator(0, "driver")), seeded_generator(n, "actions"), samples=True).act(1.0).action
            for n in range(40)
        ]
    )
    share = torch.nn.functional.one_hot(draws, world.n_actions).double().mean((0, 1))
    torch.testing.assert_close(share, q.exp().double().mean(0), rtol=0, atol=0.02)


def test_it_is_an_agent_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    world = make_world("memory-chain")
    check_agent(make_network(world, NETWORK, 0), world)
    config = PpoConfig(
        total_steps=2048, n_envs=8, n_steps=16, n_evaluations=2, n_evaluation_episodes=8, n_checkpoints=2, resume_interval=0.0
    )

    class StopError(Exception):
        pass

    def stop(state: object) -> None:
        if state.step >= 512:  # type: ignore[attr-defined]
            raise StopError

    whole = train_ppo(world, NETWORK, config, tmp_path / "whole", seed=0)
    with pytest.raises(StopError):
        train_ppo(world, NETWORK, config, tmp_path / "cut", seed=0, progress=stop)
    again = train_ppo(world, NETWORK, config, tmp_path / "cut", seed=0)
    assert whole.final.read_bytes() == again.final.read_bytes()
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (tmp_path / "cut" / "metrics.csv").read_bytes()


def test_it_learns_to_remember(tmp_path: Path) -> None:
    config = PpoConfig(total_steps=60_000, n_evaluations=4, n_evaluation_episodes=64, n_checkpoints=2, learning_rate=3e-3)
    result = train_ppo(make_world("memory-chain"), replace(NETWORK, hidden_size=32, encoder_sizes=(32,)), config, tmp_path, seed=0)
    last = (result.directory / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert float(last[1]) > 0.9


def test_refusals(tmp_path: Path) -> None:
    world = make_world("tmaze")
    with pytest.raises(ValueError, match="ppo learns an actor-critic, tdm horizons, and nothing else does"):
        train(world, NetworkConfig(), PpoConfig(), tmp_path, 0)
    for wrong in ({"clip": 0.0}, {"entropy_weight": -1.0}, {"gae_lambda": 2.0}, {"n_minibatches": 99}):
        with pytest.raises(ValueError, match="expected"):
            PpoConfig(**wrong)
    with pytest.raises(ValueError, match="choose one"):
        NetworkConfig(actor_critic=True, n_rewards=2)
    with pytest.raises(ValueError, match="not dueling"):
        NetworkConfig(actor_critic=True, dueling=True)
