"""The driver: new episodes without filler rows, truncation, restoring."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import FourRooms, RedLight, TMaze, VectorDriver, World, with_irrelevant


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def actions(world: World, n_steps: int, n_envs: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randint(world.n_actions, (n_steps, n_envs), generator=seeded(seed)))


@pytest.mark.parametrize("world", [TMaze(), FourRooms(), RedLight(), with_irrelevant(TMaze(length=2), 3)], ids=lambda world: world.name)
def test_restoring_continues_bit_for_bit(world: World) -> None:
    driver, other = VectorDriver(world, 16, seeded(0)), VectorDriver(world, 16, seeded(1))
    for action in actions(world, 50, 16):
        driver.step(action)
    saved = {name: leaf.clone() for name, leaf in driver.state_dict().items()}
    expected = [driver.step(action) for action in actions(world, 50, 16, seed=1)]
    other.load_state_dict(saved)
    for step, action in zip(expected, actions(world, 50, 16, seed=1), strict=True):
        again = other.step(action)
        for field in ("observation", "reward", "terminated", "truncated", "done", "final_observation"):
            assert torch.equal(getattr(again, field), getattr(step, field))
    assert all(torch.equal(leaf, other.state_dict()[name]) for name, leaf in driver.state_dict().items())


def test_a_saved_state_is_not_moved_by_later_steps() -> None:
    world = TMaze(length=2)
    driver = VectorDriver(world, 8, seeded(0))
    saved = driver.state_dict()
    kept = {name: leaf.clone() for name, leaf in saved.items()}
    for action in actions(world, 20, 8):
        driver.step(action)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_foreign_states_are_refused() -> None:
    driver = VectorDriver(TMaze(), 4, seeded(0))
    with pytest.raises(ValueError, match="n_envs of the saved run"):
        driver.load_state_dict(VectorDriver(TMaze(), 5, seeded(0)).state_dict())
    with pytest.raises(ValueError, match="entries"):
        driver.load_state_dict(VectorDriver(with_irrelevant(TMaze(), 1), 4, seeded(0)).state_dict())


def test_a_finished_episode_begins_anew_in_the_same_step() -> None:
    world = TMaze(length=1, stochasticity=0.0)
    driver = VectorDriver(world, 3, seeded(0))
    driver.step(torch.tensor([0, 0, 2]))
    goal = driver.factor_values()["goal"]
    step = driver.step(torch.tensor([1, 3, 0]))
    assert step.terminated.tolist() == [True, True, False]
    assert step.done.tolist() == [0, 1]
    assert step.final_factors["position"].tolist() == [2, 3]
    assert torch.equal(step.final_factors["goal"], goal[:2])
    assert step.final_observation.argmax(1).tolist() == [3, 3]
    expected = torch.where(goal[:2] == torch.tensor([0, 1]), 4.0, -0.1)
    assert torch.equal(step.reward[:2], expected)
    assert driver.t.tolist() == [0, 0, 2]
    assert driver.factor_values()["position"].tolist() == [0, 0, 1]
    assert (step.observation[:2].argmax(1) < 2).all()
    assert step.observation[2].argmax() == 3


def test_the_time_limit_truncates_what_has_not_terminated() -> None:
    world = TMaze(length=2, stochasticity=0.0)
    driver = VectorDriver(world, 2, seeded(0))
    for t in range(world.time_limit):
        last = t == world.time_limit - 1
        cell = 0 if t < world.time_limit - 3 else 1
        step = driver.step(torch.tensor([2, 1 if last else (0 if cell else 2)]))
        assert step.truncated.tolist() == [last, False]
        assert step.terminated.tolist() == [False, last]
    assert driver.t.tolist() == [0, 0]


def test_episodes_begin_as_the_world_says() -> None:
    """Over many episodes the goal behind the automatic resets is uniform and independent of the one before."""
    world = TMaze(length=1, stochasticity=0.0)
    driver = VectorDriver(world, 2000, seeded(0))
    before = driver.factor_values()["goal"]
    driver.step(torch.zeros(2000, dtype=torch.int64))
    driver.step(torch.ones(2000, dtype=torch.int64))
    after = driver.factor_values()["goal"]
    assert (driver.t == 0).all()
    counts = (2 * before + after).bincount(minlength=4)
    assert ((counts - 500).abs() < 100).all()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.tensor([0, 4]), "lie in 0 .. 3; got values from 0 to 4"),
        (torch.tensor([-1, 0]), "got values from -1 to 0"),
        (torch.tensor([0]), "one int64 action per environment"),
        (torch.tensor([0.0, 1.0]), "one int64 action per environment"),
    ],
)
def test_illegal_actions_are_refused(action: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorDriver(TMaze(), 2, seeded(0)).step(action)


def test_no_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="n_envs"):
        VectorDriver(TMaze(), 0, seeded(0))
