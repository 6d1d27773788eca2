"""A recording is untrusted: whatever is wrong with it is one RecordingError that names the file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worldprobe.activations import CommonBehaviour, Recording, RecordingError, open_recording, record
from worldprobe.agents import seal
from worldprobe.worlds import World


@pytest.fixture
def copied(common: Recording, tmp_path: Path) -> Path:
    return Path(shutil.copytree(common.path, tmp_path / "copy.wpr"))


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and seal it again."""
    content = json.loads((path / "recording.json").read_text())
    change(content)
    (path / "recording.json").write_text(json.dumps(seal({name: value for name, value in content.items() if name != "seal"})))


def edit_shard(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a shard and make size and checksum in the manifest agree: what a forger would do."""
    shard = path / "shard-00001.h5"
    with h5py.File(shard, "r+", libver="latest") as file:
        change(file)

    def agree(content: dict[str, Any]) -> None:
        content["shards"][1] |= {"size": shard.stat().st_size, "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}

    edit_manifest(path, agree)


def read_all(path: Path) -> None:
    with open_recording(path) as recording:
        for key in recording:
            recording[key][:]


def replace_observation(file: h5py.File, **how: Any) -> None:
    values = file["observation"][:]
    del file["observation"]
    file.create_dataset("observation", **{"data": values, "chunks": values.shape, "fletcher32": True, **how})


def make_virtual(file: h5py.File) -> None:
    shape = file["observation"].shape
    del file["observation"]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "observation", shape)
    file.create_virtual_dataset("observation", layout)


def make_external(file: h5py.File) -> None:
    shape = file["observation"].shape
    del file["observation"]
    file.create_dataset("observation", shape, "float32", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def make_hollow(file: h5py.File) -> None:
    shape = file["observation"].shape
    del file["observation"]
    file.create_dataset("observation", shape, "float32", chunks=(1, 4), fletcher32=True)


def link(file: h5py.File, to: h5py.ExternalLink | h5py.SoftLink) -> None:
    del file["observation"]
    file["observation"] = to


SHARD_DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "external link": (lambda f: link(f, h5py.ExternalLink("/etc/hostname", "/x")), "'observation' is a link"),
    "soft link": (lambda f: link(f, h5py.SoftLink("/reward")), "'observation' is a link"),
    "a link beside the arrays": (lambda f: f.__setitem__("more", h5py.ExternalLink("/etc/hostname", "/x")), "'more' is a link"),
    "virtual dataset": (make_virtual, "neither virtual nor external"),
    "external storage": (make_external, "neither virtual nor external"),
    "fill values only": (make_hollow, "not all there"),
    "object dataset": (lambda f: replace_observation(f, data=["x"], chunks=(1,), dtype=h5py.string_dtype(), fletcher32=False), "is object"),
    "another dtype": (lambda f: replace_observation(f, dtype="float64"), "is float64"),
    "another shape": (lambda f: replace_observation(f, data=np.zeros((2, 4), np.float32), chunks=(2, 4)), r"expected float32 \("),
    "a compression bomb": (lambda f: replace_observation(f, compression="gzip"), "one filter fletcher32"),
    "no checksums": (lambda f: replace_observation(f, fletcher32=False), "one filter fletcher32"),
    "a missing array": (lambda f: f.__delitem__("reward"), "'reward' is missing"),
    "a group in its place": (lambda f: (f.__delitem__("reward"), f.create_group("reward"))[0], "'reward' is missing"),
    "another recording's": (lambda f: f.attrs.__setitem__("fingerprint", "0" * 64), "another recording"),
    "another shard": (lambda f: f.attrs.__setitem__("shard", 0), "attribute shard = 1, got '0'"),
    "an array as attribute": (lambda f: f.attrs.__setitem__("version", [1, 1]), "attribute version"),
    "no attributes": (lambda f: f.attrs.__delitem__("format"), "attribute format"),
}  # fmt: skip


@pytest.mark.parametrize("damage", SHARD_DAMAGE)
def test_a_forged_shard_is_refused_when_it_is_first_read(copied: Path, damage: str) -> None:
    change, message = SHARD_DAMAGE[damage]
    edit_shard(copied, change)
    with pytest.raises(RecordingError, match=message) as caught:
        read_all(copied)
    assert "shard-00001.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


MANIFEST_DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "foreign": (lambda m: m.update(format="something"), "not the manifest of a recording"),
    "newer": (lambda m: m.update(version=3), "version 3; this worldprobe reads versions 1 and 2"),
    "a truth value as version": (lambda m: m.update(version=True), "version True"),
    "a missing field": (lambda m: m.pop("environment"), r"missing \['environment'\]"),
    "an unknown field": (lambda m: m.update(extra=1), r"unknown \['extra'\]"),
    "a changed identity": (lambda m: m["identity"].update(seed=7), "changed by hand"),
    "a negative seed": (lambda m: m["identity"].update(seed=-1), "'seed' must be an integer >= 0; got '-1'"),
    "fractions that do not add up": (lambda m: m["identity"].update(splits=[0.5, 0.2, 0.2]), "sum to 1"),
    "text for a number": (lambda m: m["identity"].update(n_envs="16"), "'n_envs' must be an integer"),
    "a path out of the directory": (lambda m: m["shards"][0].update(file="../shard-00000.h5"), "expected shard-00000.h5"),
    "an absurd shape": (lambda m: m["arrays"]["reward"].update(shape=[10**30]), "'shape' must be"),
    "an object dtype": (lambda m: m["arrays"]["reward"].update(dtype="object"), "'dtype' must be one of"),
    "a key that is none": (lambda m: m["arrays"].update({"x y": m["arrays"]["reward"]}), "arrays must map keys"),
    "shards out of order": (lambda m: m["shards"].reverse(), "in order"),
    "a shard twice": (lambda m: m["shards"].append(m["shards"][-1]), "in order"),
    "more episodes than steps": (lambda m: m["shards"][0].update(n_steps=1), "cannot have 1 steps"),
    "arrays without shards": (lambda m: m.update(shards=[]), "if and only if"),
    "a list for a shard": (lambda m: m.update(shards=[[]]), "every shard must be an object"),
    "absurd nesting": (lambda m: m["environment"].update(deep=json.loads("[" * 40 + "]" * 40)), "nested more than 32 levels"),
    "a promise to fill the memory": (lambda m: m["arrays"]["reward"].update(shape=[2**40]), "made to fill the memory"),
    "rows along another axis": (lambda m: m["arrays"]["reward"].update(along="episode"), "must be along 'step'"),
    "a precision of its own": (lambda m: m["arrays"]["reward"].update(stored="bfloat16"), "stored as float32"),
    "no episode table": (lambda m: m["arrays"].pop("episode/length"), "every recording has 'episode/length'"),
    "a world without actions": (lambda m: m["identity"]["world"].pop("actions"), "'world' must be an object with a name, actions"),
    "a loss that is text": (lambda m: m["shards"][0].update(loss={"site/h": "none"}), "'loss' must be an object of errors"),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_a_wrong_manifest_is_refused_on_opening(copied: Path, damage: str) -> None:
    change, message = MANIFEST_DAMAGE[damage]
    edit_manifest(copied, change)
    with pytest.raises(RecordingError, match=message) as caught:
        open_recording(copied)
    assert "recording.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_was_changed_is_refused(copied: Path) -> None:
    text = (copied / "recording.json").read_text()
    (copied / "recording.json").write_text(text.replace('"threads": 1', '"threads": 2'))
    with pytest.raises(RecordingError, match="its seal is not that of its content"):
        open_recording(copied)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"null"])
def test_a_manifest_that_is_no_object_is_refused(copied: Path, content: bytes) -> None:
    (copied / "recording.json").write_bytes(content)
    with pytest.raises(RecordingError, match=r"recording\.json"):
        open_recording(copied)


def test_what_is_not_there_is_named(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="nowhere is no recording: expected a directory"):
        open_recording(tmp_path / "nowhere")
    (copied / "shard-00002.h5").unlink()
    with pytest.raises(RecordingError, match=r"shard-00002\.h5 is missing"):
        open_recording(copied)


def test_a_truncated_or_foreign_shard_is_refused_on_opening(copied: Path) -> None:
    shard = copied / "shard-00000.h5"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(RecordingError, match=r"shard-00000\.h5 is damaged: .* bytes, expected"):
        open_recording(copied)
    shard.write_bytes(b"x" + content[1:])
    with pytest.raises(RecordingError, match="does not begin like an HDF5 file"):
        open_recording(copied)


def test_a_flipped_bit_in_the_data_is_found_on_reading_and_by_verify(copied: Path) -> None:
    shard = copied / "shard-00001.h5"
    with h5py.File(shard) as file:
        offset = file["site:q" if "site:q" in file else "observation"].id.get_chunk_info(0).byte_offset
    content = bytearray(shard.read_bytes())
    content[offset + 100] ^= 4
    shard.write_bytes(content)
    with open_recording(copied) as recording, pytest.raises(RecordingError, match=r"shard-00001\.h5: damaged: SHA-256"):
        recording["observation"][:]
    with open_recording(copied) as recording, pytest.raises(RecordingError, match="SHA-256"):
        recording.verify()


def test_bits_flipped_anywhere_never_give_other_numbers(copied: Path, common: Recording) -> None:
    """Forty random flips in a shard: an error, or the numbers that were written."""
    shard = copied / "shard-00001.h5"
    content, rng = shard.read_bytes(), np.random.default_rng(0)
    expected, caught = {key: common[key][:] for key in ("observation", "reward", "t")}, 0
    for where, bit in zip(rng.integers(8, len(content), 40), rng.integers(0, 8, 40), strict=True):
        damaged = bytearray(content)
        damaged[where] ^= 1 << int(bit)
        shard.write_bytes(damaged)
        try:
            with open_recording(copied) as recording:
                for key, values in expected.items():
                    np.testing.assert_array_equal(recording[key][:], values)
        except RecordingError:
            caught += 1
        with open_recording(copied) as recording, pytest.raises(RecordingError, match="SHA-256"):
            recording.verify()
    assert caught > 0


def test_record_refuses_a_directory_of_something_else(tmp_path: Path, maze: World) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecordingError, match="is no recording: choose another path"):
        record(None, maze, tmp_path, CommonBehaviour(maze), 4, 0)
    assert (tmp_path / "notes.txt").read_text() == "mine"
