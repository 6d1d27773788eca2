"""The command line: every command parses one dataclass, calls one function, writes one thing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import rich
import tyro
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import worldprobe
from worldprobe.activations import describe_recording, merge_recordings, open_recording, pack_recording
from worldprobe.agents import CheckpointError, ResumeError, TrainingDivergedError
from worldprobe.analysis import LENSES, RunConfig, preset, probe_stage, record_stage, report_stage, run, train_stage
from worldprobe.worlds import WORLDS, Unavailable

EXPECTED_ERRORS = (ValueError, LookupError, OSError, Unavailable, ImportError, CheckpointError, ResumeError, TrainingDivergedError)
"""What bad input ends in: one line and exit status 2. Anything else is a defect of ours and keeps its traceback."""


@dataclass(frozen=True)
class Plan:
    """Settings of `run` and `train`."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """What to ask of which world, and how."""
    algorithm: Literal["pqn", "r2d2", "drqn", "ppo", "tdm"] = "pqn"
    """By what the networks learn; the settings of --training are its own."""
    full: bool = False
    """Decide every rung of this version: five networks, five on yoked rewards, online codelengths."""
    directory: Path | None = None
    """Run directory; default runs/WORLD-SEED (with -ALGORITHM if not pqn, and -full with --full)."""

    def settled(self) -> tuple[RunConfig, Path]:
        """Return the configuration and the directory."""
        by = "" if self.algorithm == Plan.algorithm else f"-{self.algorithm}"
        name = f"{self.config.world}-{self.config.seed}{by}" + ("-full" if self.full else "")
        return self.config.full() if self.full else self.config, self.directory or Path("runs") / name


@dataclass(frozen=True)
class Place:
    """Settings of the stages that work on a run directory."""

    directory: Annotated[Path, tyro.conf.Positional]
    """Run directory, as `worldprobe train` made it."""


@dataclass(frozen=True)
class ProbePlace(Place):
    """Settings of `probe`."""

    lens: Literal["decode", "extract", "intervene", "all"] = "all"
    """What to measure: what states carry and updates do, what values imply, what behaviour uses, or all of it."""


@dataclass(frozen=True)
class RecordPlace(Place):
    """Settings of `record`."""

    resume: bool = True
    """Go on where an earlier `record` was interrupted; --no-resume refuses to touch recordings that were begun."""


@dataclass(frozen=True)
class RecordingPlace:
    """A recording."""

    path: Annotated[Path, tyro.conf.Positional]
    """Directory name.wpr, or a packed file."""


@dataclass(frozen=True)
class PackPlace(RecordingPlace):
    """Settings of `pack`."""

    output: Path | None = None
    """The file; default PATH.zip."""


@dataclass(frozen=True)
class MergePlace:
    """Settings of `merge`."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Recordings of the same, each with some of the shards; one alone has its parts folded together."""
    output: Path | None = None
    """Directory of the whole; default the first of PATHS."""


class Display:
    """Draws the progress of stages with an ETA; silent where the output is not a terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:>7}"), BarColumn(24), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[note]}"), disable=not sys.stdout.isatty())
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, share: float, note: str) -> None:
        """Show that `share` of a stage is done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=1.0, note=note)
        self._progress.update(self._tasks[stage], completed=share, note=note)


def command_run(arguments: Sequence[str]) -> None:
    """Train, record, probe and report: the whole path, one page at the end."""
    config, directory = parse_plan("run", arguments)
    with Display() as display:
        page = run(config, directory, display)
    print(f"report: {page}")


def command_train(arguments: Sequence[str]) -> None:
    """Train the networks of a run."""
    config, directory = parse_plan("train", arguments)
    with Display() as display:
        train_stage(config, directory, display)
    print(f"checkpoints: {directory / 'checkpoints'}")


def command_record(arguments: Sequence[str]) -> None:
    """Record a trained network on its own and on the common streams."""
    place = tyro.cli(RecordPlace, prog="worldprobe record", args=list(arguments))
    directory = place.directory
    begun = sorted(directory.glob("recordings/*.wpr"))
    if begun and not place.resume:
        raise ValueError(f"{begun[0]} was begun: go on with --resume, or delete {directory / 'recordings'} first")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("worldprobe").setLevel(logging.INFO)
    with Display() as display:
        record_stage(directory, display)
    print(f"recordings: {directory / 'recordings'}")


def command_probe(arguments: Sequence[str]) -> None:
    """Measure what the recordings support, through one lens or all."""
    place = tyro.cli(ProbePlace, prog="worldprobe probe", args=list(arguments))
    with Display() as display:
        probe_stage(place.directory, display, LENSES if place.lens == "all" else (place.lens,))
    print(f"results: {place.directory / 'results.csv'}")


def command_report(arguments: Sequence[str]) -> None:
    """Draw figures and report from saved results alone."""
    directory = _place("report", arguments)
    with Display() as display:
        page = report_stage(directory, display)
    print(f"report: {page}")


def command_verify(arguments: Sequence[str]) -> None:
    """Compare every file and every block of a recording with its checksum."""
    path = tyro.cli(RecordingPlace, prog="worldprobe verify", args=list(arguments)).path
    with open_recording(path) as recording:
        recording.verify()
        unfinished = "" if recording.is_complete else f", unfinished ({recording.n_episodes} of {recording.identity.n_episodes} episodes)"
        print(f"{path}: {len(recording.manifest.shards)} shards of {len(recording.keys())} arrays are as they were written{unfinished}")


def command_info(arguments: Sequence[str]) -> None:
    """Show what a recording holds."""
    with open_recording(tyro.cli(RecordingPlace, prog="worldprobe info", args=list(arguments)).path) as recording:
        print(describe_recording(recording))


def command_pack(arguments: Sequence[str]) -> None:
    """Write a recording into one file."""
    place = tyro.cli(PackPlace, prog="worldprobe pack", args=list(arguments))
    output = place.output or place.path.with_name(f"{place.path.name}.zip")
    pack_recording(place.path, output).close()
    print(f"packed: {output}")


def command_merge(arguments: Sequence[str]) -> None:
    """Join recordings of different shards, or the parts of one."""
    place = tyro.cli(MergePlace, prog="worldprobe merge", args=list(arguments))
    if not place.paths:
        raise ValueError("name at least one recording: worldprobe merge PATH [PATH ...] --output DIRECTORY")
    output = place.output or place.paths[0]
    with merge_recordings(place.paths, output) as recording:
        print(f"merged: {output} ({recording.n_episodes} of {recording.identity.n_episodes} episodes)")


def command_worlds(arguments: Sequence[str]) -> None:
    """List the worlds."""
    if arguments:
        raise ValueError(f"`worldprobe worlds` takes no arguments; got {' '.join(arguments)}")
    table = Table("world", "what it is", box=None)
    for name, entry in WORLDS.items():
        table.add_row(name, entry.summary)
    rich.print(table)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "run": command_run,
    "train": command_train,
    "record": command_record,
    "probe": command_probe,
    "report": command_report,
    "worlds": command_worlds,
    "info": command_info,
    "verify": command_verify,
    "pack": command_pack,
    "merge": command_merge,
}


def parse_plan(command: str, arguments: Sequence[str]) -> tuple[RunConfig, Path]:
    """Parse WORLD and the settings, whose defaults are the world's preset."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        raise ValueError(f"name a world: worldprobe {command} WORLD, with WORLD one of {', '.join(WORLDS)}")
    is_help = arguments[0] in ("-h", "--help")
    world, rest = ("tmaze", arguments) if is_help else (arguments[0], arguments[1:])
    algorithm = _algorithm(rest)
    plan = tyro.cli(Plan, prog=f"worldprobe {command} WORLD", args=list(rest), default=Plan(preset(world, algorithm)))
    return plan.settled()


def _algorithm(arguments: Sequence[str]) -> str:
    """Return what --algorithm says: it decides which settings there are."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return next((value for name, value in pairwise(words) if name == "--algorithm"), Plan.algorithm)


def _place(command: str, arguments: Sequence[str]) -> Path:
    return tyro.cli(Place, prog=f"worldprobe {command}", args=list(arguments)).directory


def _usage() -> str:
    lines = [f"  {name:8}{(function.__doc__ or '').rstrip('.')}" for name, function in COMMANDS.items()]
    return "\n".join(["usage: worldprobe COMMAND ...", "", *lines, "", "`worldprobe COMMAND --help` lists the settings of a command."])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return
    if arguments[0] == "--version":
        print(f"worldprobe {worldprobe.__version__}")
        return
    try:
        if arguments[0] not in COMMANDS:
            raise ValueError(f"there is no command {arguments[0]!r}; the commands are {', '.join(COMMANDS)}")
        COMMANDS[arguments[0]](arguments[1:])
    except EXPECTED_ERRORS as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(_refuse(str(message)))


def _refuse(message: str) -> int:
    """Print one line on stderr and return the exit status of bad input."""
    print(f"worldprobe: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
