"""The examples run, and print what the arithmetic of memory says: a state holds velocities that no observation shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MEMORY = {
    "cleanrl_lstm": ("lstm.h", "lstm.c"),
    "recurrent_ppo_in_a_world": ("lstm_actor.h", "lstm_actor.c"),
    "recurrent_ppo": ("lstm_actor.h", "lstm_actor.c"),
    "stable_baselines_dqn": (),
    "stable_baselines_ppo": (),
    "torchrl_lstm": ("core.h",),
}
"""Example to the sites that remember."""


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*MEMORY, "recurrent_ppo_report"}


def test_a_learner_of_another_library_gets_its_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["recurrent_ppo_report.py"])
    runpy.run_path(str(EXAMPLES / "recurrent_ppo_report.py"))
    assert capsys.readouterr().out.splitlines()[-1] == "report.html"


@pytest.mark.parametrize("name", MEMORY)
def test_memory_shows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    scores = {site: [float(x) for x in both.split()] for site, both in re.findall(r"(\S+) \[(.*)\]", capsys.readouterr().out)}
    seen = scores.pop("observation")
    for site, found in scores.items():
        gains = [(got - floor) / (1 - floor) for got, floor in zip(found, seen, strict=True)]
        if site in MEMORY[name]:
            assert min(gains) > 0.4, site
        elif not MEMORY[name]:
            assert max(gains) < 0.1, site


@pytest.mark.parametrize("name", MEMORY)
def test_recording_and_probing_take_ten_lines(name: str) -> None:
    _, _, body = (EXAMPLES / f"{name}.py").read_text().partition("with tempfile.TemporaryDirectory() as folder:\n")
    assert 0 < len([line for line in body.splitlines() if line.strip()]) <= 10
