from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError

from worldprobe.probes import LogisticProbe, MLPProbe, RandomFeatures, RidgeProbe, _storage, load_probe, save_probe

Plant = Callable[..., SimpleNamespace]
NAMES = np.array(["up", "down", "left"])


def answers(probe: Any, X: Any) -> list[NDArray[Any]]:
    """All that a probe says of X."""
    found = []
    for question in ("predict", "predict_proba", "transform", "clipped_mass"):
        if hasattr(probe, question):
            answer = getattr(probe, question)(X)
            found += answer if isinstance(answer, list) else [answer]
    return found


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize(
    "probe",
    [
        RidgeProbe(blocks=(2, 4)),
        RidgeProbe(alphas=np.array([1e-2, 1.0]).tolist(), precision="float32"),
        LogisticProbe(alphas=(1e-1, 1e-3)),
        MLPProbe(hidden=(8, 4), max_epochs=2),
        MLPProbe(hidden=(8,), loss="log", max_epochs=2),
        RandomFeatures(n_features=16),
    ],
    ids=str,
)
def test_a_loaded_probe_answers_the_same_bits(plant: Plant, tmp_path: Path, probe: Any, flat: bool) -> None:
    data = plant(n_groups=10, length=12)
    frame = pd.DataFrame(data.X, columns=list("abcdef"))
    Y = np.column_stack([NAMES[data.labels], NAMES[data.labels[::-1]]]) if hasattr(probe, "predict_proba") else data.Y
    target = Y[:, 0] if flat else Y
    fitted = probe.fit(frame) if isinstance(probe, RandomFeatures) else probe.fit(frame, target, groups=data.groups)
    save_probe(fitted, tmp_path / "probe.safetensors")
    loaded = load_probe(tmp_path / "probe.safetensors")
    assert type(loaded) is type(probe)
    assert loaded.get_params() == probe.get_params()
    assert list(loaded.feature_names_in_) == list("abcdef")
    for one, other in zip(answers(fitted, frame), answers(loaded, frame), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_what_is_no_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        save_probe(RidgeProbe(), tmp_path / "probe.safetensors")
    with pytest.raises(TypeError, match="only RidgeProbe, LogisticProbe, MLPProbe, RandomFeatures can be saved; got dict"):
        save_probe({}, tmp_path / "probe.safetensors")  # type: ignore[arg-type]  # the point of the test
    (tmp_path / "text.safetensors").write_text(json.dumps({"probe": "RidgeProbe"}))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_probe(tmp_path / "text.safetensors")
    save_file({"x": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no probe of this format"):
        load_probe(tmp_path / "other.safetensors")


def save_sealed(arrays: dict[str, NDArray[Any]], header: dict[str, str], path: Path) -> None:
    save_file(arrays, path, metadata=header | {"seal": _storage._seal(header, arrays)})


def test_a_file_cannot_name_what_is_to_be_run(tmp_path: Path) -> None:
    content = {"coef_": {"kind": "part", "type": "Popen", "fields": {"args": "true"}}}
    header = {"format": _storage.FORMAT, "probe": "RidgeProbe", "content": json.dumps(content)}
    save_sealed({}, header, tmp_path / "evil.safetensors")
    with pytest.raises(ValueError, match=r"its header says what this version does not know .KeyError: 'Popen'"):
        load_probe(tmp_path / "evil.safetensors")


def parts_of(value: Any) -> list[dict[str, Any]]:
    """All JSON objects within a value."""
    if isinstance(value, list):
        return [part for item in value for part in parts_of(item)]
    return [value, *(part for item in value.values() for part in parts_of(item))] if isinstance(value, dict) else []


JUNK = ["none", 7, None, [], {}, {"kind": "names", "items": ["a"], "dtype": "<U999999999"}]


@pytest.mark.parametrize("probe", [RidgeProbe(alphas=(1e-2,)), LogisticProbe(alphas=(1e-2,)), MLPProbe(hidden=(4,), max_epochs=1)], ids=str)
def test_what_is_changed_is_refused_in_words(plant: Plant, tmp_path: Path, probe: Any) -> None:
    data, path = plant(n_groups=6, length=10), tmp_path / "probe.safetensors"
    save_probe(probe.fit(data.X, NAMES[data.labels] if hasattr(probe, "predict_proba") else data.Y, groups=data.groups), path)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
    for seed in range(60):
        rng, content = np.random.default_rng(seed), json.loads(header["content"])
        parts = parts_of(content)
        part = parts[rng.integers(1, len(parts))]
        key = list(part)[rng.integers(len(part))]
        if rng.random() < 0.5:
            del part[key]
        else:
            part[key] = JUNK[rng.integers(len(JUNK))]
        changed = header | {"content": json.dumps(content)}
        save_file(arrays, path, metadata=changed)
        with pytest.raises(ValueError, match="is damaged: its content does not have the SHA-256"):
            load_probe(path)
        save_sealed(arrays, changed, path)
        try:
            load_probe(path)
        except ValueError as error:
            refusal = str(error)
            assert refusal.endswith("fit and save the probe again")  # some junk is a legal value


def test_every_flipped_byte_is_noticed(plant: Plant, tmp_path: Path) -> None:
    data, path = plant(n_groups=6, length=10), tmp_path / "probe.safetensors"
    save_probe(RidgeProbe(alphas=(1e-2,)).fit(data.X, data.Y, groups=data.groups), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged|not a whole safetensors file|holds no probe"):
            load_probe(path)
