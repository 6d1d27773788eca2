"""Things in four rooms: rules, and the exact optimum against tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldprobe.worlds import FiniteTables, RoomObjects, RoomObjectsConfig, Unavailable, solve_mdp

SMALL = RoomObjectsConfig(size=7, weights=(0.7,))
GENERATOR = torch.Generator()


def all_states(world: RoomObjects) -> dict[str, torch.Tensor]:
    n_cells, n_left = len(world.cell_positions), 2 ** len(world.object_cells)
    return {"objects": torch.arange(n_left).repeat_interleave(n_cells), "cell": torch.arange(n_cells).repeat(n_left)}


def as_tables(world: RoomObjects, weights: torch.Tensor) -> FiniteTables:
    """Write the world out by stepping from every state, the goal absorbing."""
    states, n_cells = all_states(world), len(world.cell_positions)
    S, goal = len(states["cell"]), int((world.cell_positions == torch.tensor([1, world.config.size - 2])).all(1).nonzero())
    transition, reward = torch.zeros(2, 4, S, S, dtype=torch.float64)
    for a in range(4):
        action = torch.full((S,), a)
        moved, _, ended = world.step(states, action, GENERATOR)
        target = moved["objects"] * n_cells + moved["cell"]
        assert torch.equal(ended, moved["cell"] == goal)
        over = states["cell"] == goal
        target[over] = torch.arange(S)[over]
        transition[a, torch.arange(S), target] = 1
        paid = (world.rewards(states, action, moved).double() @ weights.double()).masked_fill(over, 0)
        reward[a, torch.arange(S), target] = paid
    initial = torch.zeros(S, dtype=torch.float64)
    initial[0] = 1
    return FiniteTables(initial, transition, torch.ones(S, 1, dtype=torch.float64), reward, states["cell"] == goal)


@pytest.mark.parametrize("weights", [(0.7, 1.0), (-1.0, 1.0), (0.2, -0.5)])
def test_the_optimum_is_that_of_the_tables(weights: tuple[float, float]) -> None:
    world, w = RoomObjects(SMALL), torch.tensor(weights)
    running = ~as_tables(world, w).terminal
    expected = solve_mdp(as_tables(world, w), world.discount).q_values[running]
    torch.testing.assert_close(world.solve(w).flatten(0, 1)[running], expected, rtol=0, atol=1e-7)


def test_acting_by_the_optimum_earns_its_value() -> None:
    world = RoomObjects(replace(SMALL, weights=(0.3, -1.0)))
    q_values = world.solve(world.reward_weights(world.reset(1, GENERATOR))[0])
    state, earned, discount, ended = world.reset(1, GENERATOR), 0.0, 1.0, False
    value = q_values[state["objects"], state["cell"]].max().item()
    for _ in range(world.time_limit):
        state, reward, terminated = world.step(state, q_values[state["objects"], state["cell"]].argmax(1), GENERATOR)
        earned, discount, ended = earned + discount * reward.item(), discount * world.discount, bool(terminated)
        if ended:
            break
    assert ended
    assert earned == pytest.approx(value, abs=1e-6)


def test_a_thing_is_picked_up_once_and_pays_by_its_class() -> None:
    world = RoomObjects()
    thing, place = 5, int(world.object_cells[5])
    down_of = next(
        cell for cell, position in enumerate(world.cell_positions.tolist())
        for move, (row, column) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)])
        if move == 0 and [position[0] + row, position[1] + column] == world.cell_positions[place].tolist()
    )  # fmt: skip
    everything = 2 ** len(world.object_cells) - 1
    start = {"cell": torch.tensor([down_of]), "objects": torch.tensor([everything])}
    up, down = torch.tensor([0]), torch.tensor([2])
    there, reward, _ = world.step(start, up, GENERATOR)
    expected = torch.zeros(1, 4)
    expected[0, world.object_classes[thing]] = 1
    assert torch.equal(world.rewards(start, up, there), expected)
    assert reward.item() == pytest.approx(world.config.weights[int(world.object_classes[thing])])
    assert there["objects"].item() == everything - 2**thing
    assert world.factor_values(there)["left"][0].tolist() == [float(j != thing) for j in range(12)]
    again = world.step(world.step(there, down, GENERATOR)[0], up, GENERATOR)
    assert again[0]["objects"].item() == everything - 2**thing
    assert again[1].item() == 0


@pytest.mark.parametrize("size", [7, 13])
def test_every_room_holds_one_thing_of_every_class(size: int) -> None:
    world = RoomObjects(RoomObjectsConfig(size=size, weights=(1.0, 1.0, 1.0) if size == 13 else (1.0, 1.0)))
    places = world.cell_positions[world.object_cells]
    rooms = [(row > size // 2, column > size // 2) for row, column in places.tolist()]
    assert len(set(zip(rooms, world.object_classes.tolist(), strict=True))) == len(rooms) == 4 * len(world.config.weights)
    assert len(set(world.object_cells.tolist())) == len(rooms)
    started = world.cell_positions[world.reset(300, GENERATOR)["cell"]]
    assert (started[:, 0] > size // 2).all()
    assert (started[:, 1] < size // 2).all()
    n_cells = (size // 2 - 1) ** 2
    assert len({tuple(place) for place in started.tolist()}) == n_cells - len(world.config.weights)


def test_which_things_are_left_decides_what_to_do() -> None:
    """Declared "policy": somewhere, picking up changes the set of optimal actions."""
    world = RoomObjects(SMALL)
    q_values = world.solve(torch.tensor([0.7, 1.0]))
    best = q_values >= q_values.amax(-1, keepdim=True) - 1e-9
    shared = (best.unsqueeze(0) & best.unsqueeze(1)).any(-1)
    goal = int((world.cell_positions == torch.tensor([1, 5])).all(1).nonzero())
    shared[:, :, goal] = True
    assert not shared.all()


def test_what_it_cannot_be_or_give_is_refused() -> None:
    with pytest.raises(ValueError, match="odd size"):
        RoomObjectsConfig(size=8)
    with pytest.raises(ValueError, match="do not fit into a room of 4 cells"):
        RoomObjectsConfig(size=7, weights=(1.0,) * 4)
    with pytest.raises(Unavailable, match="exact belief filter"):
        RoomObjects().belief_filter(frozenset({"action", "observation"}))
