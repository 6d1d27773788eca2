"""Particle beliefs against exact ones: Kalman, a grid, and their own stated error."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldprobe.worlds import Factor, Headline, ParticleCollapseWarning, SmoothWorld, State, Unavailable
from worldprobe.worlds._particles import CHUNK, effective_sample_size, systematic

SEES = frozenset({"observation", "action"})
SEES_REWARD = SEES | {"reward"}
BLIND = frozenset({"action"})
MOTION = torch.tensor([[1.0, 0.5], [-0.2, 0.9]], dtype=torch.float64)
KICK = torch.tensor([0.1, 0.5], dtype=torch.float64)


class Spring(SmoothWorld):
    """Linear and Gaussian: s' = M s + k force + noise, sees the position, is paid the velocity it leaves."""

    name = "spring"
    action_names = ("pull", "push")
    discount = 0.9
    time_limit = 50
    factors = (Factor("vector", "continuous", 2), Factor("moves_right", "categorical", 2))
    headline = Headline("vector", 1)

    def __init__(self, n_particles: int = 1000, wall: float = math.inf) -> None:
        super().__init__(
            forces=(-1.0, 1.0),
            process_noise=(0.2, 0.3),
            observation_noise=(0.5,),
            reward_noise=0.4,
            n_particles=n_particles,
            dtype=torch.float64,
        )
        self.wall = wall

    def reset(self, n: int, generator: torch.Generator) -> State:
        return {"vector": torch.randn(n, 2, generator=generator, dtype=torch.float64)}

    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        return vector @ MOTION.T + force.unsqueeze(-1) * KICK

    def sense(self, vector: Tensor) -> Tensor:
        return vector[..., :1]

    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        return vector[..., 1]

    def has_ended(self, vector: Tensor) -> Tensor:
        return vector[..., 0].abs() > self.wall

    def factor_values(self, state: State) -> dict[str, Tensor]:
        return {"vector": state["vector"], "moves_right": (state["vector"][:, 1] > 0).long()}


class Kalman:
    """The exact filter of `Spring`: one covariance, one mean per history."""

    def __init__(self, observation: Tensor, channels: frozenset[str]) -> None:
        self.channels = channels
        self.mean = torch.zeros(len(observation), 2, dtype=torch.float64)
        self.covariance = torch.eye(2, dtype=torch.float64)
        self._see(0, observation[:, 0], 0.5, "observation")

    def _see(self, coordinate: int, value: Tensor, noise: float, channel: str) -> None:
        if channel not in self.channels:
            return
        gain = self.covariance[:, coordinate] / (self.covariance[coordinate, coordinate] + noise**2)
        self.mean = self.mean + (value - self.mean[:, coordinate]).unsqueeze(1) * gain
        self.covariance = self.covariance - torch.outer(gain, self.covariance[coordinate])

    def predict(self, action: Tensor) -> None:
        self.mean = self.mean @ MOTION.T + (2.0 * action - 1).unsqueeze(1) * KICK
        self.covariance = MOTION @ self.covariance @ MOTION.T + torch.diag(torch.tensor([0.2, 0.3], dtype=torch.float64) ** 2)

    def update(self, action: Tensor, reward: Tensor, observation: Tensor) -> None:
        self._see(1, reward, 0.4, "reward")
        self.predict(action)
        self._see(0, observation[:, 0], 0.5, "observation")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filtered(world: Spring, channels: frozenset[str], n: int, n_steps: int, copies: int = 1) -> tuple[dict[str, Tensor], Kalman, State]:
    """Filter n random histories, each `copies` times, with particles and by Kalman; return both beliefs and the true states.

    Histories and filters draw from generators of their own, so that worlds of other particle numbers meet equal histories.
    """
    chance, noise = generator(1), generator(2)

    def repeated(leaf: Tensor) -> Tensor:
        return leaf.repeat_interleave(copies, 0)

    state = world.reset(n, chance)
    observation = world.observe(state, chance)
    belief_filter = world.belief_filter(channels)
    belief, kalman = belief_filter.start(repeated(observation), noise), Kalman(observation, channels)
    for _ in range(n_steps):
        action = torch.randint(2, (n,), generator=chance)
        state, reward, terminated = world.step(state, action, chance)
        observation = world.observe(state, chance)
        belief = belief_filter.update(belief, repeated(action), repeated(reward), repeated(observation), repeated(terminated), noise)
        kalman.update(action, reward, observation)
    return belief, kalman, state


# --- against the Kalman filter --------------------------------------------------------------------------------------


# Errors of a bootstrap filter have heavy tails over histories (a surprising one leaves few particles), hence medians, ratios
# per history and coverage below; the mean is asked to vanish where particles are many.


@pytest.mark.parametrize("channels", [BLIND, SEES, SEES_REWARD, frozenset({"action", "reward"})], ids=lambda c: "+".join(sorted(c)))
@pytest.mark.parametrize("n_steps", [0, 12])
def test_mean_and_variance_are_those_of_the_kalman_filter(channels: frozenset[str], n_steps: int) -> None:
    world = Spring(16_000)
    belief, kalman, _ = filtered(world, channels, 24, n_steps)
    mean, variance = world.expect_factors(belief)["vector"], kalman.covariance.diagonal()
    assert ((mean - kalman.mean).square().mean(0) < 0.01 * variance).all()
    spread = (belief["log_weights"].exp().unsqueeze(2) * (belief["particles"] - mean.unsqueeze(1)).square()).sum(1)
    torch.testing.assert_close(spread.mean(0), variance, rtol=0.03, atol=0)


@pytest.mark.parametrize("channels", [BLIND, SEES, SEES_REWARD], ids=lambda c: "+".join(sorted(c)))
def test_stated_error_is_the_scatter_of_other_seeds(channels: frozenset[str]) -> None:
    world, copies = Spring(400), 40
    belief, _, _ = filtered(world, channels, 24, 6, copies)
    variance = world.expect_factors(belief)["vector"].reshape(24, copies, 2).var(1)
    stated = world.expectation_error(belief)["vector"].square().reshape(24, copies, 2).mean(1)
    assert ((variance / stated).mean(0) - 1).abs().max() < 0.2  # 24 ratios of 39 to 120 degrees of freedom: deviation .053


def test_stated_error_covers_the_exact_mean_as_student_says() -> None:
    world = Spring(4000)
    belief, kalman, _ = filtered(world, SEES, 192, 8)
    ratio = (world.expect_factors(belief)["vector"] - kalman.mean).abs() / world.expectation_error(belief)["vector"]
    assert ((ratio < 2.353).double().mean(0) - 0.9).abs().max() < 0.08  # 90 % of Student's t with 3 degrees of freedom; deviation .022


def test_error_falls_with_the_square_root_of_the_particles() -> None:
    squares = []
    for n_particles in (400, 6400):
        world = Spring(n_particles)
        belief, kalman, _ = filtered(world, SEES, 96, 8)
        squares.append((world.expect_factors(belief)["vector"] - kalman.mean).square().sum(1).median())
    assert 8 < squares[0] / squares[1] < 32


def test_class_probabilities_are_those_of_the_gaussian() -> None:
    world = Spring()
    belief, kalman, _ = filtered(world, SEES, 64, 8)
    exact = torch.special.ndtr(kalman.mean[:, 1] / kalman.covariance[1, 1].sqrt())
    probability = world.expect_factors(belief)["moves_right"]
    torch.testing.assert_close(probability.sum(1), torch.ones(64, dtype=torch.float64))
    assert (probability[:, 1] - exact).abs().mean() < 0.02


def test_prediction_is_that_of_the_kalman_filter_and_a_function_of_its_arguments() -> None:
    world = Spring(4000)
    belief, kalman, state = filtered(world, SEES, 48, 5)
    actions = torch.randint(2, (48, 4), generator=generator(3))
    predicted = world.predict_belief(belief, actions)
    for action in actions.unbind(1):
        kalman.predict(action)
    error = world.expect_factors(predicted)["vector"] - kalman.mean
    assert (error.square().median(0).values < 0.02 * kalman.covariance.diagonal()).all()
    again = world.predict_belief(belief, actions)
    assert torch.equal(predicted["particles"], again["particles"])
    certain = world.predict_belief(world.point_belief(state), actions[:, :1])
    exact = state["vector"] @ MOTION.T + (2.0 * actions[:, :1] - 1) * KICK
    assert (world.expect_factors(certain)["vector"] - exact).abs().max() < 5 * 0.3 / math.sqrt(4000)
    spread = certain["particles"].var(1).mean(0).sqrt()
    torch.testing.assert_close(spread, torch.tensor([0.2, 0.3], dtype=torch.float64), rtol=0.02, atol=0)


def test_channels_not_given_are_not_read() -> None:
    world, garbage = Spring(), torch.full((3,), math.nan)
    vector = world.reset(3, generator())["vector"]
    for channels in (BLIND, SEES):
        beliefs = []
        for reward, observation in (
            (torch.zeros(3), vector[:, :1]),
            (garbage, vector[:, :1] if "observation" in channels else garbage.unsqueeze(1)),
        ):
            belief_filter, chance = world.belief_filter(channels), generator()
            belief = belief_filter.start(observation, chance)
            beliefs.append(belief_filter.update(belief, torch.ones(3).long(), reward, observation, torch.zeros(3).bool(), chance))
        assert torch.equal(beliefs[0]["log_weights"], beliefs[1]["log_weights"])
        assert torch.equal(beliefs[0]["particles"], beliefs[1]["particles"])


# --- the episode going on is evidence -------------------------------------------------------------------------------


def grid_moments(wall: float, ended: bool) -> tuple[float, float]:
    """Mean position and velocity of `Spring` after one step "push" that did (not) pass the wall, by integration on a grid."""
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    position, velocity = torch.meshgrid(axis, axis, indexing="ij")
    prior = torch.exp(-0.5 * (position**2 + velocity**2)) * (position.abs() <= wall)
    middle_x = MOTION[0, 0] * position + MOTION[0, 1] * velocity + KICK[0]
    middle_v = MOTION[1, 0] * position + MOTION[1, 1] * velocity + KICK[1]
    inside = torch.special.ndtr((wall - middle_x) / 0.2) - torch.special.ndtr((-wall - middle_x) / 0.2)
    weight = prior * (1 - inside if ended else inside)
    upper, lower = ((wall - middle_x) / 0.2), ((-wall - middle_x) / 0.2)
    density = torch.exp(-0.5 * lower**2) - torch.exp(-0.5 * upper**2)  # E[(x - m) 1(inside)] = .2 (phi(lower) - phi(upper))
    part_inside = middle_x * inside + 0.2 * density / math.sqrt(2 * math.pi)
    part = middle_x - part_inside if ended else part_inside
    return float((prior * part).sum() / weight.sum()), float((weight * middle_v).sum() / weight.sum())


class WalledSpring(Spring):
    """Starts inside its wall."""

    def reset(self, n: int, generator: torch.Generator) -> State:
        vector = torch.randn(4 * n + 64, 2, generator=generator, dtype=torch.float64)
        return {"vector": vector[vector[:, 0].abs() <= self.wall][:n]}


@pytest.mark.parametrize("ended", [False, True])
def test_surviving_and_ending_move_the_belief_as_integration_says(ended: bool) -> None:
    world, chance = WalledSpring(n_particles=8000, wall=1.0), generator()
    belief_filter = world.belief_filter(BLIND)
    belief = belief_filter.start(torch.zeros(8, 1), chance)
    belief = belief_filter.update(belief, torch.ones(8).long(), torch.zeros(8), torch.zeros(8, 1), torch.full((8,), ended), chance)
    mean, error = world.expect_factors(belief)["vector"].mean(0), world.expectation_error(belief)["vector"].square().mean(0).sqrt()
    expected = torch.tensor(grid_moments(1.0, ended), dtype=torch.float64)
    assert ((mean - expected).abs() < 4 * error / math.sqrt(8)).all(), (mean, expected, error)
    assert (error < 0.05).all()


def test_terminal_particles_stay_where_they_are() -> None:
    world = Spring(n_particles=8, wall=1.0)
    outside = torch.tensor([[2.0, 0.3]], dtype=torch.float64)
    predicted = world.predict_belief(world.point_belief({"vector": outside}), torch.ones(1, 3).long())
    assert (predicted["particles"] == outside).all()


# --- when things go wrong -------------------------------------------------------------------------------------------


def test_a_history_no_particle_can_follow_warns_and_keeps_the_prediction() -> None:
    world, chance = Spring(wall=50.0), generator()
    belief_filter = world.belief_filter(SEES)
    belief = belief_filter.start(torch.zeros(3, 1), chance)
    arguments = torch.ones(3).long(), torch.zeros(3), torch.zeros(3, 1), torch.tensor([False, True, False])
    with pytest.warns(ParticleCollapseWarning, match=r"no particle of 1 belief\(s\).*Raise n_particles"):
        after = belief_filter.update(belief, *arguments, chance)
    assert all(leaf.isfinite().all() for leaf in after.values())
    torch.testing.assert_close(after["log_weights"].exp().sum(1), torch.ones(3, dtype=torch.float64))
    assert effective_sample_size(after["log_weights"])[1] > effective_sample_size(after["log_weights"])[0]  # unconditioned: near uniform


def test_groups_without_a_living_particle_take_over_those_of_another() -> None:
    world = Spring(n_particles=40, wall=5.0)
    start = torch.zeros(2, 40, 2, dtype=torch.float64)
    start[0, 20:30, 0] = 8.0  # only the third group of the first belief has passed the wall
    belief = {"particles": start, "log_weights": torch.full((2, 40), -math.log(40), dtype=torch.float64)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = world.belief_filter(BLIND).update(
            belief, torch.ones(2).long(), torch.zeros(2), torch.zeros(2, 1), torch.tensor([True, False]), generator()
        )
    assert (after["particles"][0] == start[0, 20]).all()
    assert after["particles"][1].abs().max() < 5
    torch.testing.assert_close(after["log_weights"].exp().sum(1), torch.ones(2, dtype=torch.float64))


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite observations; got NaN or infinity in 1 of 2 entries"):
        Spring().belief_filter(SEES).start(torch.tensor([[0.0], [math.nan]]), generator())


def test_no_noise_no_filter() -> None:
    world = Spring()
    world.gives = frozenset({"simulation"})
    with pytest.raises(Unavailable, match="'spring' has no belief filter; it gives simulation"):
        world.belief_filter(SEES)


@pytest.mark.parametrize("n_particles", [0, 6, -4])
def test_particles_come_in_four_groups(n_particles: int) -> None:
    with pytest.raises(ValueError, match="positive multiple of 4"):
        Spring(n_particles)


# --- parts ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 50), st.integers(0, 2**31))
def test_systematic_resampling_copies_each_particle_by_its_weight(weights: list[float], count: int, seed: int) -> None:
    share = torch.tensor([weights], dtype=torch.float64) + 1e-3
    share = share / share.sum()
    drawn = torch.bincount(systematic(share.log(), count, generator(seed))[0], minlength=len(weights))
    assert drawn.sum() == count
    assert ((drawn - count * share[0]).abs() < 1 + 1e-9).all()


def test_effective_sample_size_counts_equal_weights() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(effective_sample_size(weights.log()), torch.tensor([4.0, 1.0, 2.0]))


def test_many_histories_keep_their_order_through_the_chunks() -> None:
    world, n = Spring(n_particles=40), 2 * CHUNK + 3
    chance = generator()
    place = torch.linspace(-3, 3, n).unsqueeze(1)
    belief_filter = world.belief_filter(SEES)
    belief = belief_filter.start(place, chance)
    belief = belief_filter.update(belief, torch.ones(n).long(), torch.zeros(n), place, torch.zeros(n).bool(), chance)
    assert belief["particles"].shape == (n, 40, 2)
    found = world.expect_factors(belief)["vector"][:, 0]
    assert torch.corrcoef(torch.stack([found, place[:, 0].double()]))[0, 1] > 0.98
    predicted = world.predict_belief(belief, torch.ones(n, 1).long())
    assert torch.corrcoef(torch.stack([world.expect_factors(predicted)["vector"][:, 0], found]))[0, 1] > 0.95
