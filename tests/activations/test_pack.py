"""Recordings as files to move about: packed into one, joined from several, with loss and size stated."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldprobe.__main__ import main
from worldprobe.activations import (
    EpsilonGreedy,
    Recording,
    RecordingError,
    describe_recording,
    merge_recordings,
    open_recording,
    pack_recording,
    record,
)
from worldprobe.activations._storage import from_stored, to_stored
from worldprobe.agents import RecurrentQNetwork
from worldprobe.worlds import World

Same = Callable[[Recording, Recording], None]


def stored(network: RecurrentQNetwork, maze: World, path: Path, **how: Any) -> Recording:
    behaviour, sites = EpsilonGreedy(network, 0.2), ("core.h", "core.c", "q")
    return record(network, maze, path, behaviour, 24, 9, sites, n_envs=4, episodes_per_shard=8, **how)


# --- one file -----------------------------------------------------------------------------------------------------


def test_a_packed_recording_is_the_recording(whole: Recording, assert_same: Same, tmp_path: Path) -> None:
    with pack_recording(whole.path, tmp_path / "a.zip") as packed:
        packed.verify()
        assert_same(packed, whole)
        np.testing.assert_array_equal(packed["core.h"][packed.split("test")], whole["core.h"][whole.split("test")])
    first = (tmp_path / "a.zip").read_bytes()
    pack_recording(tmp_path / "a.zip", tmp_path / "b.zip").close()
    assert first == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "a.wpr")
    with open_recording(tmp_path / "a.wpr") as unpacked:
        assert_same(unpacked, whole)
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_shard_is_not_packed(whole: Recording, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole.path, tmp_path / "a.wpr"))
    content = bytearray((path / "shard-00001.h5").read_bytes())
    content[-1] ^= 1
    (path / "shard-00001.h5").write_bytes(content)
    with pytest.raises(RecordingError, match=r"shard-00001\.h5 is damaged: SHA-256"):
        pack_recording(path, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_archives_of_another_kind_are_refused(whole: Recording, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(whole.path / "recording.json", "recording.json")
    with pytest.raises(RecordingError, match="not stored as it is"):
        open_recording(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("notes.txt", "mine")
    with pytest.raises(RecordingError, match=r"that holds recording\.json"):
        open_recording(tmp_path / "b.zip")


# --- several directories ------------------------------------------------------------------------------------------


def test_directories_of_parts_are_joined(
    network: RecurrentQNetwork, maze: World, whole: Recording, assert_same: Same, tmp_path: Path
) -> None:
    for index in range(2):
        stored(network, maze, tmp_path / f"{index}.wpr", part=(index, 2)).close()
    with merge_recordings([tmp_path / "0.wpr", tmp_path / "1.wpr"], tmp_path / "all.wpr") as joined:
        joined.verify()
        assert_same(joined, whole)
    assert sorted(path.name for path in (tmp_path / "all.wpr").glob("*.json")) == ["recording.json"]
    for path in tmp_path.glob("?.wpr"):
        assert len(list(path.glob("shard-*.h5"))) < 3  # sources are left alone


def test_parts_in_one_directory_are_folded(
    network: RecurrentQNetwork, maze: World, whole: Recording, assert_same: Same, tmp_path: Path
) -> None:
    for index in range(2):
        stored(network, maze, tmp_path / "a.wpr", part=(index, 2)).close()
    main(["merge", str(tmp_path / "a.wpr")])
    assert [path.name for path in (tmp_path / "a.wpr").glob("*.json")] == ["recording.json"]
    with open_recording(tmp_path / "a.wpr") as folded:
        assert_same(folded, whole)


def test_strangers_are_not_joined(network: RecurrentQNetwork, maze: World, whole: Recording, common: Recording, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"is of another recording than .* \(agent: "):
        merge_recordings([whole.path, common.path], tmp_path / "all.wpr")
    assert not (tmp_path / "all.wpr").exists()


# --- precision and compression ------------------------------------------------------------------------------------

LARGEST_RELATIVE_ERROR = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half a unit in the last place of 11 and of 8 significant bits."""


@pytest.mark.parametrize("precision", LARGEST_RELATIVE_ERROR)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_half_precision_rounds_sites_and_nothing_else(
    network: RecurrentQNetwork, maze: World, whole: Recording, tmp_path: Path, precision: str, compression: str
) -> None:
    with stored(network, maze, tmp_path / "a.wpr", precision=precision, compression=compression) as half:
        for key in whole:
            exact, kept = whole[key][:], half[key][:]
            assert kept.dtype == exact.dtype
            if not key.startswith("site/"):
                np.testing.assert_array_equal(kept, exact)
                continue
            assert (kept != exact).any()
            np.testing.assert_allclose(kept, exact, rtol=LARGEST_RELATIVE_ERROR[precision], atol=2.0**-25)
            stated = max(entry.loss[key]["max"] for entry in half.manifest.shards)
            assert stated == np.abs(kept.astype(float) - exact).max()
        assert f"stored as {precision}: error at most" in describe_recording(half)
        assert half.identity.fingerprint != whole.identity.fingerprint


def test_compression_changes_the_files_and_no_array(
    network: RecurrentQNetwork, maze: World, whole: Recording, assert_same: Same, tmp_path: Path
) -> None:
    with stored(network, maze, tmp_path / "a.wpr", compression="zstd") as small:
        assert_same(small, whole)
        assert small.identity == whole.identity
        assert sum(entry.size for entry in small.manifest.shards) < sum(entry.size for entry in whole.manifest.shards)


def test_bfloat16_is_the_nearest_upper_half_of_a_float32() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=10_000) * 10.0 ** rng.integers(-20, 20, 10_000)).astype(np.float32)
    below = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    above = ((values.view(np.uint32) >> 16) + 1 << 16).astype(np.uint32).view(np.float32)
    nearest = np.where(np.abs(values - below) < np.abs(above - values), below, above)
    np.testing.assert_array_equal(from_stored(to_stored(values, "bfloat16", "site/h"), "float32", "bfloat16"), nearest)
    tie = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32)  # half-way: to the even neighbour
    np.testing.assert_array_equal(from_stored(to_stored(tie, "bfloat16", "site/h"), "float32", "bfloat16"), [1.0, 1 + 2.0**-6])


@pytest.mark.parametrize(("precision", "value"), [("float16", 70_000.0), ("bfloat16", 3.4e38)])
def test_what_does_not_fit_a_precision_is_refused(precision: str, value: float) -> None:
    with pytest.raises(RecordingError, match=f"beyond {precision}: record it with a higher precision"):
        to_stored(np.array([value], np.float32), precision, "site/h")


def test_unknown_precisions_and_compressions_are_refused(network: RecurrentQNetwork, maze: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown precision 'float8'; expected one of float32, float16, bfloat16"):
        stored(network, maze, tmp_path / "a.wpr", precision="float8")
    with pytest.raises(ValueError, match="unknown compression 'rar'; expected one of none, zstd"):
        stored(network, maze, tmp_path / "a.wpr", compression="rar")
    assert not (tmp_path / "a.wpr").exists()


# --- the command line ---------------------------------------------------------------------------------------------


def test_info_verify_and_pack(whole: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", str(whole.path)])
    shown = capsys.readouterr().out
    assert "site/core.h" in shown
    assert "3 of 3 shards" in shown
    assert "seed 9" in shown
    main(["pack", str(whole.path), "--output", str(tmp_path / "a.zip")])
    main(["verify", str(tmp_path / "a.zip")])
    assert "3 shards of" in capsys.readouterr().out
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SystemExit):
        main(["verify", str(tmp_path / "a.zip")])
    assert "damaged" in capsys.readouterr().err


def test_record_does_not_touch_what_was_begun_if_asked_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recordings" / "own.wpr").mkdir(parents=True)
    with pytest.raises(SystemExit):
        main(["record", str(tmp_path), "--no-resume"])
    assert "own.wpr was begun: go on with --resume" in capsys.readouterr().err


def test_every_block_is_verified(whole: Recording, tmp_path: Path) -> None:
    """A block that its own checksum gives away is found although the manifest was made to agree with the file."""
    from worldprobe.agents import seal, unseal

    path = Path(shutil.copytree(whole.path, tmp_path / "a.wpr"))
    content = bytearray((path / "shard-00000.h5").read_bytes())
    at = bytes(content).find(whole["core.h"][:4].tobytes())
    content[at] ^= 1
    (path / "shard-00000.h5").write_bytes(content)
    manifest = unseal(json.loads((path / "recording.json").read_text()))
    manifest["shards"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    (path / "recording.json").write_text(json.dumps(seal(manifest)))
    with open_recording(path) as forged, pytest.raises(RecordingError, match=r"shard-00000\.h5 is damaged"):
        forged.verify()
