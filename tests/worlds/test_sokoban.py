"""Rules, levels, splits and the solver, against a plain search over boards written as text."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import torch

from worldprobe.worlds import Sokoban, SokobanConfig, State, Unavailable, solve_sokoban
from worldprobe.worlds._sokoban_levels import Split, generate_levels, split_of

GENERATOR = torch.Generator()
ONE, TWO = SokobanConfig(n_levels=60), SokobanConfig(size=7, n_boxes=2, n_levels=20)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

Board = tuple[tuple[int, int], frozenset[tuple[int, int]]]
"""Where the agent is, and the boxes."""


def read(text: str) -> tuple[set[tuple[int, int]], set[tuple[int, int]], Board]:
    """Return walls, targets and the board of a level written as text."""
    cells = {(row, column): cell for row, line in enumerate(text.split("\n")) for column, cell in enumerate(line)}
    walls, targets = ({at for at, cell in cells.items() if cell in symbols} for symbols in ("#", ".*+"))
    agent = next(at for at, cell in cells.items() if cell in "@+")
    return walls, targets, (agent, frozenset(at for at, cell in cells.items() if cell in "$*"))


def push(walls: set[tuple[int, int]], board: Board, move: int) -> Board:
    """Return the board after a move, by the rules."""
    agent, boxes = board
    front, beyond = ((agent[0] + k * MOVES[move][0], agent[1] + k * MOVES[move][1]) for k in (1, 2))
    if front in walls or (front in boxes and (beyond in walls or beyond in boxes)):
        return board
    return front, (boxes - {front}) | {beyond} if front in boxes else boxes


def search(text: str) -> int:
    """Return the number of moves to a solution by breadth-first search, -1 if there is none."""
    walls, targets, start = read(text)
    queue, seen = deque([(start, 0)]), {start}
    while queue:
        board, steps = queue.popleft()
        if board[1] <= targets:
            return steps
        for move in range(4):
            following = push(walls, board, move)
            if following not in seen:
                seen.add(following)
                queue.append((following, steps + 1))
    return -1


def wander(world: Sokoban, n: int, n_steps: int) -> State:
    state = world.reset(n, GENERATOR)
    for _ in range(n_steps):
        state, _, _ = world.step(state, torch.randint(4, (n,), generator=GENERATOR), GENERATOR)
    return state


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "two"])
def test_a_step_follows_the_rules(config: SokobanConfig) -> None:
    world = Sokoban(config)
    state = wander(world, 60, 3)
    for _ in range(6):
        action = torch.randint(4, (60,), generator=GENERATOR)
        moved, reward, terminated = world.step(state, action, GENERATOR)
        before, after = world.render(state), world.render(moved)
        for row in range(60):
            walls, targets, board = read(before[row])
            is_over = board[1] <= targets
            expected = board if is_over else push(walls, board, int(action[row]))
            assert read(after[row]) == (walls, targets, expected)
            gained = len(expected[1] & targets) - len(board[1] & targets)
            assert bool(terminated[row]) == (expected[1] <= targets)
            paid = 0.0 if is_over else -0.1 + gained + 10.0 * (expected[1] <= targets)
            assert reward[row].item() == pytest.approx(paid, abs=1e-5)
        state = moved


@pytest.mark.parametrize("config", [ONE, TWO, replace(ONE, size=5), replace(TWO, size=8, n_levels=5)], ids=["6", "7, two", "5", "8, two"])
def test_every_level_can_be_solved_and_the_solver_knows_in_how_many_moves(config: SokobanConfig) -> None:
    world = Sokoban(config)
    rows = slice(0, 12)
    levels = {name: leaf[rows] for name, leaf in world.levels.items()}
    found = [search(board) for board in world.render(levels)]
    assert min(found) > 0
    assert solve_sokoban(world, levels).distance.tolist() == found


def test_dead_boards_are_known_as_such() -> None:
    world = Sokoban(SokobanConfig(size=5, n_levels=20))
    dead = world.parse("#####\n#$ .#\n#@  #\n#   #\n#####")
    solution = solve_sokoban(world, dead)
    assert solution.distance.item() == -1
    idling = -0.1 / (1 - world.discount)
    torch.testing.assert_close(solution.q_values, torch.full((1, 4), idling, dtype=torch.float64))
    over = solve_sokoban(world, world.parse("#####\n#*  #\n#@  #\n#   #\n#####"))
    assert over.distance.item() == 0


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one", "two"])
def test_values_solve_the_bellman_equation_and_are_earned(config: SokobanConfig) -> None:
    world = Sokoban(config)
    state = wander(world, 20, 4)
    q_values = solve_sokoban(world, state).q_values
    running = ~(state["boxes"] <= state["targets"]).all(1)
    for action in range(4):
        moved, reward, terminated = world.step(state, torch.full((20,), action), GENERATOR)
        backed_up = reward + world.discount * solve_sokoban(world, moved).q_values.amax(1) * ~terminated
        torch.testing.assert_close(q_values[running, action], backed_up[running], rtol=0, atol=1e-6)


def test_greedy_moves_solve_every_level_in_time() -> None:
    world = Sokoban(ONE)
    state, earned, factor = {name: leaf[:10] for name, leaf in world.levels.items()}, torch.zeros(10), 1.0
    promised = solve_sokoban(world, state).q_values.amax(1)
    for _ in range(int(solve_sokoban(world, state).distance.max())):
        state, reward, _ = world.step(state, solve_sokoban(world, state).q_values.argmax(1), GENERATOR)
        earned, factor = earned + factor * reward, factor * world.discount
    assert (state["boxes"] == state["targets"]).all()
    torch.testing.assert_close(earned.double(), promised, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_boxes", [1, 2])
def test_with_one_target_value_falls_with_the_distance(n_boxes: int) -> None:
    """If only the end pays, V* = gamma^(d - 1) d moves away from it, and 0 where it cannot be reached."""
    config = replace(TWO if n_boxes == 2 else ONE, step_reward=0.0, box_reward=0.0, solved_reward=1.0, n_levels=10)
    world = Sokoban(config)
    solution = solve_sokoban(world, wander(world, 30, 8))
    value, steps = solution.q_values.amax(1), solution.distance
    unsolved = steps != 0
    expected = torch.where(steps > 0, world.discount ** (steps.double() - 1), 0.0)
    torch.testing.assert_close(value[unsolved], expected[unsolved])


def test_splits_share_no_layout_whatever_the_seed() -> None:
    layouts: dict[str, set[bytes]] = {}
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        for seed in (0, 1):
            levels = generate_levels(SokobanConfig(size=5, split=split, n_levels=20, seed=seed))
            packed = torch.cat([levels["walls"], levels["targets"]], 1).to(torch.uint8).numpy()
            layouts.setdefault(split, set()).update(row.tobytes() for row in packed)
    assert all(split_of(layout) == split for split, members in layouts.items() for layout in members)
    assert not layouts["train"] & layouts["test"]
    assert not layouts["train"] & layouts["validation"]
    assert not layouts["validation"] & layouts["test"]


def test_levels_are_distinct_and_the_seed_decides_them() -> None:
    first, again, other = (generate_levels(replace(ONE, seed=seed)) for seed in (0, 0, 1))
    generate_levels.cache_clear()
    fresh = generate_levels(ONE)
    assert all(torch.equal(first[name], fresh[name]) and torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["boxes"], other["boxes"])
    boards = Sokoban(ONE).render(first)
    assert len(set(boards)) == 60
    assert all(Sokoban(ONE).render(Sokoban(ONE).parse(board)) == [board] for board in boards)
    assert all("*" not in board for board in boards)


def test_planes_show_what_is_there_and_the_filter_reads_them() -> None:
    world = Sokoban(TWO)
    state = wander(world, 30, 5)
    seen = world.observe(state, GENERATOR)
    for planes, board in zip(seen, world.render(state), strict=True):
        for plane, symbols in zip(planes, ("#", ".*+", "$*", "@+"), strict=True):
            shown = "\n".join("".join("x" if bit else " " for bit in line) for line in plane.bool().tolist())
            assert shown == "".join("x" if cell in symbols else cell if cell == "\n" else " " for cell in board)
    belief = world.belief_filter(frozenset({"observation", "action"})).start(seen, GENERATOR)
    assert all(torch.equal(belief[name], state[name]) for name in state)


def test_what_is_no_board_or_cannot_be_given_is_refused() -> None:
    world = Sokoban(SokobanConfig(size=5, n_levels=20))
    with pytest.raises(ValueError, match="boxes, targets, agents"):
        world.parse("#####\n#@$ #\n#   #\n#   #\n#####")
    with pytest.raises(ValueError, match="outer cells"):
        world.parse("#### \n#@$.#\n#   #\n#   #\n#####")
    with pytest.raises(ValueError, match="size of 5 to 8"):
        SokobanConfig(size=9)
    with pytest.raises(ValueError, match="a split train"):
        SokobanConfig(split="exam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ask for fewer"):
        generate_levels(SokobanConfig(size=5, wall_density=0.0, n_levels=10**4))
    with pytest.raises(Unavailable, match="do not see the board"):
        world.belief_filter(frozenset({"action"}))
