"""The mountain's shape, its walls and its goal; the particle belief against a filter on a fine grid."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from worldprobe.worlds import MountainHike, MountainHikeConfig, Unavailable

SEEING = frozenset({"observation", "action"})
RIGHT, UP, LEFT, DOWN = range(4)
STILL = MountainHikeConfig(transition_noise=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mountain_is_the_published_one() -> None:
    """-exp(-highest density) + .2 (x + y) - .02 with the three Gaussians, by scipy."""
    places = torch.rand(200, 2, generator=seeded(0), dtype=torch.float64) * 2 - 1
    ridges = [((0.0, 0.0), (0.005, 1.0)), ((0.0, -0.8), (1.0, 0.01)), ((0.0, 0.8), (1.0, 0.01))]
    density = torch.stack(
        [torch.from_numpy(multivariate_normal(mean, np.diag(variances)).pdf(places.numpy())) for mean, variances in ridges]
    )
    expected = -(-density.amax(0)).exp() + 0.2 * places.sum(1) - 0.02
    altitude = MountainHike(dtype=torch.float64).altitude(places[:, 0], places[:, 1])
    torch.testing.assert_close(altitude, expected)


def test_the_ridge_leads_from_start_to_goal_and_is_below_zero() -> None:
    world = MountainHike()
    x = torch.tensor([-0.8, -0.4, 0.0, 0.0, 0.0, 0.4, 0.8])
    y = torch.tensor([-0.8, -0.8, -0.8, 0.0, 0.8, 0.8, 0.8])
    ridge, aside = world.altitude(x, y), world.altitude(torch.tensor([-0.8, 0.8]), torch.tensor([0.2, -0.2]))
    assert (ridge < 0).all()
    assert (ridge[:-1] < ridge[1:] + 0.1).all()
    assert aside.max() < ridge[1:].min()


def test_steps_go_where_they_say_and_walls_hold() -> None:
    world = MountainHike(STILL)
    state = {"vector": torch.tensor([[0.3, -0.2]]).repeat(4, 1)}
    moved, reward, _ = world.step(state, torch.arange(4), seeded(0))
    expected = torch.tensor([[0.4, -0.2], [0.3, -0.1], [0.2, -0.2], [0.3, -0.3]])
    torch.testing.assert_close(moved["vector"], expected)
    torch.testing.assert_close(reward, world.altitude(expected[:, 0], expected[:, 1]))
    noisy = MountainHike(replace(STILL, transition_noise=0.5))
    far, _, _ = noisy.step({"vector": torch.tensor([[-0.95, 0.3]]).repeat(500, 1)}, torch.full((500,), LEFT), seeded(1))
    assert far["vector"].abs().max() == 1.0


def test_a_hidden_rotation_turns_every_step_of_an_episode() -> None:
    world = MountainHike(replace(STILL, rotated=True))
    state = world.reset(400, seeded(2))
    quarter = world.factor_values(state)["rotation"]
    assert set(quarter.tolist()) == {0, 1, 2, 3}
    for action in (RIGHT, UP):
        moved, _, _ = world.step(state, torch.full((400,), action), seeded(3))
        angle = (action + quarter) * math.pi / 2
        torch.testing.assert_close((moved["vector"] - state["vector"])[:, :2], 0.1 * torch.stack([angle.cos(), angle.sin()], 1))
        assert torch.equal(world.factor_values(moved)["rotation"], quarter)
        state = moved


def test_the_goal_ends_the_hike_and_holds() -> None:
    world = MountainHike(STILL)
    state = {"vector": torch.tensor([[0.55, 0.8], [0.45, 0.8], [0.8, 0.7]])}
    moved, reward, terminated = world.step(state, torch.zeros(3, dtype=torch.int64), seeded(0))
    assert terminated.tolist() == [True, False, True]
    assert torch.equal(moved["vector"][2], state["vector"][2])
    assert reward[2] == 0


def grid_mean(world: MountainHike, actions: list[int], seen: list[float]) -> torch.Tensor:
    """Return E[position | history] by a filter on a grid of .01, away from the walls."""
    axis = torch.arange(-1.2, 0.4, 0.01, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    noise = torch.exp(-0.5 * ((axis.unsqueeze(1) - axis) / world.config.transition_noise).square())
    belief = torch.zeros_like(x)
    belief[40, 40] = 1.0  # the start
    for action, altitude in zip(actions, seen, strict=True):
        belief = belief.roll((10, 10)[:1] if action in (RIGHT, UP) else (-10,), dims=0 if action in (RIGHT, LEFT) else 1)
        belief = noise @ belief @ noise.T
        belief *= torch.exp(-0.5 * ((altitude - world.altitude(x, y)) / world.config.observation_noise).square())
        belief /= belief.sum()
    return torch.stack([(belief * x).sum(), (belief * y).sum()])


def test_the_particle_mean_is_that_of_a_grid_filter() -> None:
    world, generator = MountainHike(MountainHikeConfig(n_particles=20_000)), seeded(5)
    belief_filter, nothing = world.belief_filter(SEEING), torch.zeros(1)
    actions, seen = [RIGHT, RIGHT, UP, RIGHT], [-0.6, -0.65, -0.75, -0.8]
    belief = belief_filter.start(torch.tensor([[-0.65]]), generator)
    for action, altitude in zip(actions, seen, strict=True):
        belief = belief_filter.update(belief, torch.tensor([action]), nothing, torch.tensor([[altitude]]), nothing.bool(), generator)
    mean, error = world.expect_factors(belief)["position"][0], world.expectation_error(belief)["position"][0]
    assert (error < 0.002).all()
    assert ((mean.double() - grid_mean(world, actions, seen)).abs() < 5 * error + 5e-4).all()


def test_the_rotation_is_found_out_by_walking() -> None:
    """Walking along the ridge keeps one high, walking off it does not: so the altimeter tells the rotation, slowly."""
    world, generator = MountainHike(MountainHikeConfig(rotated=True)), seeded(6)
    state, belief_filter = world.reset(100, generator), world.belief_filter(SEEING)
    belief = belief_filter.start(world.observe(state, generator), generator)
    torch.testing.assert_close(world.expect_factors(belief)["rotation"], torch.full((100, 4), 0.25), atol=0.08, rtol=0)
    for t in range(16):
        action = torch.full((100,), RIGHT if t % 4 < 2 else UP)
        state, reward, terminated = world.step(state, action, generator)
        belief = belief_filter.update(belief, action, reward, world.observe(state, generator), terminated, generator)
    right = world.expect_factors(belief)["rotation"].gather(1, world.factor_values(state)["rotation"].unsqueeze(1))
    assert right.mean() > 0.6


def test_noiseless_rewards_have_no_filter() -> None:
    with pytest.raises(Unavailable, match="noiseless rewards"):
        MountainHike().belief_filter(SEEING | {"reward"})
    assert MountainHike(MountainHikeConfig(reward_noise=0.1)).belief_filter(SEEING | {"reward"})
