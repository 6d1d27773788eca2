"""A whole run, small: every stage alone, nothing done twice, and the same bytes again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from worldprobe.agents import NetworkConfig, PqnConfig
from worldprobe.analysis import (
    ErasingConfig,
    ExamineConfig,
    FloorConfig,
    InterveneConfig,
    Lens,
    MemoryConfig,
    RunConfig,
    SteeringConfig,
    StreamConfig,
    probe_stage,
    read_table,
    record_stage,
    report_stage,
    run,
    train_stage,
)

SMALL = RunConfig(
    world="tmaze",
    n_processes=1,
    network=NetworkConfig(core="gru", hidden_size=12, encoder_sizes=(12,)),
    training=PqnConfig(total_steps=4096, n_envs=16, n_steps=32, n_evaluations=2, n_evaluation_episodes=16, n_checkpoints=2),
    streams=StreamConfig(n_common=120, n_own=120, n_envs=32, n_evaluation=50),
    examine=ExamineConfig(
        n_folds=3,
        horizon=5,
        n_forks=200,
        n_counterfeits=3,
        n_counterfeit_forks=100,
        n_twins=2,
        floors=FloorConfig(mlp_epochs=1, max_width=60),
    ),
    memory=MemoryConfig(max_states=2, n_restarts=2),
    intervene=InterveneConfig(
        SteeringConfig(scales=(1.0,), n_draws=2, n_returns=50),
        ErasingConfig(n_episodes=32, n_return_episodes=64, doses=(0.5, 1.0), max_rounds=1, n_controls=1),
    ),
)


class Log:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, str]] = []

    def __call__(self, stage: str, share: float, note: str) -> None:
        self.told.append((stage, share, note))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    directory, log = tmp_path_factory.mktemp("runs") / "run", Log()
    run(SMALL, directory, log)
    return directory, log


def test_a_run_directory_holds_what_is_promised(finished: tuple[Path, Log]) -> None:
    names = {path.name for path in finished[0].iterdir()}
    promised = {"config.json", "checkpoints", "recordings", "results.csv", "ladder.json", "figures", "report.html"}
    assert promised <= names


def test_the_page_is_self_contained_and_opens_with_the_answer(finished: tuple[Path, Log]) -> None:
    page = (finished[0] / "report.html").read_text()
    assert 'src="http' not in page
    assert "href=" not in page
    assert page.index('class="answer"') < page.index("The ladder") < page.index("Configuration") < page.index("Versions")
    assert str(finished[0]) not in page


def test_every_figure_is_there_as_pdf_and_png(finished: tuple[Path, Log]) -> None:
    figures = finished[0] / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"own_update", "emergence", "training", "beliefs_position", "beliefs_goal", "doses"} <= names
    assert all((figures / f"{name}.{kind}").stat().st_size > 1000 for name in names for kind in ("pdf", "png"))


def test_progress_of_each_stage_ends_at_one(finished: tuple[Path, Log]) -> None:
    for stage in ("train", "record", "probe", "report"):
        shares = [share for name, share, _ in finished[1].told if name == stage]
        assert shares
        assert all(0 <= share <= 1 for share in shares)
        assert shares[-1] == 1


def test_a_finished_run_does_nothing_again(finished: tuple[Path, Log]) -> None:
    directory = finished[0]
    kept = [path for folder in ("checkpoints", "recordings", "results") for path in (directory / folder).rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in kept}
    run(SMALL, directory, Log())
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_stages_and_lenses_done_alone_give_the_same_bytes(finished: tuple[Path, Log], tmp_path: Path) -> None:
    directory = tmp_path / "again"
    train_stage(SMALL, directory, Log())
    record_stage(directory, Log())
    promised: dict[Lens, set[str]] = {
        "intervene": {"steering", "necessity"},
        "extract": {"extraction"},
        "decode": {"emergence", "own-update", "coherence", "unit", "bits-had"},
    }
    seen = dict[Lens, set[str]]()
    for lens, quantities in promised.items():
        probe_stage(directory, Log(), [lens])
        seen[lens] = set(read_table(directory / "results.csv").quantity)
        assert quantities <= seen[lens]
        report_stage(directory, Log())
    assert not seen["intervene"] & {"extraction", "emergence", "coherence"}
    for name in ("results.csv", "ladder.json", "summary.json"):
        assert (directory / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_only_missing_cells_are_measured_again(finished: tuple[Path, Log]) -> None:
    directory = finished[0]
    results, cell = (directory / "results.csv").read_bytes(), directory / "results" / "own.csv"
    other = (directory / "results" / "common.csv").stat().st_mtime_ns
    cell.unlink()
    probe_stage(directory, Log())
    assert (directory / "results.csv").read_bytes() == results
    assert (directory / "results" / "common.csv").stat().st_mtime_ns == other


def test_results_hold_no_paths_and_words_stay_words(finished: tuple[Path, Log]) -> None:
    text, table = (finished[0] / "results.csv").read_text(), read_table(finished[0] / "results.csv")
    assert "/" not in text.replace(" / ", "")
    assert set(table.law) == {"true", *(f"counterfeit {index:02d}" for index in range(3))}
    assert table.estimable.dtype == bool


def test_another_seed_gives_other_numbers(finished: tuple[Path, Log], tmp_path: Path) -> None:
    directory = tmp_path / "other"
    train_stage(replace(SMALL, seed=1), directory, Log())
    metrics = [pd.read_csv(next(path.rglob("metrics.csv"))) for path in (finished[0], directory)]
    assert not metrics[0].equals(metrics[1])
