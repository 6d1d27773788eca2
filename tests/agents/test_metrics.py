from __future__ import annotations

import math
from pathlib import Path

import pytest

from worldprobe.agents._metrics import MetricsFile


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.csv", ("step", "x"))
    metrics.append({"x": 0.1 + 0.2, "step": 1})
    metrics.append({"x": math.nan, "step": 2})
    assert (tmp_path / "m.csv").read_text() == "step,x\n1,0.30000000000000004\n2,nan\n"


def test_what_lies_beyond_the_position_is_cut_off(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.csv", ("step",))
    metrics.append({"step": 1})
    position = metrics.position
    metrics.append({"step": 2})
    resumed = MetricsFile(tmp_path / "m.csv", ("step",), position)
    resumed.append({"step": 3})
    assert (tmp_path / "m.csv").read_text() == "step\n1\n3\n"


def test_a_new_run_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("of an older run")
    MetricsFile(tmp_path / "m.csv", ("step",))
    assert (tmp_path / "m.csv").read_text() == "step\n"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 0 bytes"):
        MetricsFile(tmp_path / "m.csv", ("step",), position=4)
