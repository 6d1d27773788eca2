"""Dataclasses from JSON that anybody may have written: every value is of the type that its field says."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Built = TypeVar("Built")
Value = TypeVar("Value")


def added(default: Value) -> Value:
    """Return a dataclass field that files written before it lack: for them it has its default, which is what they did."""
    built: Value = field(default=default, metadata={"added": True})
    return built


def from_json(cls: type[Built], values: object, at: str = "") -> Built:
    """Return the dataclass whose `asdict`, as JSON, is `values`.

    Parameters
    ----------
    cls : type
        A dataclass of numbers, texts, tuples, mappings, unions of these, and other dataclasses.
    values : object
        Decoded JSON; lists become tuples where the field is one. Fields that were `added` may be missing.
    at : str
        Where in a larger object this is, for messages.

    Raises
    ------
    ValueError
        If a field is missing, unknown, or of another type; or the dataclass itself refuses a value.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, from_json
    >>> from dataclasses import asdict
    >>> from_json(NetworkConfig, asdict(NetworkConfig(hidden_size=8))).hidden_size
    8
    >>> from_json(NetworkConfig, asdict(NetworkConfig()) | {"hidden_size": "8"})
    Traceback (most recent call last):
    ValueError: 'hidden_size' must be int; got '8'
    """
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]  # mypy cannot say "a dataclass"
    names = known.keys()
    if isinstance(values, Mapping):
        values = {name: _default(each) for name, each in known.items() if each.metadata.get("added")} | dict(values)
    if not isinstance(values, Mapping) or values.keys() != names:
        found = sorted(map(str, values.keys() ^ names)) if isinstance(values, Mapping) else type(values).__name__
        raise ValueError(f"{at or cls.__name__!r} must hold exactly the settings of {cls.__name__}; got {found} instead")
    hints = get_type_hints(cls)
    return cls(**{name: _value(hints[name], values[name], f"{at}.{name}" if at else name) for name in names})


def _default(added_field: Field[Any]) -> Any:
    """Return what a field has in files from before it, as JSON."""
    if added_field.default is not MISSING:
        return added_field.default
    assert added_field.default_factory is not MISSING
    return json.loads(json.dumps(asdict(added_field.default_factory())))


def _value(hint: Any, value: Any, at: str) -> Any:
    """Return a value as its field holds it."""
    if isinstance(hint, type) and is_dataclass(hint):
        return from_json(hint, value, at)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list | tuple) and inner[-1] is Ellipsis:
        return tuple(_value(inner[0], entry, at) for entry in value)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(inner):
        return tuple(_value(kind, entry, at) for kind, entry in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {name: _value(inner[1], entry, f"{at}.{name}") for name, entry in value.items()}
    if origin in (Union, types.UnionType):
        return _first(inner, value, at)
    if hint is Any or (origin is Literal and value in inner) or _is_plain(hint, value):
        return value
    raise ValueError(f"{at!r} must be {getattr(hint, '__name__', hint)}; got {str(value)[:60]!r}")


def _first(hints: tuple[Any, ...], value: Any, at: str) -> Any:
    """Return the value as the first of some types that it fits; of several dataclasses, as the one whose settings it has."""
    classes = [hint for hint in hints if isinstance(hint, type) and is_dataclass(hint)]
    if len(classes) > 1 and isinstance(value, Mapping):
        return from_json(min(classes, key=lambda each: len(value.keys() ^ {field.name for field in fields(each)})), value, at)
    for hint in hints:
        try:
            return _value(hint, value, at)
        except ValueError:
            continue
    raise ValueError(f"{at!r} must be one of {', '.join(getattr(hint, '__name__', str(hint)) for hint in hints)}; got {str(value)[:60]!r}")


def _is_plain(hint: Any, value: Any) -> bool:
    """Return whether a value is a number or a text of a type; truth values are no numbers, integers are floats."""
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return hint in (bool, int, str, type(None)) and type(value) is hint
