"""A crash costs nothing but time: whatever is listed is whole, and a resumed recording is the uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldprobe.activations import EpsilonGreedy, Recording, RecordingError, open_recording, record
from worldprobe.activations import _files as files
from worldprobe.activations._commit import announce
from worldprobe.agents import NetworkConfig, RecurrentQNetwork, make_network, seal, unseal
from worldprobe.worlds import TMaze, World

Same = Callable[[Recording, Recording], None]
RecordOwn = Callable[[RecurrentQNetwork, World, Path], Recording]


@pytest.mark.parametrize("stage", ["write", "replace"])
@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_a_crash_at_any_stage_of_any_file_loses_at_most_one_shard(
    network: RecurrentQNetwork,
    maze: World,
    whole: Recording,
    record_own: RecordOwn,
    assert_same: Same,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    survived: int,
) -> None:
    """The process stops dead in the middle of the file after `survived` whole ones (manifest, shard, manifest, ...)."""
    written = 0
    original = files.write_whole

    def dying(path: Path, content: bytes) -> None:
        nonlocal written
        if written == survived:
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(content[: len(content) // 2] if stage == "write" else content)
            if stage == "replace":
                partial.replace(path)
            raise KeyboardInterrupt
        written += 1
        original(path, content)

    for module in ("_writer", "_manifest"):
        monkeypatch.setattr(f"worldprobe.activations.{module}.write_whole", dying)
    with pytest.raises(KeyboardInterrupt):
        record_own(network, maze, tmp_path / "a.wpr")
    monkeypatch.undo()
    if survived or stage == "replace":
        with open_recording(tmp_path / "a.wpr") as torn:
            torn.verify()
            assert torn.n_episodes == 8 * ((survived - (stage == "write")) // 2)
            np.testing.assert_array_equal(
                torn["core.h"][:] if torn.n_steps else [], whole["core.h"][: torn.n_steps] if torn.n_steps else []
            )
    assert_same(record_own(network, maze, tmp_path / "a.wpr"), whole)
    assert not list((tmp_path / "a.wpr").glob("*.partial"))


def run_benchmark(name: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark whose exit status says whether all was well, and return what it printed."""
    command = [sys.executable, str(Path(__file__).parents[2] / "benchmarks" / name), *arguments]
    in_memory = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}  # a kill is no power cut: the disk need not spin for it
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **in_memory}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    printed: dict[str, Any] = json.loads(finished.stdout)
    return printed


def test_kill_nine_loses_at_most_the_shard_in_the_making() -> None:
    seen = run_benchmark("killed_writers.py", "--kills", "16")
    assert seen["differing"] == []
    assert seen["kills"] >= 16
    assert seen["kills_between_shards"] > 0


def test_mutated_files_end_in_an_error_or_in_what_was_written() -> None:
    found = run_benchmark("mutated_files.py", "--n", "150", "--seed", "1")
    assert found["bad"] == []
    assert found["outcomes"].keys() <= {"refused", "proven", "resealed"}
    assert found["outcomes"]["refused"] > 100
    assert found["outcomes"]["proven"] > 0


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from worldprobe.activations import EpsilonGreedy, RecordingError, open_recording, record
from worldprobe.agents import NetworkConfig, make_network
from worldprobe.worlds import TMaze

torch.set_num_threads(1)
folder, kind, maze = Path(sys.argv[1]), sys.argv[2], TMaze(length=3)
agent = make_network(maze, NetworkConfig(hidden_size=8), seed=0)

def go_on():
    behaviour, sites = EpsilonGreedy(agent, 0.2), ("core.h", "core.c", "q")
    return record(agent, maze, folder / "a.wpr", behaviour, 24, 9, sites, n_envs=4, episodes_per_shard=8)

if kind == "tmpfs":
    (folder / "filler").write_bytes(bytes(160 * 1024))
else:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))
try:
    go_on()
except RecordingError as error:
    print(error)
with open_recording(folder / "a.wpr") as torn:
    torn.verify()
    print(torn.n_episodes)
if kind == "tmpfs":
    (folder / "filler").unlink()
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with go_on() as recording:
    print([__import__("hashlib").sha256(recording[key][:].tobytes()).hexdigest() for key in recording])
"""


def test_a_disk_that_is_full_in_earnest(whole: Recording, tmp_path: Path) -> None:
    """A file system of 256 KiB where one may be mounted, else a limit on the size of files: the kernel itself refuses to write."""
    (tmp_path / "full.py").write_text(FULL)
    mount = 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"'
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path / "disk")]
    (tmp_path / "disk").mkdir()
    can_mount = subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode == 0
    prefix, kind, reason = (mounted, "tmpfs", "No space left on device") if can_mount else ([], "limit", "File too large")
    command = [*prefix, sys.executable, str(tmp_path / "full.py"), str(tmp_path / "disk"), kind]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    error, n_episodes, digests = said.stdout.splitlines()
    assert f"{reason}; finished shards are kept, make room and record again" in error
    assert 0 <= int(n_episodes) < 24
    assert eval(digests) == [hashlib.sha256(whole[key][:].tobytes()).hexdigest() for key in whole]


# --- several processes --------------------------------------------------------------------------------------------


def record_part(network: RecurrentQNetwork, maze: World, path: Path, part: tuple[int, int] | None) -> Recording:
    behaviour, sites = EpsilonGreedy(network, 0.2), ("core.h", "core.c", "q")
    return record(network, maze, path, behaviour, 24, 9, sites, n_envs=4, episodes_per_shard=8, part=part)


@pytest.mark.parametrize("n_parts", [2, 3, 5])
def test_parts_together_are_the_recording(
    network: RecurrentQNetwork, maze: World, whole: Recording, assert_same: Same, tmp_path: Path, n_parts: int
) -> None:
    """Writers share the directory and no file: what one wrote is never touched by another."""
    for index in reversed(range(n_parts)):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("a.wpr/*")}
        part = record_part(network, maze, tmp_path / "a.wpr", (index, n_parts))
        assert part.is_complete == (index == 0)
        assert {path: path.stat().st_mtime_ns for path in before} == before
        part.close()
    assert not (tmp_path / "a.wpr/recording.json").exists()
    with open_recording(tmp_path / "a.wpr") as recording:
        recording.verify()
        assert_same(recording, whole)


def test_what_parts_left_undone_is_done_by_whoever_resumes(
    network: RecurrentQNetwork, maze: World, whole: Recording, record_own: RecordOwn, assert_same: Same, tmp_path: Path
) -> None:
    record_part(network, maze, tmp_path / "a.wpr", (1, 2)).close()
    assert_same(record_own(network, maze, tmp_path / "a.wpr"), whole)


def test_parts_of_different_recordings_are_refused(network: RecurrentQNetwork, maze: World, whole: Recording, tmp_path: Path) -> None:
    record_part(network, maze, tmp_path / "a.wpr", (0, 2)).close()
    with pytest.raises(RecordingError, match=r"another recording \(behaviour\.epsilon"):
        record(network, maze, tmp_path / "a.wpr", EpsilonGreedy(network, 0.3), 24, 9, ("core.h", "core.c", "q"), n_envs=4,
               episodes_per_shard=8, part=(1, 2))  # fmt: skip
    with pytest.raises(ValueError, match=r"0 <= index < count, such as \(0, 4\); got \(2, 2\)"):
        record_part(network, maze, tmp_path / "b.wpr", (2, 2))
    content = unseal(json.loads((tmp_path / "a.wpr/part-0-of-2.json").read_text()))
    content["shards"][0]["sha256"] = "0" * 64
    (tmp_path / "a.wpr/recording.json").write_text(json.dumps(seal(content)))
    with pytest.raises(RecordingError, match=r"lists another shard-00000\.h5 than"):
        open_recording(tmp_path / "a.wpr")


def test_two_writers_of_the_whole_are_refused(network: RecurrentQNetwork, maze: World, record_own: RecordOwn, tmp_path: Path) -> None:
    (tmp_path / "a.wpr").mkdir()
    with files.writing(tmp_path / "a.wpr", shared=True):
        record_part(network, maze, tmp_path / "a.wpr", (0, 2)).close()
        with pytest.raises(RecordingError, match="another process is writing to"):
            record_own(network, maze, tmp_path / "a.wpr")


def test_the_need_of_the_disk_is_said_before_the_first_shard(
    network: RecurrentQNetwork, maze: World, record_own: RecordOwn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "worldprobe"), record_own(network, maze, tmp_path / "a.wpr") as recording:
        size = sum(path.stat().st_size for path in recording.path.glob("*.h5")) / 1e6
    (said,) = caplog.messages
    told = float(re.search(r"about ([\d.,]+) MB for 24 episodes", said).group(1))  # type: ignore[union-attr]
    assert abs(told - size) < 0.2 * size
    caplog.clear()
    with caplog.at_level("INFO", "worldprobe"):
        announce(tmp_path, 1e15, 10)
    assert "it will not fit" in caplog.text


def test_a_finished_recording_is_opened_not_made_again(
    network: RecurrentQNetwork, maze: World, whole: Recording, record_own: RecordOwn
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.path.iterdir()}
    record_own(network, maze, whole.path).close()
    assert {path: path.stat().st_mtime_ns for path in whole.path.iterdir()} == before


def test_another_config_is_refused_by_name(network: RecurrentQNetwork, maze: World, whole: Recording, record_own: RecordOwn) -> None:
    with pytest.raises(RecordingError, match=r"another recording \(behaviour\.epsilon: 0\.2, now 0\.5\)"):
        record(network, maze, whole.path, EpsilonGreedy(network, 0.5), 24, 9, ("core.h", "core.c", "q"), n_envs=4, episodes_per_shard=8)
    other = make_network(maze, NetworkConfig(hidden_size=8), seed=1)
    with pytest.raises(RecordingError, match=r"agent\.checkpoint: "):
        record_own(other, maze, whole.path)
    with pytest.raises(RecordingError, match=r"world\.parameters"):
        record_own(network, TMaze(length=3, stochasticity=0.1), whole.path)


def test_an_unfinished_recording_of_other_versions_is_refused(
    network: RecurrentQNetwork, maze: World, whole: Recording, record_own: RecordOwn, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(whole.path, tmp_path / "a.wpr"))
    content = unseal(json.loads((path / "recording.json").read_text()))
    content["environment"]["versions"]["torch"] = "1.0"
    (path / "recording.json").write_text(json.dumps(seal(content)))
    record_own(network, maze, path).close()  # nothing is missing
    content["shards"] = content["shards"][:-1]
    (path / "recording.json").write_text(json.dumps(seal(content)))
    with pytest.raises(RecordingError, match=r"begun elsewhere \(versions\.torch: \"1\.0\""):
        record_own(network, maze, path)


def test_a_full_disk_is_an_error_that_keeps_what_is_finished(
    network: RecurrentQNetwork,
    maze: World,
    whole: Recording,
    record_own: RecordOwn,
    assert_same: Same,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, calls = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise OSError(28, "No space left on device")
        original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordingError, match=r"cannot write .* No space left on device; finished shards are kept"):
        record_own(network, maze, tmp_path / "a.wpr")
    monkeypatch.undo()
    with open_recording(tmp_path / "a.wpr") as torn:
        assert 0 < torn.n_episodes < 24
    assert_same(record_own(network, maze, tmp_path / "a.wpr"), whole)
