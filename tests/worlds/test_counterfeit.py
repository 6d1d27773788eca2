"""Counterfeit laws: another law, everything else kept, and the same law on average over actions where actions matter."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import Factor, FiniteTables, FiniteWorld, FourRooms, Headline, RedLight, TMaze, Unavailable


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("world", [TMaze(), FourRooms(7)], ids=lambda world: world.name)
def test_actions_are_exchanged_state_by_state(world: FiniteWorld) -> None:
    true, false = world.tables, world.counterfeit(seeded(0)).tables
    torch.testing.assert_close(false.transition.mean(0), true.transition.mean(0))
    acts = (true.transition - true.transition[0]).abs().amax((0, 2)) > 1e-9
    changed = (true.transition - false.transition).abs().amax((0, 2)) > 1e-9
    assert torch.equal(changed, acts & ~true.terminal)
    for state in acts.nonzero().flatten().tolist():
        rows = {tuple(row) for row in true.transition[:, state].tolist()}
        assert {tuple(row) for row in false.transition[:, state].tolist()} == rows
        if len(rows) == world.n_actions:
            assert (true.transition[:, state] != false.transition[:, state]).any(1).all()
    for table in ("initial", "observation", "reward", "terminal"):
        assert torch.equal(getattr(true, table), getattr(false, table))


def test_phases_that_look_alike_are_exchanged_where_no_action_matters() -> None:
    world = RedLight()
    true, false = world.tables.transition, world.counterfeit(seeded(0)).tables.transition
    assert not torch.equal(true, false)
    assert torch.equal(false[0], false[1])
    for phases in (slice(0, 4), slice(4, 6)):
        assert sorted(false[0, phases].tolist()) == sorted(true[0, phases].tolist())


def test_counterfeits_differ_from_each_other_and_repeat_by_seed() -> None:
    world = TMaze()
    laws = [world.counterfeit(seeded(seed)).tables.transition for seed in (0, 1, 0)]
    assert not torch.equal(laws[0], laws[1])
    assert torch.equal(laws[0], laws[2])


def test_a_counterfeit_still_pays_for_the_right_arm() -> None:
    world = TMaze().counterfeit(seeded(3))
    driver = world.driver(500, seeded(4))
    paid = [driver.step(torch.randint(4, (500,), generator=seeded(t))).reward for t in range(60)]
    assert world.name == "tmaze-counterfeit"
    assert {round(float(r), 6) for r in torch.cat(paid).tolist()} == {-0.1, 0.0, 4.0}


def test_a_world_with_one_law_only_has_no_counterfeit() -> None:
    tables = FiniteTables(
        initial=torch.tensor([0.5, 0.5], dtype=torch.float64),
        transition=torch.full((2, 2, 2), 0.5, dtype=torch.float64),
        observation=torch.ones(2, 1, dtype=torch.float64),
        reward=torch.zeros(2, 2, 2, dtype=torch.float64),
        terminal=torch.zeros(2, dtype=torch.bool),
    )
    world = FiniteWorld(
        tables,
        name="noise",
        factors={Factor("state", "categorical", 2): torch.arange(2)},
        action_names=("a", "b"),
        discount=0.9,
        time_limit=5,
        exploration=(0.5, 0.5),
        headline=Headline("state", 1),
    )
    with pytest.raises(Unavailable, match="'noise' has no counterfeit laws"):
        world.counterfeit(seeded(0))
