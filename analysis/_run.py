"""The stages of a run: each can be done alone, is skipped once done, and continues where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from worldprobe.activations import Behaviour, CommonBehaviour, EpsilonGreedy, record
from worldprobe.agents import TrainingProgress, load_checkpoint, train
from worldprobe.analysis._cells import LENSES, Lens, cell_names, examination, examined, measure_cell, network_directory, network_names
from worldprobe.analysis._config import ConfigError, RunConfig, check_directory, read_config
from worldprobe.analysis._examples import collect_examples, save_examples
from worldprobe.analysis._ladder import climb
from worldprobe.analysis._networks import over_networks
from worldprobe.analysis._report import write_report
from worldprobe.analysis._summary import summarise
from worldprobe.analysis._tables import as_table, read_table, with_false_discovery_rate, write_atomically, write_table
from worldprobe.worlds import make_world

Progress = Callable[[str, float, str], None]
"""Called with the name of a stage, the share of it that is done, and what is going on."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: results are a function of the number, and several processes share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def run(config: RunConfig, directory: Path, progress: Progress) -> Path:
    """Train, record, probe and report; return the path of the report.

    Parameters
    ----------
    config
        What to ask of which world.
    directory
        The run directory; finished stages in it are kept.
    progress
        Told about what is done.

    Raises
    ------
    ConfigError
        If the directory belongs to another configuration.
    """
    train_stage(config, directory, progress)
    record_stage(directory, progress)
    probe_stage(directory, progress)
    return report_stage(directory, progress)


@one_thread()
def train_stage(config: RunConfig, directory: Path, progress: Progress) -> None:
    """Train every network of a run, each into its own folder of checkpoints; finished ones are left alone."""
    check_directory(directory, config)
    names = network_names(config)
    if len(names) == 1:
        _train(directory, config, names[0], progress)
    else:
        _in_parallel(config, "train", {name: (_train, directory, config, name) for name in names}, progress)


def _train(directory: Path, config: RunConfig, name: str, progress: Progress | None = None) -> None:
    """Train one network, or the rest of it."""
    kind, index = name.split("-")
    training = replace(config.training, reward_source="yoked" if kind == "yoked" else "own")

    def tell(state: TrainingProgress) -> None:
        if progress is not None:
            note = f"{name}: return {state.evaluation_return:.2f}, {state.steps_per_second:,.0f} steps/s"
            progress("train", state.step / state.total_steps, note)

    folder = network_directory(directory, name)
    train(make_world(config.world), config.network, training, folder, config.seed + int(index), progress=tell)


@one_thread()
def record_stage(directory: Path, progress: Progress) -> None:
    """Record the first network on its own policy and on the world's common streams."""
    config = read_config(directory)
    if not network_directory(directory, "trained-0").exists():
        raise ConfigError(f"{directory} holds no trained network: run `worldprobe train {config.world} --directory {directory}` first")
    world, (agent, _) = make_world(config.world), load_checkpoint(examined(directory).best)
    streams, common_seed = config.streams, 0
    plans: dict[str, tuple[Behaviour, int, int]] = {
        "common": (CommonBehaviour(world, agent.channels), streams.n_common, common_seed),
        "own": (EpsilonGreedy(agent, streams.epsilon), streams.n_own, config.seed),
    }
    total = streams.n_common + streams.n_own
    before = 0
    for name, (behaviour, n_episodes, seed) in plans.items():

        def tell(done: int, _: int, name: str = name, before: int = before) -> None:
            progress("record", (before + done) / total, f"{name} streams")

        target = directory / "recordings" / f"{name}.wpr"
        record(agent, world, target, behaviour, n_episodes, seed, streams.sites, n_envs=streams.n_envs, progress=tell).close()
        before += n_episodes
    progress("record", 1.0, "done")


@one_thread()
def probe_stage(directory: Path, progress: Progress, lenses: Sequence[Lens] = LENSES) -> None:
    """Measure every cell that is missing under some lenses, then write results.csv, ladder.json, summary.json and examples.npz of all.

    Parameters
    ----------
    directory
        The run directory.
    progress
        Told about what is done.
    lenses
        What to measure: what the state carries ("decode"), what the values imply ("extract"), what behaviour uses ("intervene"). What was
        measured under others before is kept, and stands in the results.

    Raises
    ------
    ConfigError
        If nothing was recorded yet.
    """
    config = read_config(directory)
    for name in ("common", "own"):
        if not (directory / "recordings" / f"{name}.wpr").exists():
            raise ConfigError(f"{directory} holds no recording of the {name} streams: run `worldprobe record {directory}` first")
    names = cell_names(directory, config, lenses)
    folder = directory / "results"
    folder.mkdir(exist_ok=True)
    missing = {name: (_probe_cell, directory, config, name) for name in names if not (folder / f"{name}.csv").exists()}
    _in_parallel(config, "probe", missing, progress, n_done=len(names) - len(missing))
    tables = [read_table(path) for name in cell_names(directory, config) if (path := folder / f"{name}.csv").exists()]
    table = pd.concat([each for each in tables if len(each)], ignore_index=True)
    _write_results(directory, config, table)
    progress("probe", 1.0, "done")


def _probe_cell(directory: Path, config: RunConfig, name: str) -> None:
    """Compute and keep one cell."""
    measured = as_table(measure_cell(directory, config, name)).assign(seed=config.seed)
    write_table(measured, directory / "results" / f"{name}.csv")


def _write_results(directory: Path, config: RunConfig, table: pd.DataFrame) -> None:
    """Write the table, and what is derived from it."""
    world = make_world(config.world)
    table = with_false_discovery_rate(pd.concat([table, over_networks(table)], ignore_index=True), world.headline)
    ladders = {factor.name: [asdict(rung) for rung in climb(table, world.headline, factor.name)] for factor in world.factors}
    common = examination(directory, config, "common")
    save_examples(collect_examples(common.decoder), directory / "examples.npz")
    write_atomically(directory / "ladder.json", json.dumps(ladders, indent=2) + "\n")
    write_atomically(directory / "summary.json", json.dumps(summarise(directory, config, common), indent=2) + "\n")
    write_table(table, directory / "results.csv")


def report_stage(directory: Path, progress: Progress) -> Path:
    """Draw the figures and write the report from saved results alone; return its path."""
    read_config(directory)
    progress("report", 0.0, "drawing")
    page = write_report(directory)
    progress("report", 1.0, "done")
    return page


Task = tuple[Callable[..., None], Path, RunConfig, str]


def _in_parallel(config: RunConfig, stage: str, tasks: dict[str, Task], progress: Progress, n_done: int = 0) -> None:
    """Do named tasks in processes of one thread each, telling how many are done."""
    total = n_done + len(tasks)
    progress(stage, n_done / total if total else 1.0, f"{len(tasks)} to do")
    workers = Parallel(
        n_jobs=min(config.n_processes, max(1, len(tasks))), return_as="generator_unordered", pre_dispatch="all", batch_size=1
    )
    finished: Iterable[Any] = workers(delayed(_named)(name, *task) for name, task in tasks.items())
    for count, name in enumerate(finished, n_done + 1):
        progress(stage, count / total, f"{name} is done")


def _named(name: str, function: Callable[..., None], *arguments: Any) -> str:
    """Run a task on one thread and return its name."""
    with one_thread():
        function(*arguments)
    return name
