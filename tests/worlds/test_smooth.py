"""Cart-pole and pendulum: the classic dynamics, their derivatives, noise, symmetry and calibrated beliefs."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from worldprobe.worlds import CartPole, Pendulum, SmoothWorld, Unavailable
from worldprobe.worlds._pendulum import MAX_VELOCITY, TORQUES, WORST_COST

ALL = frozenset({"observation", "action", "reward"})
SEES = frozenset({"observation", "action"})
BLIND = frozenset({"action"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quiet(name: str) -> SmoothWorld:
    """Return the world in float64 without any noise."""
    if name == "cartpole":
        return CartPole(process_noise=0.0, observation_noise=(0.0, 0.0), dtype=torch.float64)
    return Pendulum(process_noise=0.0, observation_noise=0.0, reward_noise=0.0, dtype=torch.float64)


def inner_states(name: str, n: int, seed: int = 0) -> Tensor:
    """Return states well inside the region where the dynamics is smooth, float64."""
    reach = [2.0, 1.5, 0.19, 1.5] if name == "cartpole" else [math.pi, 6.0]
    return (2 * torch.rand(n, len(reach), generator=generator(seed), dtype=torch.float64) - 1) * torch.tensor(reach, dtype=torch.float64)


both = pytest.mark.parametrize("name", ["cartpole", "pendulum"])


# --- the classic tasks ----------------------------------------------------------------------------------------------


def test_cartpole_moves_as_in_gymnasium() -> None:
    world, environment = quiet("cartpole"), gymnasium.make("CartPole-v1").unwrapped
    classic: Any = environment
    vector, actions = inner_states("cartpole", 40), torch.arange(40) % 2
    following, reward, terminated = world.step({"vector": vector}, actions, generator())
    for row in range(40):
        classic.reset(seed=0)
        classic.state = vector[row].numpy().copy()
        _, paid, ended, _, _ = classic.step(int(actions[row]))
        np.testing.assert_allclose(following["vector"][row], classic.state, rtol=1e-12, atol=1e-13)
        assert (float(reward[row]), bool(terminated[row])) == (paid, ended)


def test_pendulum_moves_and_pays_as_in_gymnasium() -> None:
    world, environment = quiet("pendulum"), gymnasium.make("Pendulum-v1").unwrapped
    classic: Any = environment
    vector = torch.cat([inner_states("pendulum", 40), torch.tensor([[7.0, 7.9], [-9.0, -7.9]], dtype=torch.float64)])
    actions = torch.arange(42) % 5
    following, reward, terminated = world.step({"vector": vector}, actions, generator())
    assert not terminated.any()
    for row in range(42):
        classic.reset(seed=0)
        classic.state = vector[row].numpy().copy()
        _, paid, _, _, _ = classic.step(np.array([TORQUES[int(actions[row])]]))
        np.testing.assert_allclose(following["vector"][row], classic.state, rtol=1e-12, atol=1e-13)
        assert float(reward[row]) == pytest.approx(paid / WORST_COST, rel=1e-6)
    assert reward.min() >= -1
    assert reward.max() <= 0


@pytest.mark.parametrize(("coordinate", "bound"), [(0, 2.4), (2, math.radians(12))])
@pytest.mark.parametrize("side", [-1, 1])
def test_cartpole_ends_just_beyond_its_bounds_and_stays_there(coordinate: int, bound: float, side: int) -> None:
    world = quiet("cartpole")
    vector = torch.zeros(2, 4, dtype=torch.float64)
    vector[:, coordinate] = torch.tensor([0.999, 1.001], dtype=torch.float64) * bound * side
    assert world.has_ended(vector).tolist() == [False, True]
    following, reward, terminated = world.step({"vector": vector}, torch.ones(2).long(), generator())
    assert torch.equal(following["vector"][1], vector[1])
    assert reward.tolist() == [1.0, 0.0]
    assert bool(terminated[1])


# --- derivatives ----------------------------------------------------------------------------------------------------


@both
def test_jacobian_is_the_finite_difference(name: str) -> None:
    world, step = quiet(name), 1e-6
    vector = inner_states(name, 25)
    action = torch.arange(25) % world.n_actions
    force = world.forces[action]
    by_state, by_force = world.jacobian({"vector": vector}, action)
    for k, bump in enumerate(step * torch.eye(vector.shape[1], dtype=torch.float64)):
        difference = (world.dynamics(vector + bump, force) - world.dynamics(vector - bump, force)) / (2 * step)
        torch.testing.assert_close(by_state[:, :, k], difference, rtol=1e-6, atol=1e-8)
    difference = (world.dynamics(vector, force + step) - world.dynamics(vector, force - step)) / (2 * step)
    torch.testing.assert_close(by_force, difference, rtol=1e-6, atol=1e-8)


@both
def test_gradients_flow_through_several_steps_as_the_product_of_jacobians(name: str) -> None:
    world = quiet(name)
    start = 0.1 * inner_states(name, 1)
    product = torch.eye(start.shape[1], dtype=torch.float64)
    state, leaf = {"vector": start.clone().requires_grad_()}, start
    moving = state
    for action in (0, 1, 1):
        product = world.jacobian({"vector": leaf}, torch.tensor([action]))[0][0] @ product
        moving, _, _ = world.step(moving, torch.tensor([action]), generator())
        leaf = moving["vector"].detach()
    rows = [torch.autograd.grad(out, state["vector"], retain_graph=True)[0][0] for out in moving["vector"][0]]
    torch.testing.assert_close(torch.stack(rows), product)


# --- symmetry, and why the policy needs every factor ----------------------------------------------------------------


@both
def test_the_world_is_its_own_mirror_image(name: str) -> None:
    world, vector = quiet(name), inner_states(name, 20)
    force = world.forces[torch.arange(20) % world.n_actions]
    assert torch.equal(world.forces, -world.forces.flip(0))
    torch.testing.assert_close(world.dynamics(-vector, -force), -world.dynamics(vector, force))
    torch.testing.assert_close(world.pay(-vector, -force, -vector), world.pay(vector, force, vector))


def test_the_optimal_torque_needs_the_velocity() -> None:
    """Value iteration on a grid of the noiseless pendulum: at equal angles, opposite velocities take opposite torques."""
    world = quiet("pendulum")
    n_angles, n_velocities = 40, 41
    angle = torch.arange(n_angles, dtype=torch.float64) * (2 * math.pi / n_angles) - math.pi
    velocity = torch.linspace(-MAX_VELOCITY, MAX_VELOCITY, n_velocities, dtype=torch.float64)
    vector = torch.cartesian_prod(angle, velocity).repeat(5, 1, 1)
    force = world.forces.view(5, 1).expand(5, n_angles * n_velocities)
    following = world.dynamics(vector, force)
    reward = world.pay(vector, force, following)
    column = (following[..., 0] + math.pi) / (2 * math.pi) * n_angles
    row = (following[..., 1] + MAX_VELOCITY) / (2 * MAX_VELOCITY) * (n_velocities - 1)
    left, low = column.floor(), row.floor().clamp_max(n_velocities - 2)
    x, y = column - left, row - low
    corner = [((left + i).long() % n_angles) * n_velocities + (low + j).long() for i in (0, 1) for j in (0, 1)]
    weight = [(1 - x) * (1 - y), (1 - x) * y, x * (1 - y), x * y]
    value = torch.zeros(n_angles * n_velocities, dtype=torch.float64)
    for _ in range(600):
        q_values = reward + world.discount * sum(w * value[c] for w, c in zip(weight, corner, strict=True))
        value = q_values.amax(0)
    best = world.forces[q_values.argmax(0)].view(n_angles, n_velocities)
    hanging = best[0]  # angle -pi
    slow = (velocity.abs() > 0.3) & (velocity.abs() < 4)
    assert (hanging[slow] != hanging.flip(0)[slow]).any()
    assert (best.max(0).values != best.min(0).values).any()  # and the angle


# --- noise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@both
def test_noise_has_the_stated_deviations(name: str, dtype: torch.dtype) -> None:
    world: SmoothWorld = CartPole(dtype=dtype) if name == "cartpole" else Pendulum(dtype=dtype)
    n, chance = 20_000, generator()
    vector = (0.1 * inner_states(name, 1).to(dtype)).repeat(n, 1)
    action = torch.ones(n).long()
    following, reward, _ = world.step({"vector": vector}, action, chance)
    centre = world.dynamics(vector, world.forces[action])
    assert following["vector"].dtype == dtype
    torch.testing.assert_close((following["vector"] - centre).std(0), world.process_noise, rtol=0.03, atol=1e-6)
    seen = world.observe({"vector": vector}, chance)
    assert seen.dtype == reward.dtype == torch.float32
    torch.testing.assert_close((seen - world.sense(vector)).std(0), world.observation_noise, rtol=0.03, atol=0)
    assert float(reward.double().std()) == pytest.approx(world.reward_noise, rel=0.03, abs=1e-9)


@both
def test_without_noise_there_is_simulation_but_no_belief(name: str) -> None:
    world = quiet(name)
    assert world.gives == {"simulation", "jacobian"}
    with pytest.raises(Unavailable, match="no belief filter; it gives jacobian, simulation"):
        world.belief_filter(SEES)


def test_a_noiseless_reward_can_not_be_filtered_on() -> None:
    world = Pendulum(reward_noise=0.0)
    world.belief_filter(SEES)
    with pytest.raises(Unavailable, match="set reward_noise, or leave the channel out"):
        world.belief_filter(ALL)


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="standard deviation, at least 0"):
        CartPole(process_noise=-0.1)


# --- belief ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [BLIND, SEES, ALL], ids=lambda c: "+".join(sorted(c)))
@both
def test_beliefs_are_calibrated(name: str, channels: frozenset[str]) -> None:
    """The truth's rank within its belief is uniform, coordinate by coordinate, over episodes that still run."""
    world: SmoothWorld = CartPole(n_particles=400) if name == "cartpole" else Pendulum(n_particles=400)
    n, chance = 400, generator(5)
    state = world.reset(n, chance)
    belief_filter = world.belief_filter(channels)
    belief = belief_filter.start(world.observe(state, chance), chance)
    for _ in range(10):
        action = torch.randint(world.n_actions, (n,), generator=chance)
        state, reward, terminated = world.step(state, action, chance)
        observation = world.observe(state, chance)
        keep = ~terminated
        belief = {k: v[keep] for k, v in belief.items()}
        state = {"vector": state["vector"][keep]}
        belief = belief_filter.update(belief, action[keep], reward[keep], observation[keep], terminated[keep], chance)
        n = int(keep.sum())
    assert n > 200
    below = belief["particles"] < state["vector"].unsqueeze(1)
    rank = (belief["log_weights"].exp().unsqueeze(2) * below).sum(1).sort(0).values
    expected = (torch.arange(n, dtype=rank.dtype).unsqueeze(1) + 0.5) / n
    kolmogorov = (rank - expected).abs().max(0).values * math.sqrt(n)
    assert (kolmogorov < 2.0).all(), kolmogorov  # exceeded by chance once in 1,500


@both
def test_filtering_beats_differencing_two_observations(name: str) -> None:
    world: SmoothWorld = CartPole(n_particles=400) if name == "cartpole" else Pendulum(n_particles=400)
    n, chance = 100, generator(6)
    state = world.reset(n, chance)
    before = observation = world.observe(state, chance)
    belief_filter = world.belief_filter(SEES)
    belief = belief_filter.start(observation, chance)
    for _ in range(6):
        action = torch.randint(world.n_actions, (n,), generator=chance)
        state, reward, terminated = world.step(state, action, chance)
        before, observation = observation, world.observe(state, chance)
        belief = belief_filter.update(belief, action, reward, observation, terminated, chance)
    factor, step = ("pole_velocity", 0.02) if name == "cartpole" else ("velocity", 0.05)
    truth = world.factor_values(state)[factor]
    angle, earlier = (x[:, 1:] if name == "cartpole" else torch.atan2(x[:, 1:], x[:, :1]) for x in (observation, before))
    turn = torch.remainder(angle - earlier + math.pi, 2 * math.pi) - math.pi
    filtered = (world.expect_factors(belief)[factor] - truth).square().mean()
    assert filtered < 0.25 * (turn / step - truth).square().mean()


# --- counterfeit laws -----------------------------------------------------------------------------------------------


@both
def test_counterfeits_differ_in_their_law_alone(name: str) -> None:
    world: SmoothWorld = CartPole() if name == "cartpole" else Pendulum()
    chance = generator()
    vector = inner_states(name, 10).float()
    laws = []
    for _ in range(5):
        other = world.counterfeit(chance)
        assert isinstance(other, SmoothWorld)
        assert torch.equal(other.sense(vector), world.sense(vector))
        assert torch.equal(other.has_ended(vector), world.has_ended(vector))
        laws.append(other.dynamics(vector, other.forces[torch.ones(10).long()]))
    true = world.dynamics(vector, world.forces[torch.ones(10).long()])
    assert all((law - true).abs().max() > 1e-3 for law in laws)
    assert all((a - b).abs().max() > 1e-4 for i, a in enumerate(laws) for b in laws[:i])
    assert torch.equal(world.dynamics(vector, world.forces[torch.ones(10).long()]), true)
