"""Hidden processes: their words have the right probabilities, and the best guess is the likeliest token."""

from __future__ import annotations

import itertools

import pytest
import torch

from worldprobe.worlds import PredictionWorld, mess3, rrxor, solve_pomdp

SEEING = frozenset({"observation", "action"})
BUILT = {"mess3": mess3, "rrxor": rrxor}


def stationary(world: PredictionWorld) -> torch.Tensor:
    """Return the law after many moves, by squaring the transition matrix (of period 3 at most, hence the average)."""
    moves = world.law.sum(0)
    long = torch.linalg.matrix_power(moves, 3 * 2**12)
    law: torch.Tensor = (long + long @ moves + long @ moves @ moves)[0] / 3
    return law


@pytest.mark.parametrize("name", BUILT)
def test_the_process_is_stationary(name: str) -> None:
    world = BUILT[name]()
    hidden = world.expect_factors({"state": world.tables.initial.unsqueeze(0)})["hidden"][0]
    torch.testing.assert_close(hidden, stationary(world))


@pytest.mark.parametrize("name", BUILT)
def test_every_word_has_the_probability_of_the_matrix_product(name: str) -> None:
    """P(x_0 .. x_3) = p M_x0 M_x1 M_x2 M_x3 1, from the world's own initial law, transitions and observations."""
    world = BUILT[name]()
    tables = world.tables
    total = 0.0
    for word in itertools.product(range(world.n_actions), repeat=4):
        left = stationary(world)
        mine = tables.initial * tables.observation[:, word[0]]
        for position, token in enumerate(word):
            left = left @ world.law[token]
            if position:
                mine = (mine @ tables.transition[0]) * tables.observation[:, token]
        assert mine.sum().item() == pytest.approx(left.sum().item(), abs=1e-12)
        total += left.sum().item()
    assert total == pytest.approx(1)


def test_rrxor_is_two_bits_and_their_exclusive_or() -> None:
    world, generator = rrxor(), torch.Generator().manual_seed(0)
    state = world.reset(300, generator)
    tokens, hidden = [], []
    for _ in range(7):
        tokens.append(world.observe(state, generator).argmax(1))
        hidden.append(world.factor_values(state)["hidden"])
        state, _, _ = world.step(state, torch.zeros(300, dtype=torch.int64), generator)
    bits = torch.stack(tokens)
    for column in range(300):
        first = next(t for t, phases in enumerate(hidden) if phases[column] == 0) + 1
        for t in range(first, 5, 3):
            assert bits[t + 2, column] == bits[t, column] ^ bits[t + 1, column]


@pytest.mark.parametrize("name", BUILT)
def test_the_optimum_is_the_expected_largest_probability(name: str) -> None:
    """J* of few steps = sum over words of gamma^t P(word) max_x P(x | word), by enumeration."""
    world = BUILT[name]()
    world.time_limit = 5
    expected = 0.0
    words: dict[tuple[int, ...], torch.Tensor] = {(): stationary(world)}
    for t in range(world.time_limit):
        words = {(*word, token): weight @ world.law[token] for word, weight in words.items() for token in range(world.n_actions)}
        expected += world.discount**t * sum(max((w @ law).sum().item() for law in world.law) for w in words.values())
    solution = solve_pomdp(world, SEEING)
    assert solution.exact
    assert solution.lower == pytest.approx(expected)
    assert "no action moves this world" in solution.method


def test_mess3_beliefs_are_linear_in_the_next_tokens_and_rrxor_beliefs_are_not() -> None:
    """The map from beliefs to next-token probabilities, belief @ P(token | state), is invertible in one process only."""
    ranks = {name: int(torch.linalg.matrix_rank(build().law.sum(2).T)) for name, build in BUILT.items()}
    assert ranks == {"mess3": 3, "rrxor": 2}


def test_laws_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="summing to 1"):
        PredictionWorld(torch.ones(2, 2, 2, dtype=torch.float64), "wrong")
    with pytest.raises(ValueError, match="do not all reach one another"):
        PredictionWorld(torch.eye(2, dtype=torch.float64).expand(2, -1, -1) / 2, "apart")
    with pytest.raises(ValueError, match="0 < x < 1/2"):
        mess3(x=0.5)
