from __future__ import annotations

import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from worldprobe.agents._metrics import MetricsFile, TensorBoardLog


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


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    log = TensorBoardLog(tmp_path, step=0)
    log.append({"step": 1.0, "x": 2.0})
    log.close()
    assert not list(tmp_path.iterdir())


def test_with_tensorboard_every_number_is_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, directory: str, purge_step: int) -> None:
            calls.append(("open", directory, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def flush(self) -> None:
            calls.append(("flush",))

        def close(self) -> None:
            calls.append(("close",))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]  # a stand-in for an optional package
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None))
    log = TensorBoardLog(tmp_path, step=64)
    log.append({"step": 128.0, "loss": 0.5})
    log.close()
    assert calls == [("open", str(tmp_path), 64), ("step", 128.0, 128), ("loss", 0.5, 128), ("flush",), ("close",)]
