"""One module under observation: its calls since the last step, copied as they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worldprobe.activations._recurrent import Parts, capture, check_gated, expand, gated_sites, is_gated
from worldprobe.activations._sites import tensors_in

STATES = ("h", "c")
"""The parts of a recurrent module's call that it returned."""


class SiteError(RuntimeError):
    """A site did not fire, changed its shape or its number of calls, was overwritten, or shares its name with another one."""


@dataclass(frozen=True)
class Call:
    """What one call of a module left behind."""

    copies: Parts
    live: Parts
    """The tensors that the module returned, to see whether somebody writes into them."""


class Watched:
    """A module, its calls since the last step was taken, and how many there are in a step.

    Parameters
    ----------
    name, module : str and Module
        What is watched.
    must_fire : bool
        Whether it was chosen by name; else some site of it may turn out to be.
    """

    def __init__(self, name: str, module: nn.Module, must_fire: bool) -> None:
        self.name = name
        self.gated = module if is_gated(module) else None
        self.module = module
        self.must_fire = must_fire
        self.keeps_gates = True
        self.calls: list[Call] = []
        self.n_ticks = 0
        if self.gated is not None:
            check_gated(self.gated, name)

    def hook(self, _: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any], output: Any) -> None:
        """Copy what a call left behind; returning nothing leaves the output as it is."""
        if self.gated is not None:
            copied = capture(self.gated, self.name, arguments, keywords, output, self.keeps_gates)
            live = {leaf: values for leaf, values in copied.items() if leaf in STATES}
        else:
            live = copied = self._tensors(output)
        self.calls.append(Call({leaf: values.detach().clone() for leaf, values in copied.items()}, live))

    def _tensors(self, output: Any) -> Parts:
        """Return the tensors of an output by name."""
        try:
            found = dict(tensors_in(output))
        except ValueError as error:
            if not self.must_fire:
                return {}
            raise ValueError(f"{self.name!r} {error}") from None
        if not found and self.must_fire:
            raise SiteError(f"{self.name!r} returned a {type(output).__name__}, which holds no tensor: record one of its parts")
        return found

    def end_step(self) -> list[Call]:
        """Return the calls of the step, and begin the next one.

        Raises
        ------
        SiteError
            If the module was called more or less often than in the first step.
        """
        calls, self.calls = self.calls, []
        if self.n_ticks and self.n_ticks != len(calls):
            raise SiteError(f"{self.name!r} was called {len(calls)} times in this step, {self.n_ticks} times in the first one")
        self.n_ticks = len(calls)
        return calls

    def check_untouched(self, calls: list[Call]) -> None:
        """Raise `SiteError` if somebody wrote into what the module returned."""
        if not all(_same(values, call.copies[leaf]) for call in calls for leaf, values in call.live.items()):
            raise SiteError(
                f"the output of {self.name!r} was overwritten in place before the step was taken (by a ReLU(inplace=True), say), so that "
                "the recorded values are not those that were used: record the part that wrote into it"
            )

    def needed(self, call: Call) -> set[str]:
        """Return what the sites of a recurrent module are made from."""
        return set(call.copies) if self.keeps_gates else set(STATES)

    def tick(self, number: int) -> str:
        """Return the name of one call of a step."""
        return f"{self.name}.tick{number}" if self.n_ticks > 1 else self.name

    def leaves(self, call: Call) -> list[str]:
        """Return the names of the sites of a call."""
        return gated_sites(self.gated) if self.gated is not None else list(call.copies)

    def expand(self, tick: str, parts: Parts, wanted: list[str]) -> dict[str, Tensor]:
        """Return sites of one tick from its parts."""
        return {leaf: parts[leaf] for leaf in wanted} if self.gated is None else expand(self.gated, tick, parts, wanted)


def _same(live: Tensor, copy: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, NaN counting as itself."""
    return torch.equal(live, copy) or bool(((live == copy) | (live.isnan() & copy.isnan())).all())
