from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from worldprobe.agents import (
    CheckpointError,
    NetworkConfig,
    RecurrentQNetwork,
    load_checkpoint,
    make_network,
    read_checkpoint_info,
    save_checkpoint,
    seal,
    unseal,
)
from worldprobe.agents._storage import pack_tensors, write_atomically
from worldprobe.worlds import make_world

CONFIG = NetworkConfig(core="gru", hidden_size=6, n_layers=2, encoder_sizes=(5, 4), channels=("action", "observation"))


@pytest.fixture
def network() -> RecurrentQNetwork:
    return make_network(make_world("tmaze"), CONFIG, seed=3, name="trained")


@pytest.fixture
def path(tmp_path: Path, network: RecurrentQNetwork) -> Path:
    save_checkpoint(tmp_path / "a", network, world="tmaze", step=7, seed=3, training={"x": [1]}, evaluation={"mean_return": 0.5})
    return tmp_path / "a.safetensors"


def test_a_checkpoint_says_everything_and_comes_back(path: Path, network: RecurrentQNetwork) -> None:
    loaded, info = load_checkpoint(path)
    assert loaded.name == "trained"
    assert loaded.config == CONFIG
    assert (info.world, info.step, info.seed, info.training, info.evaluation) == ("tmaze", 7, 3, {"x": [1]}, {"mean_return": 0.5})
    assert {"worldprobe", "torch"} <= info.versions.keys()
    assert info == read_checkpoint_info(path)
    before, after = network.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_name_with_a_dot_keeps_it(tmp_path: Path, network: RecurrentQNetwork) -> None:
    save_checkpoint(tmp_path / "gain-0.50", network, world="tmaze", step=0, seed=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["gain-0.50.json", "gain-0.50.safetensors"]
    assert load_checkpoint(tmp_path / "gain-0.50")[1].step == 0


def test_equal_weights_are_equal_bytes(tmp_path: Path, network: RecurrentQNetwork, path: Path) -> None:
    save_checkpoint(tmp_path / "b", network, world="tmaze", step=7, seed=3)
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def remove_weights(path: Path) -> None:
    path.unlink()


def remove_sidecar(path: Path) -> None:
    path.with_suffix(".json").unlink()


def cut_weights(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_sidecar(path: Path) -> None:
    path.with_suffix(".json").write_text(path.with_suffix(".json").read_text()[:40])


def empty_sidecar(path: Path) -> None:
    path.with_suffix(".json").write_text("[]")


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the sidecar and seal it again."""
    content = unseal(json.loads(path.with_suffix(".json").read_text()))
    change(content)
    path.with_suffix(".json").write_text(json.dumps(seal(content)))


def change_the_seed(path: Path) -> None:
    path.with_suffix(".json").write_text(path.with_suffix(".json").read_text().replace('"seed": 3', '"seed": 2'))


def forget_an_entry(path: Path) -> None:
    forge(path, lambda content: content.pop("step"))


def use_an_unknown_core(path: Path) -> None:
    forge(path, lambda content: content["network"].update(core="abacus"))


def describe_another_network(path: Path) -> None:
    forge(path, lambda content: content["network"].update(hidden_size=7))


def ask_for_a_terabyte(path: Path) -> None:
    forge(path, lambda content: content["network"].update(hidden_size=10**6))


def ask_for_less_than_nothing(path: Path) -> None:
    forge(path, lambda content: content.update(n_actions=-1))


def write_a_number_as_text(path: Path) -> None:
    forge(path, lambda content: content["network"].update(hidden_size="6"))


def nest_absurdly(path: Path) -> None:
    path.with_suffix(".json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_weights, "cannot read checkpoint file .*a.safetensors"),
        (remove_sidecar, "cannot read checkpoint file .*a.json"),
        (cut_weights, "a.safetensors is damaged"),
        (flip_a_bit, "a.safetensors is damaged"),
        (cut_sidecar, "a.json is damaged"),
        (empty_sidecar, "a.json is damaged"),
        (forget_an_entry, "a.json is damaged.*step"),
        (use_an_unknown_core, "a.json is damaged.*unknown core 'abacus'"),
        (describe_another_network, "does not hold the weights"),
        (change_the_seed, "a.json is damaged.*its seal is not that"),
        (ask_for_a_terabyte, "too small for the weights"),
        (ask_for_less_than_nothing, "a.json is damaged.*must be 1 to .*; got .*, -1"),
        (write_a_number_as_text, "a.json is damaged.*'network.hidden_size' must be int; got '6'"),
        (nest_absurdly, "a.json is damaged"),
    ],
)
def test_damage_is_named_in_one_line(path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_pickles_are_not_opened(path: Path, network: RecurrentQNetwork) -> None:
    torch.save(network.state_dict(), path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def fail(_: int) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"


def test_tensors_that_share_memory_are_kept_apart(network: RecurrentQNetwork) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    assert pack_tensors({"a": base, "b": base.T}) == pack_tensors({"a": base.clone(), "b": base.T.clone()})
