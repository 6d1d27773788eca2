"""Hooks on any torch module: what its parts return, and what recurrent parts hold, while it is used as ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from worldprobe.activations._sites import Selection, SiteSelection, find_modules
from worldprobe.activations._watched import Call, SiteError, Watched


@dataclass(frozen=True)
class _Site:
    """Where a site is found: in one call of a step of one module."""

    watched: Watched
    tick: str
    leaf: str

    @property
    def name(self) -> str:
        return f"{self.tick}.{self.leaf}" if self.leaf else self.tick

    @property
    def untimed(self) -> str:
        """Its name without the tick."""
        return f"{self.watched.name}.{self.leaf}" if self.leaf else self.watched.name


class Recorder:
    """Reads what the parts of a torch module return and hold while it is used as ever; what it computes stays the same, bit for bit.

    Between two calls of `take` lies one *step*. Every tensor that a chosen part returns is one site, named after it: `encoder`;
    `core.0`, `core.1` of a tuple, `core.mean` of a dict or named tuple. Of an LSTM or GRU (whole-sequence modules and cells) the sites
    are `core.h`, `core.c` and `core.gates.forget` ..., with several layers `core.0.h`, `core.1.gates.forget`, ... and `core.h` of
    all layers next to each other; what the fused kernel hides is recomputed and must reproduce what it shows. A part that is
    called several times a step has one site per tick: `cell.tick0.h`, `cell.tick1.h`.

    Parameters
    ----------
    module : Module
        Whatever holds the parts; it need not be called itself.
    sites : sequence of str and callable, or mapping of str to str
        Which parts: dotted names ("core.lstm"; "self" is the module itself), single sites ("core.lstm.c"), globs, where * also matches
        dots ("encoder.*", "*.gates.forget"), and predicates `(name, module) -> bool`. Or a mapping {"core.h": "core.lstm.h"} from
        names to record under to single sites.
    one_step : bool
        Refuse calls of whole-sequence modules on more than one time step, and drop their time axis.

    Raises
    ------
    KeyError
        If a name, glob or predicate reaches no part.
    ValueError
        If a chosen part has no state per step (bidirectional, packed sequences, dropout between layers), or hooks would switch off
        the inference fast path of a transformer layer, whose last bits differ.
    SiteError
        From `take`, and at the end of the block: if a chosen part was not called, returned no tensor, changed its shape or its number
        of calls, or somebody wrote into its output before it was taken.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.activations import Recorder
    >>> network = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 5), "core": torch.nn.LSTM(5, 4)})
    >>> state = None
    >>> with Recorder(network, ["encoder", "core.h", "core.gates.*"], one_step=True) as recorder:
    ...     for x in torch.ones(10, 2, 3):
    ...         _, state = network["core"](network["encoder"](x).unsqueeze(0), state)
    ...         sites = recorder.take()
    >>> sorted(sites)
    ['core.gates.cell', 'core.gates.forget', 'core.gates.input', 'core.gates.output', 'core.h', 'encoder']
    >>> torch.equal(sites["core.h"], state[0][0])
    True
    """

    def __init__(self, module: nn.Module, sites: SiteSelection, *, one_step: bool = False) -> None:
        self.module = module
        self.one_step = one_step
        self._selection = Selection(sites)
        self._new_names = {site: name for name, site in sites.items()} if isinstance(sites, Mapping) else {}
        found = find_modules(module, self._selection)
        self._watched = [Watched(name, part, self._selection.has_some(name, part)) for name, part in found.items()]
        self._handles: dict[Watched, RemovableHandle] = {}
        self._sites: dict[str, _Site] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._asked = False

    # --- hooks ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Attach the hooks."""
        if self._handles:
            raise RuntimeError("this recorder is attached already")
        self._check_fast_paths()
        self._handles = {watched: watched.module.register_forward_hook(watched.hook, with_kwargs=True) for watched in self._watched}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the hooks, whatever happened."""
        while self._handles:
            self._handles.popitem()[1].remove()
        if kind is None and not self._asked:
            self._check_fired()
        self.discard()

    def _check_fast_paths(self) -> None:
        """Refuse hooks that would make a transformer layer compute in another way."""
        layers = [part for part in self.module.modules() if isinstance(part, nn.TransformerEncoderLayer)]
        inside = {id(part) for layer in layers for part in layer.modules()}
        touched = [watched.name for watched in self._watched if id(watched.module) in inside]
        if touched and torch.backends.mha.get_fastpath_enabled():
            raise ValueError(
                f"{touched[0]!r} belongs to a transformer layer whose inference fast path switches itself off under hooks: recording would "
                "change the last bits; call torch.backends.mha.set_fastpath_enabled(False) first, in every run"
            )

    # --- steps ----------------------------------------------------------------------------------------------------

    def take(self) -> dict[str, Tensor]:
        """End a step and return its sites: copies, without gradients.

        Those of whole-sequence modules are (T, n, width) whatever the order of their input, or (n, width) where `one_step` holds; those
        of cells (n, width); all others as they were returned.

        Raises
        ------
        SiteError
            If a chosen part was not called since the last step, and in the other cases of the class.
        RuntimeError
            If recomputed gates do not reproduce the states.
        """
        return self.complete(self.take_parts())

    def take_parts(self) -> dict[str, Tensor]:
        """End a step and return its sites, but in the place of gates what they are recomputed from.

        Stack the parts of many steps along a new first axis, or their rows along the first, and `complete` them in one pass:
        recomputing gates step by step costs more than the network itself.
        """
        self._asked = True
        try:
            self._check_fired()
            steps = {watched: watched.end_step() for watched in self._watched}
        finally:
            self.discard()
        if not self._sites:
            self._sites = self._resolved(steps)
            self._watch_only({site.watched for site in self._sites.values()})
        for watched in self._watched:
            watched.check_untouched(steps[watched])
        wanted = {(site.tick, site.leaf) for site in self._sites.values()}
        parts: dict[str, Tensor] = {}
        for watched in self._watched:
            for number, call in enumerate(steps[watched]):
                tick = watched.tick(number)
                kept = watched.needed(call) if watched.gated is not None else {leaf for leaf in call.copies if (tick, leaf) in wanted}
                parts |= {f"{tick}|{leaf}": self._stepped(watched, values) for leaf, values in call.copies.items() if leaf in kept}
        self._check_shapes(parts)
        return parts

    def complete(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return all sites of any number of steps from their parts (`take_parts`)."""
        asked: dict[tuple[Watched, str], dict[str, str]] = {}
        for name, site in self._sites.items():
            asked.setdefault((site.watched, site.tick), {})[site.leaf] = name
        sites: dict[str, Tensor] = {}
        for (watched, tick), names in asked.items():
            own = {key.partition("|")[2]: values for key, values in parts.items() if key.partition("|")[0] == tick}
            sites |= {names[leaf]: values for leaf, values in watched.expand(tick, own, list(names)).items()}
        return sites

    def discard(self) -> None:
        """Forget the calls since the last step, as after an error inside `forward`."""
        for watched in self._watched:
            watched.calls.clear()

    # --- what a step must be --------------------------------------------------------------------------------------

    def _check_fired(self) -> None:
        """Raise unless every chosen part was called in this step."""
        silent = [repr(each.name) for each in self._watched if not each.calls and (each.must_fire or each.n_ticks)]
        if silent:
            fired = ", ".join(repr(each.name) for each in self._watched if each.calls) or "none"
            raise SiteError(
                f"{', '.join(silent)} never fired since the last step: is it called, and not only its parts or methods? Fired: {fired}"
            )

    def _resolved(self, steps: Mapping[Watched, list[Call]]) -> dict[str, _Site]:
        """Return the sites that the first step shows to be wanted, by the name to record them under."""
        found: dict[str, _Site] = {}
        there = [
            _Site(watched, watched.tick(i), leaf)
            for watched in steps
            for i, call in enumerate(steps[watched])
            for leaf in watched.leaves(call)
        ]
        unmet = set(self._selection.patterns)
        for site in there:
            meant = self._selection.means(site.name, *(() if self._new_names else (site.untimed, site.tick, site.watched.name)))
            unmet -= meant
            if meant or self._selection.has_by_predicate(site.watched.name, site.watched.module):
                name = self._new_names.get(site.name, site.name)
                if name in found:
                    raise SiteError(f"two sites would be called {name!r}: record one of the modules at a time, or give names by a mapping")
                found[name] = site
        if unmet:
            names = ", ".join(site.name for site in there) or "none"
            raise SiteError(f"no site is called {', '.join(map(repr, sorted(unmet)))}; the modules that fired have {names}")
        for watched in steps:
            watched.keeps_gates = any(site.watched is watched and "gates." in site.leaf for site in found.values())
        return found

    def _watch_only(self, wanted: set[Watched]) -> None:
        """Take the hooks off parts that a pattern reached, but that turned out to have no site of that name."""
        for watched in set(self._watched) - wanted:
            self._handles.pop(watched).remove()
        self._watched = [watched for watched in self._watched if watched in wanted]

    def _stepped(self, watched: Watched, values: Tensor) -> Tensor:
        """Drop the time axis where there is to be but one step."""
        if not (self.one_step and watched.gated is not None and isinstance(watched.module, nn.RNNBase)):
            return values
        if len(values) != 1:
            raise SiteError(f"{watched.name!r} was called on a sequence of {len(values)} steps: expected one step at a time")
        return values[0]

    def _check_shapes(self, parts: Mapping[str, Tensor]) -> None:
        """Raise if what a step gave differs in form from the first one."""
        shapes = {name: values.shape for name, values in parts.items()}
        self._shapes = self._shapes or shapes
        for name in {**self._shapes, **shapes}:
            was, now = (tuple(form[name]) if name in form else "absent" for form in (self._shapes, shapes))
            if was != now:
                raise SiteError(f"site {name.replace('|', '.').rstrip('.')!r} changed its shape: {was} in the first step, now {now}")
