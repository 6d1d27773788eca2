"""The optional mirror of the metrics, against a stand-in that purges as TensorBoard does."""

from __future__ import annotations

import csv
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from worldprobe.agents import NetworkConfig, PqnConfig, TrainingProgress, train_pqn
from worldprobe.agents._metrics import TensorBoardLog
from worldprobe.worlds import make_world

Event = tuple[str, float, int]

NETWORK = NetworkConfig(core="gru", hidden_size=4, encoder_sizes=())
CONFIG = PqnConfig(
    total_steps=4 * 64, n_envs=8, n_steps=8, n_epochs=1, n_checkpoints=2, n_evaluations=4, n_evaluation_episodes=8, resume_interval=0.0
)


class InterruptionError(Exception):
    """What may happen at any moment."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Install the stand-in and return what TensorBoard would show: a writer hides all events from its `purge_step` on."""
    events: list[Event] = []

    class SummaryWriter:
        def __init__(self, directory: str, purge_step: int) -> None:
            Path(directory).mkdir(exist_ok=True)
            (Path(directory) / f"events-{len(list(Path(directory).iterdir()))}").touch()
            events[:] = [event for event in events if event[2] < purge_step]

        def add_scalar(self, name: str, value: float, step: int) -> None:
            events.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module = ModuleType("torch.utils.tensorboard")
    vars(module)["SummaryWriter"] = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None))
    return events


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    log = TensorBoardLog(tmp_path)
    log.append({"step": 1.0, "x": 2.0})
    log.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("step", "kept"), [(None, []), (0, [0]), (64, [0, 64]), (100, [0, 64])])
def test_what_lies_beyond_the_step_gone_on_from_is_hidden(step: int | None, kept: list[int], shown: list[Event], tmp_path: Path) -> None:
    shown.extend(("loss", 1.0, logged) for logged in (0, 64, 128))
    TensorBoardLog(tmp_path, step).append({"step": 192.0, "loss": 0.5})
    assert [logged for name, _, logged in shown if name == "loss"] == [*kept, 192]


def test_an_interrupted_training_shows_every_row_of_its_metrics_once(shown: list[Event], tmp_path: Path) -> None:
    def stop(state: TrainingProgress) -> None:
        if state.step in (64, 128) and state.step not in stopped:
            stopped.append(state.step)
            raise InterruptionError

    stopped: list[int] = []
    for _ in range(2):
        with pytest.raises(InterruptionError):
            train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=stop)
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [(name, float(value), int(row["step"])) for row in rows for name, value in row.items()]
    assert len(rows) == 5
    assert [step for name, _, step in shown if name == "loss"] == [int(row["step"]) for row in rows]
    assert [event for event in shown if not math.isnan(event[1])] == [event for event in expected if not math.isnan(event[1])]


def test_a_finished_training_opens_no_event_file(shown: list[Event], tmp_path: Path) -> None:
    for _ in range(2):
        train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert [step for name, _, step in shown if name == "loss"] == [0, 64, 128, 192, 256]
