"""Fitted probes as files: numbers in safetensors, everything else as JSON in its header, and nothing that is run when it is read."""

from __future__ import annotations

import json
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
from worldprobe.probes._network import NetworkStack
from worldprobe.probes._random_features import RandomFeatures
from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._standardise import Standardiser

Probe = RidgeProbe | LogisticProbe | MLPProbe | RandomFeatures

PROBES: dict[str, type[Probe]] = {kind.__name__: kind for kind in (RidgeProbe, LogisticProbe, MLPProbe, RandomFeatures)}
"""What a file may hold."""

PARTS: dict[str, Any] = {kind.__name__: kind for kind in (Standardiser, Classes, Heads, Units, NetworkStack)}
"""What those may be made of."""

FORMAT = "worldprobe probe 1"


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
    save_file(arrays, path, metadata=header)


def load_probe(path: str | Path) -> Any:
    """Return the probe that `save_probe` wrote; it predicts the same bits.

    Raises
    ------
    ValueError
        If the file is not whole, or holds no probe.
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
    probe = PROBES[header["probe"]]()
    for name, value in json.loads(header["content"]).items():
        setattr(probe, name, _decode(value, arrays))
    return probe


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
        return np.array(value["items"], dtype=value["dtype"])
    if kind in ("array", "tensor"):
        return arrays[value["key"]] if kind == "array" else torch.from_numpy(arrays[value["key"]].copy())
    if kind == "part":
        return PARTS[value["type"]](**{name: _decode(part, arrays) for name, part in value["fields"].items()})
    items = [_decode(item, arrays) for item in value["items"]]
    return tuple(items) if kind == "tuple" else items
