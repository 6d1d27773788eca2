"""Which modules a list of sites means, and what their outputs are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from worldprobe.activations._recurrent import gated_sites, is_gated

Predicate = Callable[[str, nn.Module], bool]
"""Says of a module, by its dotted name and itself, whether to record all of its sites."""

SiteSelection = Sequence[str | Predicate] | Mapping[str, str]
"""Dotted names, globs and predicates; or a mapping from the names to record under to the names of single sites."""

ROOT = "self"
"""The name of the module itself, among its parts."""


class Selection:
    """A list of sites, asked about modules and about sites."""

    def __init__(self, sites: SiteSelection) -> None:
        wanted = list(sites.values()) if isinstance(sites, Mapping) else [sites] if isinstance(sites, str) else list(sites)
        if not wanted:
            raise ValueError("expected at least one site: a dotted name ('core.lstm'), a glob ('encoder.*') or a predicate (name, module)")
        self.patterns = [site for site in wanted if isinstance(site, str)]
        self.predicates = [site for site in wanted if not isinstance(site, str)]

    def has(self, name: str, module: nn.Module) -> bool:
        """Return whether all of a module's sites are wanted."""
        return bool(self.means(name)) or self.has_by_predicate(name, module)

    def has_by_predicate(self, name: str, module: nn.Module) -> bool:
        """Return whether a predicate holds for a module."""
        return any(wants(name, module) for wants in self.predicates)

    def has_some(self, name: str, module: nn.Module) -> bool:
        """Return whether it is known, before a module is called, that one of its sites is wanted."""
        leaves = gated_sites(module) if is_gated(module) else []
        return self.has(name, module) or bool(self.means(*(f"{name}.{leaf}" for leaf in leaves)))

    def reaches(self, name: str) -> bool:
        """Return whether some pattern may mean a site inside a module: 'cell.tick2.h' reaches into 'cell'."""
        beginnings = [pattern.split(".")[:count] for pattern in self.patterns for count in range(1, pattern.count(".") + 1)]
        return any(fnmatchcase(name, ".".join(words)) for words in beginnings)

    def means(self, *names: str) -> set[str]:
        """Return the patterns that match one of the names of a site."""
        return {pattern for pattern in self.patterns if any(fnmatchcase(name, pattern) for name in names)}


def find_modules(root: nn.Module, selection: Selection) -> dict[str, nn.Module]:
    """Return the modules that a selection has or reaches by name, each once, though it may have several names.

    Raises
    ------
    KeyError
        If a pattern or the predicates mean no module; the message lists those there are.
    ValueError
        If a named module is a mere list of modules, which is never called.
    """
    modules = {name or ROOT: module for name, module in root.named_modules(remove_duplicate=False)}
    called = {name: module for name, module in modules.items() if type(module).forward is not nn.Module.forward}
    for pattern in selection.patterns:
        if pattern in modules.keys() - called.keys():
            parts = ", ".join(repr(name) for name in called if name.startswith(f"{pattern}."))
            raise ValueError(f"{pattern!r} is a {type(modules[pattern]).__name__}, which is never called itself; it holds {parts}")
        if not _chosen(called, Selection([pattern])):
            raise KeyError(f"no module is called {pattern!r}; there are {', '.join(called)}")
    found = _chosen(called, selection)
    if not found:
        raise KeyError(f"the predicates hold for no module; there are {', '.join(called)}")
    return found


def _chosen(modules: Mapping[str, nn.Module], selection: Selection) -> dict[str, nn.Module]:
    """Return the chosen modules, under the first of their names that is meant."""
    found: dict[int, tuple[str, nn.Module]] = {}
    for name, module in modules.items():
        if id(module) not in found and (selection.has(name, module) or selection.reaches(name)):
            found[id(module)] = (name, module)
    return dict(found.values())


def tensors_in(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a module's output with its name: nothing for a tensor alone; fields, keys or numbers for what holds several.

    Raises
    ------
    ValueError
        If the output is a packed sequence.
    """
    match output:
        case Tensor():
            yield name, output
            return
        case PackedSequence():
            raise ValueError("returned a packed sequence, whose rows are no steps of one batch: pad it")
        case Mapping():
            entries = [(".".join(key) if isinstance(key, tuple) else str(key), value) for key, value in output.items()]
        case tuple() | list():
            entries = list(zip(getattr(output, "_fields", map(str, range(len(output)))), output, strict=True))
        case _ if is_dataclass(output):
            entries = [(field.name, getattr(output, field.name)) for field in fields(output)]
        case _:
            return
    for key, value in entries:
        yield from tensors_in(value, f"{name}.{key}" if name else key)
