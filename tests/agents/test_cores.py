from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from worldprobe.agents import CORES, Core, CoreShape, NetworkConfig, RecurrentQNetwork, count_parameters
from worldprobe.agents._cores import LayeredCore
from worldprobe.agents._layers import FusedLayer, GRULayer, LSTMLayer, RNNLayer
from worldprobe.agents._scan_layers import LRULayer, MinGRULayer

T, N, D, H = 9, 5, 3, 7
MAP, TICKS = (3, 2), 2


def width(name: str) -> int:
    """Return the width of what a core of `build` receives."""
    return 2 * math.prod(MAP) if name == "drc" else D


def build(name: str, n_layers: int, seed: int = 0, *, between: bool = False) -> Core:
    """Return a drawn core, perhaps with residuals and norms between its layers; one of maps with two channels."""
    shape = CoreShape(D, H, n_layers, residual=between, layer_norm=between)
    maps = CoreShape(width(name), 2, n_layers, n_ticks=TICKS, map_size=MAP)
    core = CORES[name](maps if name == "drc" else shape)
    core.initialise(torch.Generator().manual_seed(seed))
    return core


def weights(core: Core) -> list[Tensor]:
    """Return W, U and their biases of a core of one layer."""
    assert isinstance(core, LayeredCore)
    layer = core.layers[0]
    assert isinstance(layer, FusedLayer)
    return [weight.detach() for weight in layer.fused.all_weights[0]]


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


every_core = pytest.mark.parametrize("name", CORES)
every_depth = pytest.mark.parametrize("n_layers", [1, 2, 3])
every_joint = pytest.mark.parametrize("between", [False, True])
every_fused_core = pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])


@every_core
@every_depth
@every_joint
@pytest.mark.parametrize("gaps", ["none", "some", "at the start", "at the end", "everywhere"])
@pytest.mark.parametrize("learns", [False, True])
def test_steps_and_sequence_agree(name: str, n_layers: int, between: bool, gaps: str, learns: bool) -> None:
    """A gap is where stepping forgets: the step after it is reset. Kernels differ where gradients are kept."""
    core, x = build(name, n_layers, between=between), draw(T, N, width(name))
    state = first = draw(N, core.state_size, seed=2)
    gap = {
        "none": torch.zeros(T, N, dtype=torch.bool),
        "some": draw(T, N, seed=3) > 0.8,
        "at the start": (torch.arange(T) == 0).unsqueeze(1).expand(T, N),
        "at the end": (torch.arange(T) > T - 3).unsqueeze(1).expand(T, N),
        "everywhere": torch.ones(T, N, dtype=torch.bool),
    }[gaps]
    stepped = []
    for t in range(T):
        y, state = core.step(x[t], state, torch.zeros(N, dtype=torch.bool))
        state = state.masked_fill(gap[t].unsqueeze(1), 0.0)
        stepped.append(y)
    with torch.set_grad_enabled(learns):
        whole, last = core.sequence(x, first, gap)
    torch.testing.assert_close(torch.stack(stepped)[~gap], whole[~gap], atol=1e-5, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=0)
    assert (last[gap[-1]] == 0).all()
    if gaps == "none":
        torch.testing.assert_close(core.sequence(x, first)[0], whole, atol=1e-5, rtol=0)


@every_fused_core
@pytest.mark.parametrize(("learns", "bfloat16"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("length", [1, 2, 30])
def test_a_gap_forgets_exactly(name: str, learns: bool, bfloat16: bool, length: int) -> None:
    """Whatever the weights, also biases that training has moved, and however large state and input are."""
    core = build(name, 2)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.copy_(3 * draw(*parameter.shape, seed=5))
    gap = (torch.arange(length) == length - 1).unsqueeze(1).expand(length, 64)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), torch.set_grad_enabled(learns):
        _, last = core.sequence(20 * draw(length, 64, D), 20 * draw(64, core.state_size, seed=2), gap)
    assert (last == 0).all()


@every_core
def test_no_gradient_crosses_a_gap(name: str) -> None:
    core, x = build(name, 2), draw(T, N, width(name)).requires_grad_()
    gap = torch.zeros(T, N, dtype=torch.bool)
    gap[4, 1] = True
    torch.autograd.backward(core.sequence(x, torch.zeros(N, core.state_size), gap)[0][-1].square().sum())
    assert x.grad is not None
    assert (x.grad[:5, 1] == 0).all()
    remembers = name != "feedforward"
    assert ((x.grad[:5, 0] != 0).any() == remembers).item()
    assert ((x.grad[5:8, 1] != 0).any() == remembers).item()


@every_core
@every_depth
def test_gaps_add_nothing_to_the_gradients_of_weights(name: str, n_layers: int) -> None:
    """Two pieces behind each other in a row have the gradients that they have in rows of their own."""
    core, x = build(name, n_layers), draw(T, N, width(name))
    gap = (torch.arange(T) == 4).unsqueeze(1).expand(T, N)
    begin, nothing = draw(N, core.state_size, seed=2), torch.zeros(N, core.state_size)
    weight = draw(T, N, core.output_size, seed=4)
    joined = (core.sequence(x, begin, gap)[0] * weight * ~gap.unsqueeze(2)).sum()
    alone = (core.sequence(x[:4], begin)[0] * weight[:4]).sum() + (core.sequence(x[5:], nothing)[0] * weight[5:]).sum()
    parameters = [each for each in core.parameters() if each.numel()]
    for mine, other in zip(*(torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (joined, alone)), strict=True):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@every_core
@every_depth
def test_a_reset_is_a_zero_state_and_touches_no_other_row(name: str, n_layers: int) -> None:
    core, x, state = build(name, n_layers), draw(N, width(name)), draw(N, build(name, n_layers).state_size, seed=2)
    reset = torch.tensor([True, False, True, False, False])
    y, after = core.step(x, state, reset)
    fresh, after_fresh = core.step(x, torch.zeros_like(state), torch.zeros(N, dtype=torch.bool))
    going, after_going = core.step(x, state, torch.zeros(N, dtype=torch.bool))
    torch.testing.assert_close(y, torch.where(reset.unsqueeze(1), fresh, going), atol=1e-6, rtol=0)
    torch.testing.assert_close(after, torch.where(reset.unsqueeze(1), after_fresh, after_going), atol=1e-6, rtol=0)


@every_core
def test_a_reset_cuts_off_even_a_broken_past(name: str) -> None:
    core = build(name, 1)
    y, _ = core.step(draw(N, width(name)), torch.full((N, core.state_size), torch.nan), torch.ones(N, dtype=torch.bool))
    assert y.isfinite().all()


@every_core
@every_depth
@every_joint
def test_record_gives_every_promised_site_and_the_states_between(name: str, n_layers: int, between: bool) -> None:
    core, x = build(name, n_layers, between=between), draw(T, N, width(name))
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
        _, sites = core.record(draw(T, N, width(name)), torch.zeros(N, core.state_size))
    for leaf in "hc" if name in ("lstm", "drc") else "h":
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


def test_rnn_follows_its_equations() -> None:
    core = build("rnn", 1).double()
    x, h = draw(T, N, D).double(), draw(N, H, seed=2).double()
    y, _ = core.sequence(x, h)
    w, u, b, b2 = weights(core)
    for t in range(T):
        h = (x[t] @ w.T + b + h @ u.T + b2).tanh()
        torch.testing.assert_close(y[t], h)


def test_lru_follows_its_equations() -> None:
    core = build("lru", 1).double()
    assert isinstance(core, LayeredCore)
    layer = core.layers[0]
    assert isinstance(layer, LRULayer)
    x, h = draw(T, N, D).double(), draw(N, H, seed=2).double()
    with torch.no_grad():
        y, sites = core.record(x, h)
        a = (-layer.rate.exp()).exp()
        for t in range(T):
            h = a * h + (1 - a**2).sqrt() * (x[t] @ layer.from_input.weight.T)
            before = h @ layer.from_state.weight.T + layer.from_state.bias + x[t] @ layer.skip.weight.T
            expected = before * (1 + torch.erf(before / 2**0.5)) / 2
            torch.testing.assert_close(sites["core.0.h"][t], h)
            torch.testing.assert_close(sites["core.0.y"][t], expected)
            torch.testing.assert_close(y[t], expected)


def test_lru_begins_with_time_constants_of_all_lengths() -> None:
    layer = LRULayer(D, 4096)
    layer.initialise(torch.Generator().manual_seed(0))
    squares = layer.decay().square()
    assert 0.25 <= squares.min() < 0.26
    assert 0.99 < squares.max() < 0.9991
    assert squares.mean().item() == pytest.approx((0.25 + 0.999**2) / 2, abs=0.01)


def test_mingru_follows_its_equations() -> None:
    core = build("mingru", 1).double()
    assert isinstance(core, LayeredCore)
    layer = core.layers[0]
    assert isinstance(layer, MinGRULayer)
    x, h = draw(T, N, D).double(), draw(N, H, seed=2).double()
    with torch.no_grad():
        y, sites = core.record(x, h)
        for t in range(T):
            z, n = (x[t] @ layer.from_input.weight.T + layer.from_input.bias).chunk(2, -1)
            h = (1 - z.sigmoid()) * h + z.sigmoid() * n
            for site, expected in {"h": h, "gates.update": z.sigmoid(), "gates.candidate": n}.items():
                torch.testing.assert_close(sites[f"core.0.{site}"][t], expected)
            torch.testing.assert_close(y[t], h)


def test_norms_and_residuals_stand_between_layers() -> None:
    """Written out for two layers: y_0 = f_0(x), y_1 = y_0 + f_1(norm(y_0))."""
    core, x = build("gru", 2, between=True), draw(T, N, D)
    assert isinstance(core, LayeredCore)
    lower, upper = core.layers
    assert isinstance(lower, GRULayer)
    assert isinstance(upper, GRULayer)
    first = draw(N, 2 * H, seed=2)
    with torch.no_grad():
        next(core.norms.parameters()).copy_(draw(H, seed=4))
        below, _ = lower.sequence(x, first[:, :H])
        normed = (below - below.mean(-1, keepdim=True)) / (below.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        above, _ = upper.sequence(normed * draw(H, seed=4), first[:, H:])
        torch.testing.assert_close(core.sequence(x, first)[0], below + above, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["lstm", "gru"])
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
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@every_fused_core
def test_recurrent_matrices_begin_orthogonal_and_are_views(name: str) -> None:
    core = build(name, 2)
    matrices = core.recurrent_matrices()
    assert len(matrices) == 2 * {"lstm": 4, "gru": 3, "rnn": 1}[name]
    for matrix in matrices:
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(H), atol=1e-5, rtol=0)
    with torch.no_grad():
        matrices[0].zero_()
    assert core.recurrent_matrices()[0].abs().max() == 0


def test_the_forget_gate_begins_open() -> None:
    layer = LSTMLayer(D, H)
    layer.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, sites = layer.record(torch.zeros(1, 1, D), torch.zeros(1, 2 * H))
    torch.testing.assert_close(sites["gates.forget"], torch.ones(1, 1, H).sigmoid())


@pytest.mark.parametrize("layer", [RNNLayer, LSTMLayer, GRULayer, LRULayer, MinGRULayer])
def test_gradients_reach_the_first_state(layer: type[RNNLayer] | type[LRULayer]) -> None:
    built = layer(D, H)
    built.initialise(torch.Generator().manual_seed(0))
    state = torch.zeros(N, built.state_size, requires_grad=True)
    torch.autograd.backward(built.sequence(draw(T, N, D), state)[0][-1].sum())
    assert state.grad is not None
    assert (state.grad.abs().sum(0) > 0).all()


def test_the_memoryless_control_remembers_nothing() -> None:
    core, x = build("feedforward", 3), draw(T, N, D)
    y, last = core.sequence(x, draw(N, core.state_size, seed=2))
    alone, same = core.sequence(x[-1:], torch.full((N, core.state_size), torch.nan))
    torch.testing.assert_close(alone[0], y[-1])
    torch.testing.assert_close(last, same)


WIDE = {
    "lstm": NetworkConfig(core="lstm", hidden_size=1800, n_layers=2, encoder_sizes=(1800,)),
    "gru": NetworkConfig(core="gru", hidden_size=2100, n_layers=2, encoder_sizes=(2100,)),
    "rnn": NetworkConfig(core="rnn", hidden_size=3600, n_layers=2, encoder_sizes=(3600,)),
    "lru": NetworkConfig(core="lru", hidden_size=2100, n_layers=4, encoder_sizes=(2100,), residual=True, core_layer_norm=True),
    "mingru": NetworkConfig(core="mingru", hidden_size=2600, n_layers=4, encoder_sizes=(2600,), residual=True, core_layer_norm=True),
    "feedforward": NetworkConfig(core="feedforward", hidden_size=3600, n_layers=4, encoder_sizes=(3600,)),
    "drc": NetworkConfig(core="drc", hidden_size=512, n_layers=3, n_ticks=3, encoder_sizes=(512,), encoder="convolutional"),
}


@every_core
def test_large_networks_are_counted_without_their_memory(name: str) -> None:
    """More than 50 million weights each; a small one of the same kind has as many as the count says."""
    image = (2, 3, 3)
    assert count_parameters(WIDE[name], 20, 5, image) > 50_000_000
    sizes = {"hidden_size": 6, "n_layers": 3, "encoder_sizes": (6,), "residual": True, "core_layer_norm": True, "dueling": True}
    small = replace(WIDE[name], **sizes)  # type: ignore[arg-type]  # a dictionary of several types
    network = RecurrentQNetwork(small, 20, 5, torch.Generator(), observation_shape=image)
    assert count_parameters(small, 20, 5, image) == sum(parameter.numel() for parameter in network.parameters())
