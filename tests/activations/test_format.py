"""docs/format.md is the specification: its tables are those of the code, its examples run, other tools open the files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from worldprobe.activations import EpsilonGreedy, Recording, RecordingError, open_recording, record
from worldprobe.activations import _layout as layout
from worldprobe.activations import _schema as schema
from worldprobe.activations._writer import shard_attributes
from worldprobe.agents import NetworkConfig, make_network
from worldprobe.worlds import World

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def first_column(header: str) -> set[str]:
    """Return the names in the first column of the table that begins with `header`."""
    table = DOCUMENT.split(f"| {header} |", 1)[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {name for cell in cells for name in re.findall("`([^`]+)`", cell)}


def test_the_tables_of_the_document_are_those_of_the_code(common: Recording) -> None:
    assert first_column("field | type") == {*schema.MANIFEST_FIELDS, "seal"}
    assert first_column("field of `identity`") == set(schema.IDENTITY_FIELDS)
    assert first_column("attribute") == set(shard_attributes(0, common.manifest))
    rows = first_column("key | dtype | shape of a row | present")
    assert {key.split("/")[0] for key in rows} == set(layout.ROW_KEYS) | set(layout.ROW_PREFIXES)
    episode = first_column("key | dtype | shape of a row | meaning")
    assert {key for key in episode if key.startswith("episode/")} == set(layout.EPISODE_KEYS) - {"episode/number"}


@pytest.fixture(scope="module")
def recorded(maze: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    path = tmp_path_factory.mktemp("format") / "name.wpr"
    record(agent, maze, path, EpsilonGreedy(agent, 0.5), 20, 0, episodes_per_shard=8).close()
    return path


def test_every_example_of_the_document_runs(recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(recorded.parent)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/format.md", "exec"), {})
    assert "site/core.h" in capsys.readouterr().out


def test_xarray_gives_labelled_arrays(recorded: Path, maze: World) -> None:
    with xarray.open_dataset(recorded / "shard-00001.h5", engine="h5netcdf") as shard, h5py.File(recorded / "shard-00001.h5") as file:
        h = shard["site:core.h"]
        assert h.dims == ("step", "site:core.h@1")
        np.testing.assert_array_equal(h.values, file["site:core.h"][:])
        np.testing.assert_array_equal(h["episode"].values, file["episode"][:])
        assert shard["terminated"].dtype == bool
        assert shard["episode:number"].values.tolist() == list(range(8, 16))
        first = h.where(shard["t"] == 0, drop=True)
        assert first.sizes["step"] == 8
        assert shard["final_observation"].dims == ("episode:number", "observation@1")
        assert json.loads(shard["expected:goal@1"].attrs["labels"]) == list(maze.factor("goal").labels)
        assert h.attrs["long_name"] == "activation at step t: core.h"
        identity = json.loads(shard.attrs["identity"])
        assert identity["world"]["name"] == "tmaze"
        assert len(identity["agent"]["checkpoint"]) == 64


def test_every_dataset_is_stored_as_the_document_says(recorded: Path) -> None:
    with h5py.File(recorded / "shard-00000.h5") as file:
        keys = {dataset.attrs["key"] for dataset in file.values() if "key" in dataset.attrs}
        assert {layout.stored_name(key) for key in keys} | {n for n in file if n == "step" or "@" in n} == set(file)
        for name, dataset in file.items():
            assert dataset.fletcher32
            assert dataset.chunks is not None
            assert dataset.chunks[1:] == dataset.shape[1:]
            assert int(np.prod(dataset.chunks)) * dataset.dtype.itemsize <= 2**18
            assert dataset.dtype.kind in "iuf"
            assert dataset.is_scale or "DIMENSION_LIST" in dataset.attrs, name
            assert dataset.is_scale or {"key", "long_name"} <= set(dataset.attrs)


@pytest.mark.parametrize(("row_bytes", "n_rows", "expected"), [(8, 10**6, 2**15), (8, 10, 10), (1000, 10**6, 256), (2**20, 50, 1)])
def test_chunks_are_whole_rows_within_256_kib(row_bytes: int, n_rows: int, expected: int) -> None:
    assert layout.chunk_rows(row_bytes, n_rows) == expected


def as_version_1(path: Path) -> None:
    """Rewrite a recording as version 1 wrote it."""
    content = json.loads((path / "recording.json").read_text())
    content["version"] = 1
    del content["seal"], content["identity"]["precision"]
    for spec in content["arrays"].values():
        del spec["stored"]
    for entry in content["shards"]:
        del entry["loss"]
        shard = path / entry["file"]
        with h5py.File(shard, "r+", libver="latest") as file:
            file.attrs["version"] = 1
            file.attrs["identity"] = json.dumps(content["identity"], sort_keys=True, separators=(",", ":"))
        entry |= {"size": shard.stat().st_size, "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
    (path / "recording.json").write_text(json.dumps(content))


def test_version_1_is_migrated(recorded: Path, maze: World, tmp_path: Path) -> None:
    path = Path(shutil.copytree(recorded, tmp_path / "old.wpr"))
    as_version_1(path)
    with open_recording(path) as old, open_recording(recorded) as new:
        old.verify()
        assert old.identity == new.identity
        for key in new:
            np.testing.assert_array_equal(old[key][:], new[key][:])
    content = json.loads((path / "recording.json").read_text())
    content["shards"] = content["shards"][:1]
    (path / "recording.json").write_text(json.dumps(content))  # version 1 has no seal
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    with record(agent, maze, path, EpsilonGreedy(agent, 0.5), 20, 0, episodes_per_shard=8) as resumed, open_recording(recorded) as new:
        assert resumed.is_complete
        np.testing.assert_array_equal(resumed["core.h"][:], new["core.h"][:])
    assert json.loads((path / "recording.json").read_text())["version"] == 2


@pytest.mark.parametrize("broken", ["identity", "arrays", "shards"])
def test_a_broken_version_1_is_refused_in_words(recorded: Path, tmp_path: Path, broken: str) -> None:
    path = Path(shutil.copytree(recorded, tmp_path / "old.wpr"))
    as_version_1(path)
    content = json.loads((path / "recording.json").read_text())
    (path / "recording.json").write_text(json.dumps(content | {broken: 3}))
    with pytest.raises(RecordingError, match=f"field '{broken}' must be"):
        open_recording(path)
