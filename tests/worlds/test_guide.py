"""The page for users keeps its word: its code runs, and its table is what the registry builds."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from worldprobe.worlds import WORLDS, make_world

PAGE = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text(encoding="utf-8")


def test_every_code_block_runs_in_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```") // 2
    names: dict[str, object] = {"__name__": "guide"}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/worlds.md, block {number}", "exec"), names)


@pytest.mark.parametrize("name", WORLDS)
def test_the_table_says_what_the_registry_builds(name: str) -> None:
    line = re.search(rf"^\| `{re.escape(name)}` \|.*$", PAGE, re.MULTILINE)
    assert line, f"docs/worlds.md has no row for {name!r}"
    _, _, observation, actions, limit, gives = (cell.strip() for cell in line.group().strip("|").split("|"))
    world = make_world(name)
    assert sum(math.prod(map(int, re.findall(r"\d+", part))) for part in observation.split("+")) == world.observation_size
    assert (int(actions), int(limit)) == (world.n_actions, world.time_limit)
    assert set(gives.split(", ")) == world.gives
