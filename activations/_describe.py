"""What a world, an agent or a behaviour is, as JSON: the identity of a recording is made of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldprobe.activations._manifest import canonical_json
from worldprobe.agents import Agent
from worldprobe.worlds import World

PACKAGES = ("worldprobe", "torch", "numpy", "h5py")


def describe(value: object) -> Any:
    """Return `value` as JSON; arrays become their SHA-256, objects of other libraries their class name."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case torch.Tensor() | np.ndarray():
            return _describe_array(value)
        case Mapping():
            return {str(name): describe(entry) for name, entry in value.items()}
        case set() | frozenset():
            return sorted((describe(entry) for entry in value), key=canonical_json)
        case list() | tuple():
            return [describe(entry) for entry in value]
        case torch.dtype():
            return str(value)
        case torch.Generator():
            return {"seed": value.initial_seed()}
        case nn.Module():
            return {"class": _class_name(value), "sha256": checkpoint_hash(value)}
        case _:
            opened = _parameters(value) if _is_ours(value) else {}
            return {"class": _class_name(value), **{name: describe(entry) for name, entry in opened.items()}}


def describe_world(world: World) -> dict[str, Any]:
    """Return the name, the parameters and the factors of a world."""
    named = {"name", "action_names", "observation_shape", "discount", "time_limit", "factors"}
    parameters = {name: describe(entry) for name, entry in _parameters(world).items() if name not in named}
    return {
        "name": world.name,
        "class": _class_name(world),
        "parameters": parameters,
        "actions": list(world.action_names),
        "observation_shape": list(world.observation_shape),
        "discount": world.discount,
        "time_limit": world.time_limit,
        "factors": [describe(factor) for factor in world.factors],
    }


def describe_agent(agent: Agent) -> dict[str, Any]:
    """Return the name, the hash of the parameters, the configuration and the inputs of an agent."""
    return {
        "name": agent.name,
        "class": _class_name(agent),
        "checkpoint": checkpoint_hash(agent),
        "config": describe(getattr(agent, "config", None)),
        "channels": sorted(agent.channels),
        "n_actions": agent.n_actions,
        "input_size": agent.input_size,
        "state_size": agent.state_size,
    }


def checkpoint_hash(agent: object) -> str:
    """Return the SHA-256 of an agent's parameters and buffers (of its plain attributes if it is no module)."""
    plain = (bool, int, float, str, tuple, frozenset, Mapping, Tensor, np.ndarray, torch.Generator)
    held = agent.state_dict() if isinstance(agent, nn.Module) else {name: v for name, v in vars(agent).items() if isinstance(v, plain)}
    text = canonical_json({"class": _class_name(agent), "holds": describe(held)})
    return hashlib.sha256(text.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide the last bits of a number.

    Examples
    --------
    >>> from worldprobe.activations import package_versions
    >>> sorted(package_versions())
    ['h5py', 'numpy', 'torch', 'worldprobe']
    """
    return {package: metadata.version(package) for package in PACKAGES}


def environment() -> dict[str, Any]:
    """Return package versions and the number of torch threads, without which equal identities may differ in their last bits."""
    return {"versions": package_versions(), "threads": torch.get_num_threads()}


def _is_ours(value: object) -> bool:
    """Return whether the public attributes of an object are its parameters, and not the inside of another library."""
    return (
        isinstance(value, World)
        or type(value).__module__.startswith("worldprobe.")
        or (is_dataclass(value) and not isinstance(value, type))
    )


def _parameters(value: object) -> dict[str, object]:
    """Return the fields of a dataclass, or the public attributes of an object without what it cached."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    cached = {name for name in dir(type(value)) if isinstance(getattr(type(value), name, None), cached_property)}
    return {name: entry for name, entry in vars(value).items() if not name.startswith("_") and name not in cached}


def _describe_array(value: Tensor | np.ndarray[Any, Any]) -> dict[str, Any]:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}


def _class_name(value: object) -> str:
    """Return the class of an object, or the name of a function or class."""
    named = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
