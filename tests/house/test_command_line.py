"""The command line: bad input ends in one line on stderr, exit status 2 and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import worldprobe
from worldprobe.__main__ import COMMANDS, main, parse_plan
from worldprobe.agents import NetworkConfig, make_network, save_checkpoint, seal
from worldprobe.analysis import RunConfig, command_line, preset
from worldprobe.worlds import WORLDS, make_world


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that refuses `arguments`."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("worldprobe: ")
    assert "Traceback" not in captured.err
    return captured.err


def written(folder: Path, values: str | dict[str, Any]) -> Path:
    """A run directory with such a config.json, sealed as a run seals it unless it is text."""
    folder.mkdir()
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(seal(values)))
    return folder


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.strip() == f"worldprobe {worldprobe.__version__}"


def test_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    usage = capsys.readouterr().out
    assert all(f"  {name}" in usage for name in COMMANDS)


def test_worlds_lists_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    main(["worlds"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in WORLDS)


@pytest.mark.parametrize("command", ["run", "train"])
def test_unknown_world_lists_the_known_ones(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused([command, "atlantis"], capsys)
    assert "'atlantis'" in message
    assert "tmaze" in message


def test_a_world_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a world" in refused(["run", "--seed", "1"], capsys)


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'dream'" in refused(["dream"], capsys)


@pytest.mark.parametrize("command", ["record", "probe", "report"])
def test_a_directory_without_a_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run directory" in refused([command, str(tmp_path / "nothing")], capsys)


@pytest.mark.parametrize("command", ["record", "probe", "report"])
@pytest.mark.parametrize("values", ["{", "[]", '"run"', "\x00"])
def test_a_damaged_configuration(command: str, values: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "damaged" in refused([command, str(written(tmp_path / "run", values))], capsys)


def test_a_configuration_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", {**preset("tmaze").to_json(), "colour": "red"})
    assert "colour" in refused(["probe", str(folder)], capsys)


@pytest.mark.parametrize(
    ("command", "stage"), [("record", "worldprobe train"), ("probe", "worldprobe record"), ("report", "worldprobe probe")]
)
def test_a_stage_names_the_one_that_is_missing(command: str, stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", preset("tmaze").to_json())
    assert stage in refused([command, str(folder)], capsys)


@pytest.mark.parametrize("damaged", ["best.json", "best.safetensors"])
def test_a_damaged_checkpoint(damaged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", preset("tmaze").to_json())
    checkpoints = folder / "checkpoints" / "trained-0" / "checkpoints"
    network = make_network(make_world("tmaze"), NetworkConfig(core="gru"), seed=0)
    for name in ("step-000000000000", "best"):
        save_checkpoint(checkpoints / name, network, world="tmaze", step=0, seed=0)
    content = bytearray((checkpoints / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoints / damaged).write_bytes(content)
    assert damaged in refused(["record", str(folder)], capsys)


def test_a_training_directory_of_another_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", preset("tmaze").to_json())
    (folder / "checkpoints" / "trained-0").mkdir(parents=True)
    (folder / "checkpoints" / "trained-0" / "training.json").write_text(json.dumps(seal({"world": "four-rooms"})))
    assert "holds another training" in refused(["train", "tmaze", "--directory", str(folder)], capsys)


def test_a_directory_of_another_configuration_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", preset("tmaze").to_json())
    message = refused(["run", "tmaze", "--directory", str(folder), "--seed", "3", "--network.hidden-size", "8"], capsys)
    assert "seed" in message
    assert "network.hidden_size" in message


def test_a_directory_that_holds_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("do not overwrite")
    assert "not empty" in refused(["train", "tmaze", "--directory", str(tmp_path)], capsys)
    assert (tmp_path / "thesis.tex").read_text() == "do not overwrite"


def test_an_impossible_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["train", "tmaze", "--directory", str(folder), "--network.core", "abacus"])
    assert stopped.value.code == 2
    assert "abacus" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("sites", [["core.h", "core.g"], ["q"]])
def test_sites_that_are_not_there_or_leave_out_the_headline(sites: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    message = refused(["train", "tmaze", "--directory", str(folder), "--streams.sites", *sites], capsys)
    assert "core.h" in message
    assert not folder.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["tmaze"],
        ["tmaze", "--full", "--seed", "3"],
        ["minigrid-memory", "--network.encoder-sizes", "32", "16", "--network.no-layer-norm", "--streams.sites", "core.h"],
        ["tmaze", "--algorithm", "r2d2", "--training.burn-in", "5", "--training.no-double"],
        ["tmaze", "--algorithm=drqn", "--network.dueling"],
        ["red-light", "--codelength", "--training.td-lambda", "0.5", "--examine.floors.forms", "linear"],
    ],
)
def test_the_command_that_a_report_prints_makes_the_same_configuration(arguments: list[str]) -> None:
    config, _ = parse_plan("run", arguments)
    words = command_line(config).split()
    assert words[:2] == ["worldprobe", "run"]
    assert parse_plan("run", words[2:])[0] == config


def test_configuration_survives_its_json(tmp_path: Path) -> None:
    from worldprobe.analysis import read_config

    config = preset("minigrid-memory").full()
    assert read_config(written(tmp_path / "run", config.to_json())) == config
    assert isinstance(config, RunConfig)


def test_run_directories_from_before_a_setting_was_added_are_read(tmp_path: Path) -> None:
    from worldprobe.analysis import read_config

    config = preset("memory-chain")
    older = {name: value for name, value in config.to_json().items() if name not in ("memory", "intervene")}
    assert read_config(written(tmp_path / "run", older)) == config
