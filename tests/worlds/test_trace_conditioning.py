"""Trials, times, beliefs and values of trace conditioning."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from worldprobe.worlds import TraceConditioning, TraceConditioningConfig, solve_mdp, solve_pomdp

NOTHING, CUE, REWARD = range(3)
SEEING = frozenset({"observation", "action"})


def tokens(world: TraceConditioning, n: int, n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is seen at every step, and the rewards paid between, (n_steps, n)."""
    generator = torch.Generator().manual_seed(0)
    state, seen, paid = world.reset(n, generator), [], []
    for _ in range(n_steps):
        seen.append(world.observe(state, generator).argmax(1))
        state, reward, _ = world.step(state, torch.zeros(n, dtype=torch.int64), generator)
        paid.append(reward)
    return torch.stack(seen), torch.stack(paid)


def intervals(seen: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return the number of steps from every `start` to the next event, where that is a `stop`."""
    found = []
    for column in seen.T.tolist():
        events = [(t, token) for t, token in enumerate(column) if token != NOTHING]
        found += [b[0] - a[0] for a, b in itertools.pairwise(events) if (a[1], b[1]) == (start, stop)]
    return torch.tensor(found)


def assert_frequencies(values: torch.Tensor, probabilities: dict[int, float]) -> None:
    counts = {value: int((values == value).sum()) for value in probabilities}
    assert sum(counts.values()) == len(values)
    for value, p in probabilities.items():
        assert abs(counts[value] - p * len(values)) <= 5 * math.sqrt(len(values) * p * (1 - p)) + 5


def test_reward_times_have_gaussian_weights() -> None:
    world = TraceConditioning()
    seen, paid = tokens(world, 200, 300)
    weights = {b: math.exp(-0.5 * ((0.2 * b - 2.0) / 0.5) ** 2) for b in range(6, 15)}
    assert_frequencies(intervals(seen, CUE, REWARD), {b: weight / sum(weights.values()) for b, weight in weights.items()})
    assert torch.equal(paid[:-1], (seen[1:] == REWARD).float())


def test_pauses_are_ten_steps_and_a_geometric_number() -> None:
    """From reward to cue: 1 step into the pause, 9 more, then each step ends it with probability 1/8."""
    seen, _ = tokens(TraceConditioning(), 200, 300)
    waits = intervals(seen, REWARD, CUE)
    assert int(waits.min()) == 11
    for extra in (0, 1, 5):
        p = (1 / 8) * (7 / 8) ** extra
        assert abs(int((waits == 11 + extra).sum()) - p * len(waits)) <= 5 * math.sqrt(p * len(waits)) + 0.03 * p * len(waits)


def test_a_tenth_of_the_cues_is_followed_by_the_next_cue() -> None:
    seen, _ = tokens(TraceConditioning(TraceConditioningConfig(omission=0.1)), 400, 300)
    omitted, rewarded = len(intervals(seen, CUE, CUE)), len(intervals(seen, CUE, REWARD))
    share = omitted / (omitted + rewarded)
    assert abs(share - 0.1) <= 5 * math.sqrt(0.09 / (omitted + rewarded)) + 0.005


def test_silence_after_the_cue_speaks_for_an_omission() -> None:
    """Bayes: P(omitted | j silent steps) = .1 / (.1 + .9 P(the reward comes later than j)), while no cue can have come."""
    config = TraceConditioningConfig(omission=0.1)
    world = TraceConditioning(config)
    belief_filter, generator = world.belief_filter(SEEING), torch.Generator()
    shown = torch.eye(3)
    belief = {"state": torch.zeros(1, world.tables.n_states, dtype=torch.float64)}
    belief["state"][0, config.iti_bins] = 1.0
    probabilities = dict(zip(config.reward_bins, config.reward_probabilities().tolist(), strict=True))
    nothing = torch.zeros(1)
    for j in range(1, 11):
        belief = belief_filter.update(belief, nothing.long(), nothing, shown[[NOTHING]], nothing.bool(), generator)
        later = sum(p for b, p in probabilities.items() if b > j)
        expected = 0.1 / (0.1 + 0.9 * later)
        assert world.expect_factors(belief)["phase"][0, 0].item() == pytest.approx(expected)


def test_the_value_at_the_cue_is_the_discounted_renewal_sum() -> None:
    """V(cue) = sum_b p_b gamma^(b-1) / (1 - m), where m = E[gamma^(steps from cue to cue)]; one action, so J* is b . V."""
    world = TraceConditioning()
    config, gamma = world.config, world.config.discount
    values = solve_mdp(world.tables, gamma).values
    p = config.reward_probabilities()
    arrival = sum(q * gamma**b for q, b in zip(p.tolist(), config.reward_bins, strict=True))
    pause = gamma**config.iti_bins * (1 / 8) * gamma / (1 - (7 / 8) * gamma)
    assert values[config.iti_bins].item() == pytest.approx(arrival / gamma / (1 - arrival * pause))
    solution = solve_pomdp(world, SEEING)
    assert solution.exact


def test_senseless_times_are_refused() -> None:
    with pytest.raises(ValueError, match="omission"):
        TraceConditioningConfig(omission=1.0)
    with pytest.raises(ValueError, match="first and then the last reward"):
        TraceConditioningConfig(first_reward=3.0)
