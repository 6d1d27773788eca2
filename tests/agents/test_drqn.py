"""DRQN over full histories: what replay holds, and both forms against the objective written down one history at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    Actor,
    DrqnConfig,
    DrqnLearner,
    NetworkConfig,
    RecurrentQNetwork,
    Rollout,
    make_network,
    seeded_generator,
    train_drqn,
)
from worldprobe.agents._episode_replay import EpisodeReplay, Steps
from worldprobe.worlds import World, make_world

N_ENVS = 3
TINY = DrqnConfig(n_envs=N_ENVS, n_steps=4, replay_episodes=20, batch_size=7, gradient_steps_per_episode=2, target_interval=3)


def lived(world: World, n_rollouts: int) -> tuple[RecurrentQNetwork, list[Rollout]]:
    network = make_network(world, NetworkConfig(core="gru", hidden_size=5, encoder_sizes=(4,)), seed=0)
    actor = Actor(network, world.driver(N_ENVS, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    return network, [actor.collect(TINY.n_steps, 1.0) for _ in range(n_rollouts)]


def episodes_of(rollouts: list[Rollout]) -> list[Steps]:
    """Cut whole episodes out of the columns of all rollouts, in the order in which they ended within each environment."""
    found = []
    for env in range(N_ENVS):
        column = {name: torch.cat([getattr(each, name)[env] for each in rollouts]) for name in ("inputs", "action", "reward", "ended")}
        begin = 0
        for end in (column["ended"].nonzero().flatten() + 1).tolist():
            found.append({name: values[begin:end] for name, values in column.items() if name != "ended"})
            begin = end
    return found


def test_replay_holds_the_episodes_that_ended(corridor: Callable[..., World]) -> None:
    _, rollouts = lived(corridor(), 9)
    expected = episodes_of(rollouts)
    replay = EpisodeReplay(1000, N_ENVS)
    assert sum(replay.add(rollout) for rollout in rollouts) == len(expected) == len(replay)
    drawn = replay.sample_episodes(500, torch.Generator().manual_seed(0))
    for steps in drawn:
        assert any(all(torch.equal(steps[name], each[name]) for name in each) for each in expected)
    assert len({id(steps) for steps in drawn}) == len(replay)


def test_the_oldest_episode_makes_room(corridor: Callable[..., World]) -> None:
    _, rollouts = lived(corridor(), 9)
    replay = EpisodeReplay(4, N_ENVS)
    for rollout in rollouts:
        replay.add(rollout)
    assert len(replay) == 4


def test_histories_end_at_steps_drawn_uniformly(corridor: Callable[..., World]) -> None:
    _, rollouts = lived(corridor(), 5)
    replay = EpisodeReplay(1000, N_ENVS)
    for rollout in rollouts:
        replay.add(rollout)
    everything = replay.sample_episodes(400, torch.Generator().manual_seed(0))
    longest = {steps["inputs"].data_ptr(): len(steps["action"]) for steps in everything}
    drawn = replay.sample_histories(20_000, torch.Generator().manual_seed(0))
    counts: dict[tuple[int, int], int] = {}
    for steps in drawn:
        place = steps["inputs"].data_ptr(), len(steps["action"])
        assert place[1] <= longest[place[0]]
        counts[place] = counts.get(place, 0) + 1
    n_steps = sum(longest.values())
    assert len(counts) == n_steps
    assert max(abs(count / 20_000 - 1 / n_steps) for count in counts.values()) < 5 * (1 / n_steps / 20_000) ** 0.5


def plain_loss(network: RecurrentQNetwork, histories: list[Steps], discount: float, *, only_last: bool) -> Tensor:
    """Run every history by itself, from zeros, one step at a time; targets from the very same weights."""
    losses = []
    for steps in histories:
        state = network.initial_state(1)
        for t in range(len(steps["action"])):
            q, state = network.sequence(steps["inputs"][t].view(1, 1, -1), state)
            following, _ = network.sequence(steps["successors"][t].view(1, 1, -1), state)
            target = steps["reward"][t] + discount * following.max().detach() * ~steps["terminated"][t]
            if t == len(steps["action"]) - 1 or not only_last:
                losses.append((q[0, 0, steps["action"][t]] - target) ** 2 / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["all steps", "one step"])
def test_the_step_is_the_gradient_of_the_plain_objective(
    form: Literal["all steps", "one step"], corridor: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = corridor(end=4, time_limit=6)
    network, rollouts = lived(world, 6)
    config = replace(TINY, learn_from=form, batch_size=40, max_gradient_norm=1e9)
    learner = DrqnLearner(network, config, 0.9, torch.Generator().manual_seed(0))
    for rollout in rollouts:
        learner._replay.add(rollout)
    draw = learner._replay.sample_histories if form == "one step" else learner._replay.sample_episodes
    histories = draw(config.batch_size, torch.Generator().manual_seed(0))
    assert any(steps["terminated"][-1] for steps in histories)
    assert not all(steps["terminated"][-1] for steps in histories)
    loss = plain_loss(network, histories, 0.9, only_last=form == "one step")
    expected = torch.autograd.grad(loss, list(network.parameters()))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    learner._descend(1e-3, "here")
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_steps_and_copies_are_counted_by_episodes(corridor: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    network, rollouts = lived(corridor(), 6)
    learner = DrqnLearner(network, TINY, 0.9, torch.Generator())
    log: list[str] = []
    monkeypatch.setattr(learner._q, "copy", lambda: log.append("copy"))
    monkeypatch.setattr(learner, "_descend", lambda *_: log.append("step"))
    for rollout in rollouts:
        learner.update(rollout, 1e-3)
    n_episodes = len(episodes_of(rollouts))
    assert log == [word for episode in range(n_episodes) for word in [*["copy"] * (episode % 3 == 0), "step", "step"]]


def test_a_learner_goes_on_bit_for_bit(corridor: Callable[..., World]) -> None:
    for n_before in (0, 1, 8):
        (network, rollouts), (other_network, _) = lived(corridor(), 12), lived(corridor(), 0)
        first, second = (DrqnLearner(each, TINY, 0.9, torch.Generator().manual_seed(0)) for each in (network, other_network))
        for rollout in rollouts[:n_before]:
            first.update(rollout, 1e-3)
        second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
        for rollout in rollouts[n_before:]:
            first.update(rollout, 1e-3)
            second.update(rollout, 1e-3)
        kept, same = first.state_dict(), second.state_dict()
        assert kept.keys() == same.keys()
        assert all(torch.equal(kept[name], same[name]) for name in kept)


class InterruptedByUserError(Exception):
    """What a user may do at any moment."""


def test_interruptions_change_no_byte(tmp_path: Path) -> None:
    world, network = make_world("tmaze"), NetworkConfig(core="gru", hidden_size=6, encoder_sizes=())
    config = replace(TINY, total_steps=120, n_evaluations=2, n_evaluation_episodes=8, n_checkpoints=3, resume_interval=0.0)

    def interrupt(progress: object) -> None:
        raise InterruptedByUserError

    whole = train_drqn(world, network, config, tmp_path / "whole", seed=0)
    for _ in range(9):
        with pytest.raises(InterruptedByUserError):
            train_drqn(world, network, config, tmp_path / "cut", seed=0, progress=interrupt)
    cut = train_drqn(world, network, config, tmp_path / "cut", seed=0)
    assert cut.final.read_bytes() == whole.final.read_bytes()
    assert (cut.directory / "metrics.csv").read_bytes() == (whole.directory / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learn_from": "two steps"}, "learn_from 'all steps' or 'one step'"),
        ({"learn_from": "one step", "n_step": 3}, "n_step = 1 to learn from one step"),
        ({"target_interval": 0}, "target_interval >= 1"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]  # wrong on purpose
