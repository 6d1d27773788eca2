"""The page for users names what there is: presets as they are set, every column, every planted agent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worldprobe.agents import ALGORITHMS, PLANTED, training_preset
from worldprobe.agents._session import COLUMNS, SPEED_COLUMNS
from worldprobe.worlds import WORLDS

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WORLDS)
def test_the_table_of_results_is_of_the_presets(name: str) -> None:
    line = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|$", PAGE, re.MULTILINE)
    assert line, f"docs/agents.md has no results for {name!r}"
    architecture, steps, *_ = (cell.strip() for cell in line.group(1).split("|"))
    network, training = training_preset(name)
    assert architecture == f"{network.core.upper()} {network.hidden_size}"
    assert int(steps.replace(",", "")) == training.total_steps


MEASURED = {name for each in ALGORITHMS.values() for name in vars(each.learner)["metrics"]}


@pytest.mark.parametrize("name", [*COLUMNS, *sorted(MEASURED), *SPEED_COLUMNS])
def test_every_logged_column_is_explained(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_agent_has_a_row(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|", PAGE, re.MULTILINE)
