"""Flight, bounces, screen; what is smooth about them, what is irrelevant, and where the ball is believed to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldprobe.worlds import BouncingBall, BouncingBallConfig, Unavailable

SILENT = BouncingBallConfig(process_noise=0.0, observation_noise=0.0, reward_noise=0.0)
SEEING = frozenset({"observation", "action"})
STAY = 1


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_free_flight_is_a_triangle_wave() -> None:
    """Unfolded, x_0 + v t; folded back into the box, 1 - |1 - (x_0 + v t) mod 2|."""
    world = BouncingBall(SILENT, dtype=torch.float64)
    start = world.reset(50, seeded(0))
    state, action = start, torch.full((50,), STAY)
    for t in range(1, 41):
        state, _, terminated = world.step(state, action, seeded(1))
        unfolded = start["vector"][:, :2] + t * start["vector"][:, 2:4]
        torch.testing.assert_close(state["vector"][:, :2], 1 - (1 - unfolded.remainder(2)).abs(), rtol=0, atol=1e-9)
        torch.testing.assert_close(state["vector"][:, 2:4].abs(), start["vector"][:, 2:4].abs())
        assert not terminated.any()


def test_the_jacobian_is_that_of_a_flight_or_of_a_mirror() -> None:
    world = BouncingBall(SILENT, dtype=torch.float64)
    vector = torch.tensor([[0.5, 0.5, 0.05, -0.05, 0.5], [0.97, 0.02, 0.08, -0.05, 0.95]], dtype=torch.float64)
    by_state, by_force = world.jacobian({"vector": vector}, torch.tensor([1, 2]))
    flight = torch.eye(5, dtype=torch.float64)
    flight[0, 2] = flight[1, 3] = 1
    mirrored = -flight
    mirrored[4] = 0  # the paddle is pushed beyond the wall and cut there
    torch.testing.assert_close(by_state, torch.stack([flight, mirrored]))
    torch.testing.assert_close(by_force, torch.tensor([[0, 0, 0, 0, 1.0], [0, 0, 0, 0, 0.0]], dtype=torch.float64))


def test_the_screen_hides_the_ball_and_never_the_paddle() -> None:
    world = BouncingBall(SILENT)
    vector = torch.tensor([[0.29, 0.4, 0.0, 0.0, 0.8], [0.31, 0.4, 0.0, 0.0, 0.8], [0.69, 0.4, 0.0, 0.0, 0.8], [0.71, 0.4, 0.0, 0.0, 0.8]])
    expected = torch.tensor([[0.29, 0.4, 1.0, 0.8], [0.0, 0.0, 0.0, 0.8], [0.0, 0.0, 0.0, 0.8], [0.71, 0.4, 1.0, 0.8]])
    torch.testing.assert_close(world.observe({"vector": vector}, seeded(0)), expected)


def test_what_is_earned_does_not_depend_on_the_flight_across() -> None:
    """Declared "irrelevant": states that differ in x and vx alone are paid alike for ever, under every action sequence."""
    world = BouncingBall(SILENT, dtype=torch.float64)
    one = world.reset(100, seeded(2))
    other = {"vector": one["vector"].clone()}
    other["vector"][:, [0, 2]] = world.reset(100, seeded(3))["vector"][:, [0, 2]]
    for t in range(20):
        action = torch.randint(3, (100,), generator=seeded(t))
        (one, paid, _), (other, paid_too, _) = world.step(one, action, seeded(4)), world.step(other, action, seeded(4))
        assert torch.equal(paid, paid_too)
        assert not torch.equal(one["vector"][:, 0], other["vector"][:, 0])


def test_climbing_velocity_decides_how_to_move() -> None:
    """Declared "policy": level with a ball at rest one stays, level with a climbing one one climbs."""
    world = BouncingBall(SILENT)
    vector = torch.tensor([[0.1, 0.5, 0.0, 0.0, 0.5], [0.1, 0.5, 0.0, 0.1, 0.5]]).repeat_interleave(3, 0)
    _, reward, _ = world.step({"vector": vector}, torch.tensor([0, 1, 2] * 2), seeded(0))
    assert reward.view(2, 3).argmax(1).tolist() == [1, 2]


@pytest.mark.parametrize("x", [0.02, 0.29, 0.5, 0.97])
def test_the_first_belief_is_the_exact_posterior(x: float) -> None:
    """The same mean as very many states drawn from the world and weighed by their likelihood."""
    world, generator = BouncingBall(BouncingBallConfig(n_particles=8000, observation_noise=0.05)), seeded(6)
    seen = world.observe({"vector": torch.tensor([[x, 0.95, 0.0, 0.0, 0.3]])}, generator)
    belief = world.belief_filter(SEEING).start(seen, generator)
    plain = world.reset(400_000, generator)
    weights = world.log_likelihood(plain["vector"].unsqueeze(0), seen.unsqueeze(1)).softmax(1)[0]
    expected, error = world.expect_factors(belief), world.expectation_error(belief)
    for name, values in world.factor_values(plain).items():
        mean = weights @ values[:, 0]
        spread = (weights @ (values[:, 0] - mean).square() * weights.square().sum()).sqrt()
        assert (expected[name][0, 0] - mean).abs() < 5 * (spread + error[name][0, 0])


def test_the_belief_follows_the_ball_behind_the_screen() -> None:
    """Behind the screen the height is known far better than the last look tells it: the belief has a velocity."""
    world, generator = BouncingBall(), seeded(7)
    state = world.reset(400, generator)
    belief_filter, action = world.belief_filter(SEEING), torch.full((400,), STAY)
    observation = world.observe(state, generator)
    belief = belief_filter.start(observation, generator)
    last_look, looks, hidden_for = observation[:, 1], (observation[:, 2] > 0.5).long(), torch.zeros(400)
    errors = []
    for _ in range(12):
        state, reward, terminated = world.step(state, action, generator)
        observation = world.observe(state, generator)
        belief = belief_filter.update(belief, action, reward, observation, terminated, generator)
        in_sight = observation[:, 2] > 0.5
        last_look, looks = torch.where(in_sight, observation[:, 1], last_look), looks + in_sight.long()
        hidden_for = torch.where(in_sight, 0, hidden_for + 1)
        rows = (hidden_for >= 2) & (looks >= 3)
        height = state["vector"][rows, 1]
        errors.append(torch.stack([height - world.expect_factors(belief)["height"][rows, 0], height - last_look[rows]], 1))
    of_belief, of_last_look = torch.cat(errors).square().mean(0)
    assert len(torch.cat(errors)) > 200
    assert of_belief < 0.3 * of_last_look


def test_what_particles_cannot_do_is_refused() -> None:
    with pytest.raises(Unavailable, match="rewards without observations"):
        BouncingBall().belief_filter(frozenset({"action", "reward"}))
    with pytest.raises(Unavailable, match="belief filter"):
        BouncingBall(SILENT).belief_filter(SEEING)
    with pytest.raises(ValueError, match="ascending"):
        replace(SILENT, screen=(0.7, 0.3))
