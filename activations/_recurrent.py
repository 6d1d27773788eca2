"""What torch's gated recurrent modules hold: h, c and gates of every layer, also where one fused kernel runs them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.utils.rnn import PackedSequence

from worldprobe.agents import GateWeights, check_fused, gru_gates, gru_update, lstm_cells, lstm_gates, lstm_update

Parts = dict[str, Tensor]
"""Of one call: "h" (..., n_layers, width) after it, "c" of an LSTM; and where gates are wanted "x" and "before.h", "before.c"."""

Gated = nn.RNNBase | RNNCellBase

GATES = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "candidate")}
"""Gates by kind of layer, as `lstm_gates` and `gru_gates` name them."""


def is_gated(module: nn.Module) -> TypeGuard[Gated]:
    """Return whether a module is an LSTM or a GRU, a cell of one, or another library's heir of them."""
    return isinstance(module, nn.RNNBase | RNNCellBase) and _kind(module) in GATES


def gated_sites(module: Gated) -> list[str]:
    """Return what can be recorded inside: "h", "c" (all layers next to each other), and gates; layer by layer if there are several."""
    leaves = ["h", "c"] if _kind(module) == "LSTM" else ["h"]
    gates = [f"gates.{gate}" for gate in GATES[_kind(module)]]
    if _n_layers(module) == 1:
        return leaves + gates
    return leaves + [f"{layer}.{name}" for layer in range(_n_layers(module)) for name in leaves + gates]


def check_gated(module: Gated, name: str) -> None:
    """Raise for what has no one state per step.

    Raises
    ------
    ValueError
        If the module is bidirectional, or drops units between its layers.
    """
    if getattr(module, "bidirectional", False):
        raise ValueError(
            f"{name!r} is bidirectional: its state at a step depends on the steps that follow, which no row may hold; record a "
            "module before or after it"
        )
    if _n_layers(module) > 1 and module.training and getattr(module, "dropout", 0.0) > 0:
        raise ValueError(f"{name!r} drops units between its layers, so its gates cannot be recomputed: call eval() on the module first")


def capture(
    module: Gated, name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], output: Any, for_gates: bool = True
) -> Parts:
    """Return what one call of a module left behind: (n, ...) of a cell, (T, n, ...) of a whole-sequence module.

    Parameters
    ----------
    module, name : Module and str
        What was called.
    arguments, keywords, output : as a forward hook receives them
    for_gates : bool
        Return what gates are recomputed from as well.

    Raises
    ------
    ValueError
        If the call was made on a packed sequence, or on something that has no state per step (`check_gated`).
    """
    check_gated(module, name)
    x, before = _inputs(arguments, keywords)
    if isinstance(x, PackedSequence):
        raise ValueError(f"{name!r} was called on a packed sequence, whose rows are no steps of one batch: pad it, or call step by step")
    if isinstance(module, nn.RNNBase):
        return _sequence_parts(module, name, x, before, output, for_gates)
    parts = _cell_parts(x, before, output)
    return parts if for_gates else {leaf: parts[leaf] for leaf in ("h", "c") if leaf in parts}


def expand(module: Gated, name: str, parts: Parts, wanted: list[str]) -> dict[str, Tensor]:
    """Return sites of any number of calls from their parts; gates are recomputed and must reproduce the h and c they made.

    Parameters
    ----------
    module, name : Module and str
        What was called.
    parts : dict of str to Tensor
        As `capture` returned them; calls may be stacked along the leading dimensions.
    wanted : list of str
        Some of `gated_sites`.

    Raises
    ------
    RuntimeError
        If recomputed gates do not reproduce the recorded states.
    """
    leaves: tuple[str, ...] = ("h", "c")
    sites = {leaf: parts[leaf].flatten(-2) for leaf in leaves if leaf in wanted}
    for layer in range(_n_layers(module)):
        prefix = f"{layer}." if _n_layers(module) > 1 else ""
        sites |= {f"{prefix}{leaf}": parts[leaf][..., layer, :] for leaf in leaves if prefix and f"{prefix}{leaf}" in wanted}
        if any(site.startswith(f"{prefix}gates.") for site in wanted):
            gates = _checked_gates(module, f"{name!r}, layer {layer}", layer, parts)
            sites |= {f"{prefix}gates.{gate}": values for gate, values in gates.items() if f"{prefix}gates.{gate}" in wanted}
    return sites


def _kind(module: Gated) -> str:
    """Return "LSTM", "GRU" or another kind: by the number of gates, since other libraries call their heirs as they like."""
    n_gates: int = _weights(module, 0).from_state.shape[0] // module.hidden_size
    return {4: "LSTM", 3: "GRU"}.get(n_gates, "RNN")


def _n_layers(module: Gated) -> int:
    return module.num_layers if isinstance(module, nn.RNNBase) else 1


def _weights(module: Gated, layer: int) -> GateWeights:
    suffix = f"_l{layer}" if isinstance(module, nn.RNNBase) else ""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    weights: list[Any] = [getattr(module, f"{name}{suffix}", None) for name in names]
    return GateWeights(*weights)


def _inputs(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the input and the state before, or None for zeros."""
    x = arguments[0] if arguments else keywords["input"]
    return x, arguments[1] if len(arguments) > 1 else keywords.get("hx")


def _cell_parts(x: Tensor, before: Any, output: Any) -> Parts:
    """Return the parts of a cell, (n, ...); an unbatched call is a batch of one."""
    after = output if isinstance(output, tuple) else (output,)
    earlier = tuple(torch.zeros_like(leaf) for leaf in after) if before is None else before if isinstance(before, tuple) else (before,)
    rows = [leaf.reshape(-1, 1, leaf.shape[-1]) for leaf in (*after, *earlier)]
    names = ("h", "c", "before.h", "before.c") if len(after) == 2 else ("h", "before.h")
    return {**dict(zip(names, rows, strict=True)), "x": x.reshape(-1, x.shape[-1])}


def _sequence_parts(module: nn.RNNBase, name: str, x: Tensor, before: Any, output: Any, for_gates: bool) -> Parts:
    """Return the parts of a whole-sequence module, (T, n, ...), whatever the order of its input."""
    y, last = output[0], output[1] if isinstance(output[1], tuple) else (output[1],)
    if x.dim() == 2:
        x, y = x.unsqueeze(1), y.unsqueeze(1)
    elif module.batch_first:
        x, y = x.transpose(0, 1), y.transpose(0, 1)
    lasts = [_layers_last(leaf) for leaf in last]
    leaves = ("h", "c")[: len(lasts)]
    if len(x) == 1 and not for_gates:
        return {leaf: values.unsqueeze(0) for leaf, values in zip(leaves, lasts, strict=True)}
    earlier = before if isinstance(before, tuple) else (before,)
    firsts = [torch.zeros_like(leaf) for leaf in lasts] if before is None else [_layers_last(leaf) for leaf in earlier]
    over_time = [leaf.unsqueeze(0) for leaf in lasts] if len(x) == 1 else _unrolled(module, name, x, firsts, y, lasts)
    parts = dict(zip(leaves, over_time, strict=True))
    if not for_gates:
        return parts
    for leaf, first in zip(leaves, firsts, strict=True):
        parts[f"before.{leaf}"] = torch.cat([first.unsqueeze(0), parts[leaf][:-1]])
    return {**parts, "x": x}


def _layers_last(state: Tensor) -> Tensor:
    """Return a state (n_layers, n, width), or (n_layers, width) of an unbatched call, as (n, n_layers, width)."""
    return (state.unsqueeze(1) if state.dim() == 2 else state).transpose(0, 1)


@torch.no_grad()
def _unrolled(module: nn.RNNBase, name: str, x: Tensor, firsts: list[Tensor], y: Tensor, lasts: list[Tensor]) -> list[Tensor]:
    """Return h (T, n, n_layers, width), and c, at every step of a sequence: the kernel's own where it shows them, else recomputed."""
    layers: list[list[Tensor]] = []
    for layer in range(module.num_layers):
        first = [leaf[:, layer] for leaf in firsts]
        shown = y if layer == module.num_layers - 1 else None
        layers.append(_unrolled_layer(_kind(module), _weights(module, layer), x, first, shown))
        x = layers[-1][0]
    over_time = [torch.stack(leaves, -2) for leaves in zip(*layers, strict=True)]
    for leaf, last in zip(over_time, lasts, strict=True):
        check_fused(leaf[-1], last, repr(name))
    return over_time


def _unrolled_layer(kind: str, weights: GateWeights, x: Tensor, first: list[Tensor], shown: Tensor | None) -> list[Tensor]:
    """Return h and c (T, n, width) of one layer, from its outputs if they are `shown`."""
    if shown is not None:
        before = torch.cat([first[0].unsqueeze(0), shown[:-1]])
        return [shown] if kind == "GRU" else [shown, lstm_cells(lstm_gates(weights, x, before), first[1])]
    states = [first]
    for received in x:
        states.append(_next(kind, weights, received, states[-1])[1])
    return [torch.stack(leaves) for leaves in zip(*states[1:], strict=True)]


def _next(kind: str, weights: GateWeights, x: Tensor, before: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the gates of a layer and its state after them, from what came in and the state before."""
    if kind == "GRU":
        gates = gru_gates(weights, x, before[0])
        return gates, [gru_update(gates, before[0])]
    gates = lstm_gates(weights, x, before[0])
    return gates, list(lstm_update(gates, before[1], weights.projection))


@torch.no_grad()
def _checked_gates(module: Gated, name: str, layer: int, parts: Parts) -> dict[str, Tensor]:
    """Return the gates of one layer if they lead from the state before to the state after."""
    x = parts["x"] if layer == 0 else parts["h"][..., layer - 1, :]
    leaves = [leaf for leaf in ("h", "c") if leaf in parts]
    gates, after = _next(_kind(module), _weights(module, layer), x, [parts[f"before.{leaf}"][..., layer, :] for leaf in leaves])
    for leaf, written_out in zip(leaves, after, strict=True):
        check_fused(written_out, parts[leaf][..., layer, :], name)
    return gates
