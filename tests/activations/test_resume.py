"""A crash costs nothing but time: whatever is listed is whole, and a resumed recording is the uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from worldprobe.activations import EpsilonGreedy, Recording, RecordingError, open_recording, record
from worldprobe.activations import _files as files
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


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from worldprobe.activations import EpsilonGreedy, open_recording, record
from worldprobe.agents import NetworkConfig, make_network
from worldprobe.worlds import TMaze

torch.set_num_threads(1)
maze = TMaze(length=3)
agent = make_network(maze, NetworkConfig(hidden_size=8), seed=0)
path, delays = Path(sys.argv[1]), random.Random(0)
kills = 0
while True:
    child = os.fork()
    if not child:
        record(agent, maze, path, EpsilonGreedy(agent, 0.2), 24, 9, ("core.h", "core.c", "q"), n_envs=4, episodes_per_shard=8)
        os._exit(0)
    if kills == 6:
        break
    time.sleep(delays.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if (path / "recording.json").exists():
        open_recording(path).verify()
assert os.waitpid(child, 0)[1] == 0
print(kills)
"""


def test_kill_nine_loses_at_most_the_shard_in_the_making(whole: Recording, assert_same: Same, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "a.wpr")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == 0, killed.stderr
    with open_recording(tmp_path / "a.wpr") as recording:
        assert_same(recording, whole)


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
