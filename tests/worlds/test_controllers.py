"""Memory that a task needs: controllers are evaluated exactly, and sizes are proven by trying all, or by showing one."""

from __future__ import annotations

import itertools

import pytest
import torch

from worldprobe.worlds import MemoryChain, RedLight, TMaze, evaluate_controllers, find_smallest_controller, solve_pomdp

CHANNELS = frozenset({"observation", "action"})


def test_a_controller_earns_what_simulation_says() -> None:
    world = TMaze(length=3)
    generator = torch.Generator().manual_seed(0)
    action = torch.randint(world.n_actions, (3, 2, 4), generator=generator)
    action[:, :, 2] = 0  # goes right along the corridor, or nothing ever happens
    following = torch.randint(2, (3, 2, 4), generator=generator)
    exact = evaluate_controllers(world, action, following)
    n = 20_000
    for place in range(3):
        state, memory = world.reset(n, generator), torch.zeros(n, dtype=torch.int64)
        earned, alive = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.bool)
        for t in range(world.time_limit):
            seen = world.observe(state, generator).argmax(1)
            state, reward, ended = world.step(state, action[place, memory, seen], generator)
            memory = following[place, memory, seen]
            earned += world.discount**t * reward.double() * alive
            alive &= ~ended
        assert float(exact[place]) == pytest.approx(float(earned.mean()), abs=4 * float(earned.std()) / n**0.5 + 1e-9)


def test_without_memory_the_best_is_that_of_all_maps_from_observations() -> None:
    world = TMaze(length=2)
    maps = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 4)
    best = float(evaluate_controllers(world, maps, torch.zeros_like(maps)).max())
    found = find_smallest_controller(world, share=0.999, max_states=1)
    assert found.earned == pytest.approx(best)
    assert (found.lower, found.upper, found.is_exact) == (2, None, False)
    assert found.bits == (1.0, float("inf"))


@pytest.mark.parametrize(("world", "size"), [(RedLight(), 1), (TMaze(length=4), 2), (TMaze(length=4, stochasticity=0.0), 2)])
def test_smallest_sizes(world: TMaze, size: int) -> None:
    found = find_smallest_controller(world, share=0.97)
    assert (found.lower, found.upper) == (size, size)
    assert found.is_exact
    assert found.controller.n_states == size
    again = evaluate_controllers(world, found.controller.action.unsqueeze(0), found.controller.following.unsqueeze(0))
    assert float(again) == pytest.approx(found.earned)
    assert found.earned >= 0.97 * solve_pomdp(world, CHANNELS).lower - 1e-9


def test_two_cues_need_one_bit_however_long_the_chain() -> None:
    found = find_smallest_controller(MemoryChain(length=3), share=0.97)
    assert (found.lower, found.upper, found.bits) == (2, 2, (1.0, 1.0))
