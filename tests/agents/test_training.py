from __future__ import annotations

import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from worldprobe.agents import (
    NetworkConfig,
    PqnConfig,
    ResumeError,
    TrainingDivergedError,
    TrainingProgress,
    find_training,
    load_checkpoint,
    make_network,
    train_pqn,
    untrained_twin,
)
from worldprobe.agents._session import log_spaced
from worldprobe.worlds import World, make_world

NETWORK = NetworkConfig(core="gru", hidden_size=6, encoder_sizes=(5,))
CONFIG = PqnConfig(
    total_steps=8 * 64,
    n_envs=8,
    n_steps=8,
    n_epochs=2,
    n_minibatches=2,
    n_checkpoints=4,
    n_evaluations=3,
    n_evaluation_episodes=8,
    resume_interval=0.0,
)


class InterruptedByUserError(Exception):
    """What a user or a machine may do at any moment."""


def interrupt_at(step: int) -> Callable[[TrainingProgress], None]:
    def progress(state: TrainingProgress) -> None:
        if state.step >= step:
            raise InterruptedByUserError

    return progress


def reproducible_files(directory: Path) -> dict[str, bytes]:
    """Everything that must not depend on interruptions or on the clock."""
    names = ["metrics.csv", "training.json", *sorted(f"checkpoints/{path.name}" for path in (directory / "checkpoints").iterdir())]
    return {name: (directory / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, directory, seed=0)
    return directory


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_training_leaves_what_it_promises(whole: Path) -> None:
    result = find_training(whole)
    assert list(result.checkpoints) == [0, 64, 192, 512]
    assert all(path.exists() for path in [*result.checkpoints.values(), result.best, result.final])
    assert [int(row["step"]) for row in rows(whole)] == [0, 64, 192, 320, 512]
    assert result.final.read_bytes() == result.checkpoints[512].read_bytes()
    _, info = load_checkpoint(result.final)
    assert (info.step, info.seed, info.world, info.name) == (512, 0, "tmaze", "trained")
    assert info.training == json.loads(json.dumps(asdict(CONFIG)))
    assert all(load_checkpoint(path)[1].evaluation["n_episodes"] == 8 for path in result.checkpoints.values())


def test_step_zero_is_the_untrained_twin(whole: Path) -> None:
    network, _ = load_checkpoint(find_training(whole).checkpoints[0])
    twin = untrained_twin(make_world("tmaze"), NETWORK, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True))
    final, _ = load_checkpoint(find_training(whole).final)
    assert not any(torch.equal(a, b) for a, b in zip(network.parameters(), final.parameters(), strict=True))


@pytest.mark.parametrize("n_episodes", [1, 8])
def test_best_is_the_latest_that_cannot_be_told_from_the_highest_so_far(n_episodes: int, tmp_path: Path) -> None:
    config = replace(CONFIG, total_steps=32 * 64, n_evaluations=32, n_evaluation_episodes=n_episodes, learning_rate=0.03)
    result = train_pqn(make_world("tmaze"), NETWORK, config, tmp_path, seed=0)
    highest, best = -math.inf, (0, 0.0)
    for row in rows(tmp_path):
        value, error = float(row["evaluation_return"]), float(row["evaluation_standard_error"])
        if value >= highest - (0.0 if math.isnan(error) else error):
            best = (int(row["step"]), value)
        highest = max(highest, value)
    _, info = load_checkpoint(result.best)
    assert (info.step, info.evaluation["mean_return"]) == best
    assert len({row["evaluation_return"] for row in rows(tmp_path)}) >= 3


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(whole: Path, tmp_path: Path) -> None:
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path / "same", seed=0)
    assert reproducible_files(tmp_path / "same") == reproducible_files(whole)
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path / "other", seed=1)
    assert reproducible_files(tmp_path / "other")["metrics.csv"] != reproducible_files(whole)["metrics.csv"]


def test_a_training_leaves_global_chance_and_threads_alone(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before, seen = torch.get_rng_state(), []
    train_pqn(
        make_world("tmaze"), NETWORK, replace(CONFIG, total_steps=64), tmp_path, 0, progress=lambda _: seen.append(torch.get_num_threads())
    )
    assert seen == [1]
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("borders", [(64,), (128, 192), (64, 128, 192, 256, 320, 384, 448, 512)])
def test_interruptions_change_no_byte(borders: tuple[int, ...], whole: Path, tmp_path: Path) -> None:
    for border in borders:
        with pytest.raises(InterruptedByUserError):
            train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=interrupt_at(border))
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)
    assert reproducible_files(tmp_path) == reproducible_files(whole)


def test_work_beyond_the_last_resume_file_is_done_again(whole: Path, tmp_path: Path) -> None:
    """Interrupted long after it was last saved: metrics rows and checkpoints written since are replaced by the same ones."""
    saved_at_192: dict[str, bytes] = {}

    def progress(state: TrainingProgress) -> None:
        if state.step == 192:
            saved_at_192["resume"] = (tmp_path / "resume.safetensors").read_bytes()
        if state.step == 448:
            raise InterruptedByUserError

    with pytest.raises(InterruptedByUserError):
        train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=progress)
    (tmp_path / "resume.safetensors").write_bytes(saved_at_192["resume"])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("a torn li")
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)
    assert reproducible_files(tmp_path) == reproducible_files(whole)


def test_interrupted_before_anything_was_saved(whole: Path, tmp_path: Path) -> None:
    seldom = replace(CONFIG, resume_interval=1e6)
    train_pqn(make_world("tmaze"), NETWORK, seldom, tmp_path / "whole", seed=0)
    with pytest.raises(InterruptedByUserError):
        train_pqn(make_world("tmaze"), NETWORK, seldom, tmp_path / "cut", seed=0, progress=interrupt_at(192))
    assert not (tmp_path / "cut" / "resume.safetensors").exists()
    train_pqn(make_world("tmaze"), NETWORK, seldom, tmp_path / "cut", seed=0)
    assert reproducible_files(tmp_path / "cut") == reproducible_files(tmp_path / "whole")
    assert (tmp_path / "cut" / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


SCRIPT = """
import sys, time
from worldprobe.agents import NetworkConfig, PqnConfig, train_pqn
from worldprobe.worlds import make_world
network = NetworkConfig(**{network})
train_pqn(make_world("tmaze"), network, PqnConfig(**{config}), sys.argv[1], seed=0, progress=lambda _: time.sleep(0.1))
"""


def test_a_killed_process_is_gone_on_with(whole: Path, tmp_path: Path) -> None:
    """SIGKILL, wherever it strikes, and another process that goes on."""
    script = SCRIPT.format(network=asdict(NETWORK), config=asdict(CONFIG))
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "resume.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)
    assert reproducible_files(tmp_path) == reproducible_files(whole)


def test_a_finished_training_is_not_repeated(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    seen: list[TrainingProgress] = []
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, whole, seed=0, progress=seen.append)
    assert not seen
    assert {path: path.stat().st_mtime_ns for path in before if path.suffix == ".safetensors"} == {
        path: time for path, time in before.items() if path.suffix == ".safetensors"
    }


def test_enough_is_enough_and_interruptions_change_no_byte_of_it(tmp_path: Path) -> None:
    longer = replace(CONFIG, n_evaluations=8, learning_rate=3e-2)
    whole = train_pqn(make_world("random-mdp"), NETWORK, longer, tmp_path / "all", 0)
    returns = [float(row["evaluation_return"]) for row in rows(whole.directory)]
    first = max(range(len(returns)), key=lambda place: (returns[place], -place))
    assert 0 < first < len(returns) - 1, returns  # else this seed shows nothing
    config = replace(longer, stop_at_return=returns[first])
    early = train_pqn(make_world("random-mdp"), NETWORK, config, tmp_path / "early", 0)
    assert [float(row["evaluation_return"]) for row in rows(early.directory)] == returns[: first + 1]
    step = int(rows(early.directory)[-1]["step"])
    assert max(early.checkpoints) == step == load_checkpoint(early.final)[1].step
    with pytest.raises(InterruptedByUserError):
        train_pqn(make_world("random-mdp"), NETWORK, config, tmp_path / "again", 0, progress=interrupt_at(64))
    for _ in range(2):
        train_pqn(make_world("random-mdp"), NETWORK, config, tmp_path / "again", 0)
    assert reproducible_files(tmp_path / "again") == reproducible_files(tmp_path / "early")


def test_progress_tells_where_it_stands(tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=seen.append)
    assert [state.step for state in seen] == list(range(64, 513, 64))
    assert all(state.total_steps == 512 and state.steps_per_second > 0 for state in seen)
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left


@pytest.mark.parametrize(
    ("network", "config", "seed", "message"),
    [
        (NETWORK, CONFIG, 1, "seed is 0 there and 1 here"),
        (replace(NETWORK, hidden_size=7), CONFIG, 0, "network.hidden_size is 6 there and 7 here"),
        (NETWORK, replace(CONFIG, td_lambda=0.5), 0, "pqn.td_lambda is 0.9 there and 0.5 here"),
    ],
)
def test_another_training_is_not_mixed_in(whole: Path, network: NetworkConfig, config: PqnConfig, seed: int, message: str) -> None:
    with pytest.raises(ResumeError, match=message):
        train_pqn(make_world("tmaze"), network, config, whole, seed)


def test_another_world_is_not_mixed_in(whole: Path) -> None:
    with pytest.raises(ResumeError, match="world is 'tmaze' there and 'red-light' here"):
        train_pqn(make_world("red-light"), NETWORK, CONFIG, whole, seed=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("resume.safetensors", b"nonsense", "resume.safetensors is damaged"),
        ("training.json", b"{", "training.json is damaged"),
        ("training.json", b"3", "training.json is damaged"),
        ("training.json", None, "has a resume.safetensors but no training.json"),
        ("metrics.csv", b"step", "has 4 bytes, the run to resume had written"),
    ],
)
def test_damaged_directories_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InterruptedByUserError):
        train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=interrupt_at(64))
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ResumeError, match=message):
        train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)


@pytest.mark.parametrize("name", ["resume.safetensors", "training.json"])
def test_no_changed_byte_is_gone_on_with(name: str, tmp_path: Path) -> None:
    with pytest.raises(InterruptedByUserError):
        train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0, progress=interrupt_at(64))
    whole = (tmp_path / name).read_bytes()
    for where in torch.linspace(0, len(whole) - 2, 24).long().tolist():
        changed = bytearray(whole)
        changed[where] ^= 1
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(ResumeError, match=rf"{name} is damaged|holds another training"):
            train_pqn(make_world("tmaze"), NETWORK, CONFIG, tmp_path, seed=0)


def test_no_times_in_reproducible_files(whole: Path) -> None:
    assert not {"seconds", "steps_per_second"} & set(rows(whole)[0])
    assert (whole / "speed.csv").read_text().startswith("step,seconds,steps_per_second\n0,")


def test_divergence_says_when(corridor: Callable[..., World], tmp_path: Path) -> None:
    world = corridor()
    honest = world.step

    def broken(state: dict[str, torch.Tensor], action: torch.Tensor, generator: torch.Generator) -> object:
        state, reward, terminated = honest(state, action, generator)
        calls.append(1)
        return state, reward * (torch.nan if len(calls) > 100 else 1.0), terminated

    calls: list[int] = []
    world.step = broken  # type: ignore[method-assign,assignment]  # a world that breaks on the way
    with pytest.raises(TrainingDivergedError, match=r"step \d+ \(update \d+\): a reward is not finite"):
        train_pqn(world, NETWORK, replace(CONFIG, total_steps=4096), tmp_path, seed=0)


def test_yoked_networks_begin_alike_and_learn_otherwise(whole: Path, tmp_path: Path) -> None:
    result = train_pqn(make_world("tmaze"), NETWORK, replace(CONFIG, reward_source="yoked"), tmp_path, seed=0)
    assert result.checkpoints[0].read_bytes() == find_training(whole).checkpoints[0].read_bytes()
    assert result.final.read_bytes() != find_training(whole).final.read_bytes()
    assert load_checkpoint(result.final)[0].name == "yoked"


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        find_training(tmp_path)


@pytest.mark.parametrize(("n_updates", "n_checkpoints"), [(1, 2), (1, 12), (7, 3), (1000, 12), (100_000, 30)])
def test_checkpoints_are_log_spaced(n_updates: int, n_checkpoints: int) -> None:
    updates = sorted(log_spaced(n_updates, n_checkpoints))
    assert updates[0] == 0
    assert updates[-1] == n_updates
    assert len(updates) <= n_checkpoints
    ratios = [b / a for a, b in itertools.pairwise(updates) if a > 30]
    assert all(ratio == pytest.approx(ratios[0], rel=0.05) for ratio in ratios)


def test_a_seed_names_one_network() -> None:
    first, same, other = (next(make_network(make_world("tmaze"), NETWORK, seed).head.parameters()) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
