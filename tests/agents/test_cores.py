from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldprobe.agents import CORES, Core
from worldprobe.agents._cores import LayeredCore
from worldprobe.agents._layers import GRULayer, LSTMLayer

T, N, D, H = 9, 5, 3, 7


def build(name: str, n_layers: int, seed: int = 0) -> Core:
    core = CORES[name](D, H, n_layers)
    core.initialise(torch.Generator().manual_seed(seed))
    return core


def weights(core: Core) -> list[Tensor]:
    """Return W, U and their biases of a core of one layer."""
    assert isinstance(core, LayeredCore)
    layer = core.layers[0]
    assert isinstance(layer, LSTMLayer | GRULayer)
    return [weight.detach() for weight in layer.fused.all_weights[0]]


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


every_core = pytest.mark.parametrize("name", CORES)
every_depth = pytest.mark.parametrize("n_layers", [1, 2, 3])


@every_core
@every_depth
def test_steps_and_sequence_agree(name: str, n_layers: int) -> None:
    core, x = build(name, n_layers), draw(T, N, D)
    state = first = draw(N, core.state_size, seed=2)
    stepped = []
    for t in range(T):
        y, state = core.step(x[t], state, torch.zeros(N, dtype=torch.bool))
        stepped.append(y)
    whole, last = core.sequence(x, first)
    torch.testing.assert_close(torch.stack(stepped), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=0)


@every_core
@every_depth
def test_a_reset_is_a_zero_state_and_touches_no_other_row(name: str, n_layers: int) -> None:
    core, x, state = build(name, n_layers), draw(N, D), draw(N, CORES[name](D, H, n_layers).state_size, seed=2)
    reset = torch.tensor([True, False, True, False, False])
    y, after = core.step(x, state, reset)
    fresh, after_fresh = core.step(x, torch.zeros_like(state), torch.zeros(N, dtype=torch.bool))
    going, after_going = core.step(x, state, torch.zeros(N, dtype=torch.bool))
    torch.testing.assert_close(y, torch.where(reset.unsqueeze(1), fresh, going), atol=1e-6, rtol=0)
    torch.testing.assert_close(after, torch.where(reset.unsqueeze(1), after_fresh, after_going), atol=1e-6, rtol=0)


@every_core
def test_a_reset_cuts_off_even_a_broken_past(name: str) -> None:
    core = build(name, 1)
    y, _ = core.step(draw(N, D), torch.full((N, core.state_size), torch.nan), torch.ones(N, dtype=torch.bool))
    assert y.isfinite().all()


@every_core
@every_depth
def test_record_gives_every_promised_site_and_the_states_between(name: str, n_layers: int) -> None:
    core, x = build(name, n_layers), draw(T, N, D)
    first = draw(N, core.state_size, seed=2)
    with torch.no_grad():
        y, sites = core.record(x, first)
        whole, _ = core.sequence(x, first)
    assert {site: values.shape for site, values in sites.items() if site != "core.state"} == {
        site: (T, N, width) for site, width in core.sites.items()
    }
    torch.testing.assert_close(y, whole, atol=1e-6, rtol=0)
    for t in range(T):  # the recorded state of step t is what a sequence ending there leaves behind
        torch.testing.assert_close(sites["core.state"][t], core.sequence(x[: t + 1], first)[1], atol=1e-5, rtol=0)


@every_core
def test_layers_are_concatenated_in_order(name: str) -> None:
    core = build(name, 3)
    with torch.no_grad():
        _, sites = core.record(draw(T, N, D), torch.zeros(N, core.state_size))
    for leaf in {"lstm": "hc", "gru": "h"}[name]:
        torch.testing.assert_close(sites[f"core.{leaf}"], torch.cat([sites[f"core.{depth}.{leaf}"] for depth in range(3)], -1))


def test_lstm_follows_its_equations() -> None:
    core = build("lstm", 1).double()
    x, state = draw(T, N, D).double(), draw(N, 2 * H, seed=2).double()
    with torch.no_grad():
        y, sites = core.record(x, state)
    w, u, b, b2 = weights(core)
    h, c = state.chunk(2, -1)
    for t in range(T):
        i, f, g, o = (x[t] @ w.T + b + h @ u.T + b2).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        for site, expected in {"h": h, "c": c, "gates.input": i.sigmoid(), "gates.forget": f.sigmoid(), "gates.cell": g.tanh()}.items():
            torch.testing.assert_close(sites[f"core.0.{site}"][t], expected)
        torch.testing.assert_close(sites["core.0.gates.output"][t], o.sigmoid())
        torch.testing.assert_close(y[t], h)


def test_gru_follows_its_equations() -> None:
    core = build("gru", 1).double()
    x, h = draw(T, N, D).double(), draw(N, H, seed=2).double()
    with torch.no_grad():
        y, sites = core.record(x, h)
    w, u, b, b2 = weights(core)
    for t in range(T):
        (rx, zx, nx), (rh, zh, nh) = (x[t] @ w.T + b).chunk(3, -1), (h @ u.T + b2).chunk(3, -1)
        r, z = (rx + rh).sigmoid(), (zx + zh).sigmoid()
        n = (nx + r * nh).tanh()
        h = (1 - z) * n + z * h
        for site, expected in {"h": h, "gates.reset": r, "gates.update": z, "gates.candidate": n}.items():
            torch.testing.assert_close(sites[f"core.0.{site}"][t], expected)
        torch.testing.assert_close(y[t], h)


@every_core
def test_gates_that_do_not_fit_the_output_are_refused(name: str) -> None:
    core = build(name, 1)
    with pytest.raises(RuntimeError, match="check the inputs and the weights for NaN"):
        core.record(torch.full((T, N, D), torch.nan), torch.zeros(N, core.state_size))


@every_core
def test_initial_weights_come_from_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, same, other = (build(name, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.recurrent_matrices()[0], other.recurrent_matrices()[0])


@every_core
def test_recurrent_matrices_begin_orthogonal_and_are_views(name: str) -> None:
    core = build(name, 2)
    matrices = core.recurrent_matrices()
    assert len(matrices) == 2 * {"lstm": 4, "gru": 3}[name]
    for matrix in matrices:
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(H), atol=1e-5, rtol=0)
    with torch.no_grad():
        matrices[0].zero_()
    assert core.recurrent_matrices()[0].abs().max() == 0


def test_the_forget_gate_begins_open() -> None:
    layer = LSTMLayer(D, H)
    layer.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        forget = layer.record(torch.zeros(1, 1, D), torch.zeros(1, 2 * H))["gates.forget"]
    torch.testing.assert_close(forget, torch.ones(1, 1, H).sigmoid())


@pytest.mark.parametrize("layer", [LSTMLayer, GRULayer])
def test_gradients_reach_the_first_state(layer: type[LSTMLayer] | type[GRULayer]) -> None:
    built = layer(D, H)
    built.initialise(torch.Generator().manual_seed(0))
    state = torch.zeros(N, built.state_size, requires_grad=True)
    torch.autograd.backward(built.sequence(draw(T, N, D), state)[0][-1].sum())
    assert state.grad is not None
    assert (state.grad.abs().sum(0) > 0).all()
