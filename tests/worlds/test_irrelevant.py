"""Added walks: the Kalman belief against Gaussian conditioning, and nothing of the inner world touched."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import CartPole, FourRooms, TMaze, Unavailable, solve_pomdp, with_irrelevant

CHANNEL_SETS = [frozenset({"action", *more}) for more in ((), ("observation",), ("reward",), ("observation", "reward"))]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", CHANNEL_SETS, ids=lambda channels: "+".join(sorted(channels)))
def test_walk_belief_is_the_conditional_gaussian(channels: frozenset[str]) -> None:
    """Condition the joint Gaussian of all walks and all sights at once: cov(w_s, w_t) = 1 + 0.1 min(s, t), noise variance 1."""
    world, generator, n = with_irrelevant(TMaze(length=2), 2), seeded(0), 5
    state, times = world.reset(n, generator), torch.arange(6, dtype=torch.float64)
    sights = [world.observe(state, generator)]
    belief_filter = world.belief_filter(channels)
    belief = belief_filter.start(sights[0], generator)
    for _ in times[1:]:
        action = torch.full((n,), 2)  # to the left: the episode never ends
        state, reward, terminated = world.step(state, action, generator)
        sights.append(world.observe(state, generator))
        belief = belief_filter.update(belief, action, reward, sights[-1], terminated, generator)
    prior = 1 + 0.1 * torch.minimum(times.unsqueeze(0), times.unsqueeze(1))
    seen = torch.stack(sights)[..., -2:].double()
    if "observation" in channels:
        weights = torch.linalg.solve(prior + torch.eye(6), prior[:, -1])
        mean, variance = torch.einsum("t,tnd->nd", weights, seen), prior[-1, -1] - weights @ prior[:, -1]
    else:
        mean, variance = torch.zeros(n, 2, dtype=torch.float64), prior[-1, -1]
    torch.testing.assert_close(belief["walk_mean"], mean)
    torch.testing.assert_close(belief["walk_variance"], variance.expand(n, 2))


def test_walks_have_the_published_variances() -> None:
    world, generator, n = with_irrelevant(TMaze(), 1), seeded(1), 40_000
    state = world.reset(n, generator)
    moved, _, _ = world.step(state, torch.zeros(n, dtype=torch.int64), generator)
    noise = world.observe(state, generator)[:, -1:] - state["walk"]
    for sample, variance in ((state["walk"], 1.0), (moved["walk"] - state["walk"], 0.1), (noise, 1.0)):
        assert abs(float(sample.mean())) < 5 * (variance / n) ** 0.5
        assert abs(float(sample.var()) / variance - 1) < 5 * (2 / n) ** 0.5


def test_inner_belief_is_untouched() -> None:
    inner = TMaze(length=3)
    world, generator, channels = with_irrelevant(inner, 2), seeded(2), frozenset({"observation", "action", "reward"})
    state = world.reset(20, generator)
    sight = world.observe(state, generator)
    outer_filter, inner_filter = world.belief_filter(channels), inner.belief_filter(channels)
    outer, alone = outer_filter.start(sight, generator), inner_filter.start(sight[:, :4], generator)
    action = torch.zeros(20, dtype=torch.int64)
    state, reward, terminated = world.step(state, action, generator)
    sight = world.observe(state, generator)
    outer = outer_filter.update(outer, action, reward, sight, terminated, generator)
    alone = inner_filter.update(alone, action, reward, sight[:, :4], terminated, generator)
    assert torch.equal(outer["state"], alone["state"])


def test_prediction_keeps_the_mean_and_widens() -> None:
    world = with_irrelevant(TMaze(length=3), 2)
    belief = world.point_belief(world.reset(4, seeded(3)))
    ahead = world.predict_belief(belief, torch.zeros(4, 7, dtype=torch.int64))
    assert torch.equal(ahead["walk_mean"], belief["walk_mean"])
    torch.testing.assert_close(ahead["walk_variance"], torch.full((4, 2), 0.7, dtype=torch.float64))
    assert torch.equal(world.expect_factors(ahead)["walk"], belief["walk_mean"])


def test_a_continuous_world_takes_walks_too() -> None:
    world, generator = with_irrelevant(CartPole(n_particles=100), 3), seeded(4)
    state = world.reset(6, generator)
    sight = world.observe(state, generator)
    assert sight.shape == (6, CartPole().observation_size + 3)
    belief = world.belief_filter(frozenset({"observation", "action"})).start(sight, generator)
    expected = world.expect_factors(belief)
    assert expected.keys() == {factor.name for factor in world.factors}
    assert world.gives == {"simulation", "belief"}


def test_the_optimum_is_that_of_the_inner_world() -> None:
    channels = frozenset({"observation", "action"})
    inner, outer = solve_pomdp(TMaze(length=4), channels), solve_pomdp(with_irrelevant(TMaze(length=4), 2), channels)
    assert (inner.lower, inner.upper) == (outer.lower, outer.upper)
    belief = with_irrelevant(TMaze(length=4), 2).point_belief({"state": torch.tensor([4, 4 + 7]), "walk": torch.zeros(2, 2)})
    assert outer.policy.action(belief).tolist() == [1, 3]


def test_the_counterfeit_has_another_inner_law() -> None:
    world = with_irrelevant(FourRooms(7), 1)
    other = world.counterfeit(seeded(5))
    assert not torch.equal(other.inner.tables.transition, world.inner.tables.transition)  # type: ignore[attr-defined]  # finite both
    assert other.observation_shape == world.observation_shape


def test_senseless_additions_are_refused() -> None:
    with pytest.raises(ValueError, match="d >= 1"):
        with_irrelevant(TMaze(), 0)
    with pytest.raises(ValueError, match="without a factor 'walk'"):
        with_irrelevant(with_irrelevant(TMaze(), 1), 1)
    with pytest.raises(Unavailable, match="tables"):
        solve_pomdp(with_irrelevant(CartPole(), 1), frozenset({"action"}))
