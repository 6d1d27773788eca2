"""Fitted probes as files: numbers in safetensors, everything else as JSON in its header, and nothing that is run when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._criteria import Heads, Units
from worldprobe.probes._labels import Classes
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._mlp import MLPProbe
from worldprobe.probes._network import Network
from worldprobe.probes._random_features import RandomFeatures
from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._standardise import Standardiser

Probe = RidgeProbe | LogisticProbe | MLPProbe | RandomFeatures

PROBES: dict[str, type[Probe]] = {kind.__name__: kind for kind in (RidgeProbe, LogisticProbe, MLPProbe, RandomFeatures)}
"""What a file may hold."""

PARTS: dict[str, Any] = {kind.__name__: kind for kind in (Standardiser, Classes, Heads, Units, Network)}
"""What those may be made of."""

FORMAT = "worldprobe probe 2"

LONGEST_NAME = 10_000
"""Letters of a class or feature name."""


def save_probe(probe: Probe, path: str | Path) -> None:
    """Write a fitted probe to one safetensors file.

    Parameters
    ----------
    probe : RidgeProbe, LogisticProbe, MLPProbe or RandomFeatures
        Fitted.
    path : str or Path
        The file, by custom `name.safetensors`.

    Raises
    ------
    NotFittedError
        If the probe has learned nothing.
    TypeError
        If it is no probe of this package, or a parameter is of a kind that no JSON holds (a generator, say).

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from worldprobe.probes import RidgeProbe, load_probe, save_probe
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> probe = RidgeProbe(alphas=(1e-3,)).fit(X, X[:, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_probe(probe, f"{folder}/position.safetensors")
    ...     bool((load_probe(f"{folder}/position.safetensors").predict(X) == probe.predict(X)).all())
    True
    """
    if type(probe) not in PROBES.values():
        raise TypeError(f"only {', '.join(PROBES)} can be saved; got {type(probe).__name__}")
    check_is_fitted(probe)
    arrays: dict[str, NDArray[Any]] = {}
    content = {name: _encode(value, arrays, name) for name, value in vars(probe).items()}
    header = {"format": FORMAT, "probe": type(probe).__name__, "content": json.dumps(content, allow_nan=False)}
    header["seal"] = _seal(header, arrays)
    save_file(arrays, path, metadata=header)


def load_probe(path: str | Path) -> Any:
    """Return the probe that `save_probe` wrote; it predicts the same bits.

    Raises
    ------
    ValueError
        If the file is not whole, holds no probe, or its header says what this version does not know.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from error
    if header.get("format") != FORMAT or header.get("probe") not in PROBES:
        raise ValueError(f"{path} holds no probe of this format: expected {FORMAT!r}, got {header.get('format')!r}")
    if header.get("seal") != _seal(header, arrays):
        raise ValueError(f"{path} is damaged: its content does not have the SHA-256 that it had when saved; fit and save the probe again")
    probe = PROBES[header["probe"]]()
    try:
        content = {name: _decode(value, arrays) for name, value in json.loads(header["content"]).items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged, or of another version: its header says what this version does not know ({type(error).__name__}: {error}); "
            "fit and save the probe again"
        ) from error
    missing = sorted(probe.get_params(deep=False).keys() - content.keys())
    if missing:
        raise ValueError(f"{path} is damaged: the {header['probe']} in it lacks {', '.join(missing)}; fit and save the probe again")
    for name, value in content.items():
        setattr(probe, name, value)
    return probe


def _seal(header: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of all that a file holds."""
    digest = hashlib.sha256("\n".join(header.get(name, "") for name in ("format", "probe", "content")).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _encode(value: Any, arrays: dict[str, NDArray[Any]], name: str) -> Any:
    """Return a value as JSON; numeric arrays go to `arrays` under `name`."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        return {"kind": "names", "dtype": value.dtype.str, "items": value.tolist()}
    if isinstance(value, (np.ndarray, torch.Tensor)):
        arrays[name] = np.ascontiguousarray(value)
        return {"kind": "tensor" if isinstance(value, torch.Tensor) else "array", "key": name}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, arrays, f"{name}.{place}") for place, item in enumerate(value)]
        return {"kind": type(value).__name__, "items": items}
    if is_dataclass(value) and type(value).__name__ in PARTS:
        parts = {field.name: _encode(getattr(value, field.name), arrays, f"{name}.{field.name}") for field in fields(value)}
        return {"kind": "part", "type": type(value).__name__, "fields": parts}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a file of numbers and JSON cannot hold")


def _decode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return what `_encode` was given."""
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind == "names":
        return _names(value["items"], np.dtype(value["dtype"]))
    if kind in ("array", "tensor"):
        return arrays[value["key"]] if kind == "array" else torch.from_numpy(arrays[value["key"]].copy())
    if kind == "part":
        return PARTS[value["type"]](**{name: _decode(part, arrays) for name, part in value["fields"].items()})
    items = [_decode(item, arrays) for item in value["items"]]
    return tuple(items) if kind == "tuple" else items


def _names(items: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return names as an array of a type that a file may ask for."""
    if dtype.kind not in "UO" or dtype.itemsize > 4 * LONGEST_NAME:
        raise ValueError(f"names must be of type str or object; got {dtype}")
    return np.array(items, dtype=dtype)
