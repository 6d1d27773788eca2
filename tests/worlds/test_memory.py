"""Worlds of pure memory: what is optimal in them is known in closed form."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import MemoryChain, RepeatPrevious, solve_pomdp

SEEING = frozenset({"observation", "action"})


@pytest.mark.parametrize(("length", "n_cues"), [(1, 2), (7, 3), (20, 2)])
def test_whoever_remembers_the_cue_earns_one_at_the_end(length: int, n_cues: int) -> None:
    world = MemoryChain(length, n_cues)
    seeing, blind = (solve_pomdp(world, channels) for channels in (SEEING, frozenset({"action"})))
    assert seeing.exact
    assert seeing.lower == pytest.approx(world.discount**length)
    assert blind.lower == pytest.approx(world.discount**length * (2 / n_cues - 1))


def test_the_chain_shows_cue_silence_question() -> None:
    world, generator = MemoryChain(length=3, n_cues=3), torch.Generator().manual_seed(0)
    state = world.reset(50, generator)
    cue = world.factor_values(state)["cue"]
    assert set(cue.tolist()) == {0, 1, 2}
    for t in range(4):
        seen = world.observe(state, generator).argmax(1)
        assert torch.equal(seen, cue if t == 0 else torch.full_like(cue, 3 if t < 3 else 4))
        state, reward, terminated = world.step(state, torch.ones_like(cue), generator)
        assert torch.equal(reward, torch.where(cue == 1, 1.0, -1.0) if t == 3 else torch.zeros(50))
        assert terminated.all() if t == 3 else not terminated.any()


@pytest.mark.parametrize(("n_symbols", "k"), [(2, 1), (3, 2), (2, 4)])
def test_a_right_name_pays_and_nothing_else_does(n_symbols: int, k: int) -> None:
    world, generator = RepeatPrevious(n_symbols, k), torch.Generator().manual_seed(k)
    state, shown = world.reset(64, generator), []
    for t in range(2 * k + 4):
        shown.append(world.observe(state, generator).argmax(1))
        named = torch.randint(n_symbols, (64,), generator=generator)
        expected = shown[t - k] if t >= k else torch.full((64,), -1)
        assert torch.equal(world.factor_values(state)["target"], expected + 1)
        state, reward, _ = world.step(state, named, generator)
        assert torch.equal(reward, (named == expected).float())
    symbols = torch.stack(shown).flatten().bincount(minlength=n_symbols)
    assert (symbols > 0).all()


def test_the_optimum_of_repeating_is_every_payment_there_is() -> None:
    world = RepeatPrevious(n_symbols=3, k=2, time_limit=12)
    seeing, blind = (solve_pomdp(world, channels) for channels in (SEEING, frozenset({"action"})))
    best = sum(world.discount**t for t in range(2, 12))
    assert seeing.exact
    assert seeing.lower == pytest.approx(best)
    assert seeing.undiscounted == pytest.approx(10)
    assert blind.exact
    assert blind.lower == pytest.approx(best / 3)


def test_senseless_memories_are_refused() -> None:
    with pytest.raises(ValueError, match="n_cues >= 2"):
        MemoryChain(n_cues=1)
    with pytest.raises(ValueError, match="so 5460 states"):
        RepeatPrevious(n_symbols=4, k=5)
