"""h, c and gates of torch's recurrent modules: against cells stepped one by one, and gates written out here once more in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from worldprobe.activations import Recorder, SiteError
from worldprobe.agents import NetworkConfig, RecurrentQNetwork

N, IN, H = 3, 4, 5
GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "candidate")}
KINDS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU}
Core = nn.LSTM | nn.GRU


def make(kind: str, n_layers: int = 1, **options: Any) -> Core:
    torch.manual_seed(0)
    core: Core = KINDS[kind](IN, H, n_layers, **options)
    return core


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def step_in_numpy(core: Core, layer: int, x: Any, h: Any, c: Any) -> dict[str, Any]:
    """One layer, one step, gate by gate, in float64."""

    def weight(name: str) -> Any:
        held = getattr(core, f"{name}_l{layer}", None)
        return None if held is None else held.detach().double().numpy()

    zero = np.zeros(1)
    from_input = x @ weight("weight_ih").T + (zero if weight("bias_ih") is None else weight("bias_ih"))
    from_state = h @ weight("weight_hh").T + (zero if weight("bias_hh") is None else weight("bias_hh"))
    if isinstance(core, nn.LSTM):
        i, f, g, o = np.split(from_input + from_state, 4, -1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        h = h if weight("weight_hr") is None else h @ weight("weight_hr").T
        return {"h": h, "c": c, "gates.input": i, "gates.forget": f, "gates.cell": g, "gates.output": o}
    (r, z, n), (r_h, z_h, n_h) = np.split(from_input, 3, -1), np.split(from_state, 3, -1)
    r, z = sigmoid(r + r_h), sigmoid(z + z_h)
    n = np.tanh(n + r * n_h)
    return {"h": (1 - z) * n + z * h, "c": c, "gates.reset": r, "gates.update": z, "gates.candidate": n}


def expected_sites(core: Core, x: Tensor, h: Tensor, c: Tensor) -> dict[str, Any]:
    """Every site over time, (T, n, width), from x (T, n, IN) and first states (n_layers, n, width)."""
    hs, cs = list(h.double().numpy()), list(c.double().numpy())
    rows = []
    for received in x.double().numpy():
        row: dict[str, Any] = {}
        for layer in range(core.num_layers):
            stepped = step_in_numpy(core, layer, received, hs[layer], cs[layer])
            received = hs[layer] = stepped["h"]
            cs[layer] = stepped["c"]
            row |= {f"{layer}.{leaf}": values for leaf, values in stepped.items()}
        rows.append(row | {"h": np.concatenate(hs, -1), "c": np.concatenate(cs, -1)})
    sites = {leaf: np.stack([row[leaf] for row in rows]) for leaf in rows[0]}
    if core.num_layers == 1:
        sites |= {leaf.removeprefix("0."): sites.pop(leaf) for leaf in list(sites) if leaf.startswith("0.")}
    return {leaf: values for leaf, values in sites.items() if isinstance(core, nn.LSTM) or not leaf.endswith("c")}


def first_states(core: Core) -> tuple[Tensor, Tensor]:
    width = core.proj_size or H
    return torch.randn(core.num_layers, N, width), torch.randn(core.num_layers, N, H)


def call(core: Core, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Any]:
    fed = x.transpose(0, 1) if core.batch_first else x
    y, last = core(fed, (h, c) if isinstance(core, nn.LSTM) else h)
    return (y.transpose(0, 1) if core.batch_first else y), last


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_steps", "n_layers", "options"),
    [
        (1, 1, {}),
        (6, 1, {}),
        (1, 3, {}),
        (6, 3, {}),
        (6, 2, {"batch_first": True}),
        (6, 2, {"bias": False}),
        (1, 2, {"dropout": 0.5}),
        (6, 2, {"proj_size": 2}),
        (1, 1, {"proj_size": 2, "batch_first": True}),
    ],
)
def test_every_site_is_what_the_equations_say(kind: str, n_steps: int, n_layers: int, options: dict[str, Any]) -> None:
    if kind == "gru":
        options = {name: value for name, value in options.items() if name != "proj_size"}  # torch projects the state of LSTMs alone
    core = make(kind, n_layers, **options).eval()
    x, (h, c) = torch.randn(n_steps, N, IN), first_states(core)
    with Recorder(nn.ModuleDict({"core": core}), ["core"]) as recorder, torch.no_grad():
        y, last = call(core, x, h, c)
        sites = recorder.take()
    expected = expected_sites(core, x, h, c)
    assert sites.keys() == {f"core.{leaf}" for leaf in expected}
    for leaf, values in expected.items():
        np.testing.assert_allclose(sites[f"core.{leaf}"], values, atol=1e-5, err_msg=leaf)
    width = y.shape[-1]
    assert torch.equal(sites["core.h"][..., -width:], y)  # the top layer's states are the kernel's own, bit for bit
    if n_steps == 1:
        last_h = last[0] if isinstance(last, tuple) else last
        assert torch.equal(sites["core.h"], last_h.transpose(0, 1).flatten(1).unsqueeze(0))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_state_the_first_one_is_zero_and_a_batch_of_one_needs_no_axis(kind: str) -> None:
    core = make(kind, 2)
    x = torch.randn(4, IN)
    with Recorder(core, ["self"]) as recorder, torch.no_grad():
        core(x)
        alone = recorder.take()
        core(x.unsqueeze(1))
        batched = recorder.take()
        core(input=x, hx=None)
        named = recorder.take()
    zeros = torch.zeros(2, 1, H)
    for leaf, values in expected_sites(core, x.unsqueeze(1), zeros, zeros).items():
        np.testing.assert_allclose(alone[f"self.{leaf}"], values, atol=1e-5)
        torch.testing.assert_close(alone[f"self.{leaf}"], batched[f"self.{leaf}"])
        assert torch.equal(alone[f"self.{leaf}"], named[f"self.{leaf}"])


@pytest.mark.parametrize(("kind", "cell"), [("lstm", nn.LSTMCell(IN, H)), ("gru", nn.GRUCell(IN, H))])
def test_cells(kind: str, cell: nn.LSTMCell | nn.GRUCell) -> None:
    fused = make(kind)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(fused, f"{name}_l0").data = getattr(cell, name).data
    x, (h, c) = torch.randn(1, N, IN), first_states(fused)
    with Recorder(nn.ModuleDict({"cell": cell}), ["cell"]) as recorder, torch.no_grad():
        after = cell(x[0], (h[0], c[0]) if kind == "lstm" else h[0])
        sites = recorder.take()
        cell(x[0])
        from_zero = recorder.take()
        cell(x[0, 0])
        with pytest.raises(SiteError, match=r"site 'cell\.[hcx]' changed its shape"):
            recorder.take()
    expected = expected_sites(fused, x, h, c)
    assert sites.keys() == {f"cell.{leaf}" for leaf in expected}
    for leaf, values in expected.items():
        np.testing.assert_allclose(sites[f"cell.{leaf}"], values[0], atol=1e-5, err_msg=leaf)
    assert torch.equal(sites["cell.h"], after[0] if isinstance(after, tuple) else after)
    for leaf, values in expected_sites(fused, x, 0 * h, 0 * c).items():
        np.testing.assert_allclose(from_zero[f"cell.{leaf}"], values[0], atol=1e-5, err_msg=leaf)


@given(n_layers=st.integers(1, 3), n_steps=st.integers(1, 5), cut=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_sequence_holds_what_its_steps_hold(n_layers: int, n_steps: int, cut: int, seed: int) -> None:
    torch.manual_seed(seed)
    core = nn.LSTM(IN, H, n_layers)
    x, state = torch.randn(n_steps, N, IN), first_states(core)
    with Recorder(core, ["self"]) as whole, torch.no_grad():
        core(x, state)
        sequence = whole.take()
    with Recorder(core, ["self"], one_step=True) as stepwise, torch.no_grad():
        parts = []
        for received in x:
            _, state = core(received.unsqueeze(0), state)
            parts.append(stepwise.take_parts())
        stacked = stepwise.complete({name: torch.stack([part[name] for part in parts]) for name in parts[0]})
        first = stepwise.complete({name: torch.cat([part[name] for part in parts[: cut + 1]]) for name in parts[0]})
    assert stacked.keys() == sequence.keys()
    for name, values in sequence.items():
        torch.testing.assert_close(stacked[name], values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first[name], values[: cut + 1].flatten(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sites", [["self.h"], ["self.1.h", "self.0.gates.*"], ["self"]])
def test_what_is_not_asked_for_is_not_kept_from_the_first_step_on(kind: str, sites: list[str]) -> None:
    core = make(kind, 2)
    with Recorder(core, sites, one_step=True) as recorder, torch.no_grad():
        steps = []
        for x in torch.randn(3, 1, N, IN):
            core(x)
            steps.append(recorder.take_parts())
    assert steps[0].keys() == steps[1].keys() == steps[2].keys()
    assert ("self|x" in steps[0]) == (sites != ["self.h"])


@pytest.mark.parametrize("core_name", ["lstm", "gru"])
def test_our_own_networks_say_the_same_of_themselves(core_name: str) -> None:
    network = RecurrentQNetwork(NetworkConfig(core_name, 8, n_layers=2), 6, 4, torch.Generator().manual_seed(0))
    inputs = torch.randn(7, N, 6)
    with Recorder(network, ["core.layers.*.fused", "encoder", "head"]) as recorder:
        with torch.no_grad():
            network.sequence(inputs, network.initial_state(N))
        sites = recorder.take()
    own = network.activations(inputs, network.initial_state(N))
    assert torch.equal(sites["encoder"], own["encoder"])
    assert torch.equal(sites["head"], own["q"])
    for layer in range(2):
        for leaf in ("h", "c") if core_name == "lstm" else ("h",):
            torch.testing.assert_close(sites[f"core.layers.{layer}.fused.{leaf}"], own[f"core.{layer}.{leaf}"])
        for gate in GATES[core_name]:
            assert torch.equal(sites[f"core.layers.{layer}.fused.gates.{gate}"], own[f"core.{layer}.gates.{gate}"])


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_bidirectional_layer_would_hold_the_future() -> None:
    with pytest.raises(ValueError, match=r"'self' is bidirectional: its state at a step depends on the steps that follow"):
        Recorder(nn.LSTM(IN, H, bidirectional=True), ["self"])


def test_dropout_between_layers_hides_what_the_upper_one_received() -> None:
    core = nn.GRU(IN, H, 2, dropout=0.3)
    message = r"drops units between its layers.*eval\(\)"
    with pytest.raises(ValueError, match=message):
        Recorder(core, ["self"])
    recorder = Recorder(core.eval(), ["self"])
    core.train()
    with pytest.raises(ValueError, match=message), recorder:
        core(torch.zeros(1, 1, IN))


def test_packed_sequences_have_no_rows() -> None:
    packed = pack_padded_sequence(torch.zeros(4, 2, IN), torch.tensor([4, 2]))
    core = make("lstm")
    with pytest.raises(ValueError, match=r"'self' was called on a packed sequence.*pad it"), Recorder(core, ["self.h"]):
        core(packed)
    plain = nn.Sequential(nn.RNN(IN, H))
    with pytest.raises(ValueError, match=r"'0' returned a packed sequence.*pad it"), Recorder(plain, ["0"]):
        plain(packed)


def test_gates_that_do_not_make_the_state_are_refused() -> None:
    core = make("lstm")
    with Recorder(core, ["self"]) as recorder, torch.no_grad():
        core(torch.randn(1, N, IN))
        core.get_parameter("bias_hh_l0").add_(0.5)
        with pytest.raises(RuntimeError, match=r"recomputed gates of 'self', layer 0 give states .* away from the fused kernel's"):
            recorder.take()


def test_one_step_refuses_a_sequence() -> None:
    core = make("gru")
    with Recorder(core, ["self.h"], one_step=True) as recorder:
        core(torch.zeros(2, N, IN))
        with pytest.raises(SiteError, match=r"'self' was called on a sequence of 2 steps: expected one step at a time"):
            recorder.take()
