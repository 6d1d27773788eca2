"""The recorder on any module: what is found, how sites are called, what is refused; and that the module computes what it did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from worldprobe.activations import Recorder, SiteError

N = 3


class Moments(NamedTuple):
    mean: Tensor
    deviation: Tensor


@dataclass
class Answer:
    q: Tensor
    extra: dict[str, Tensor]


class Stats(nn.Module):
    def forward(self, x: Tensor) -> Moments:
        return Moments(x.mean(1), x.std(1))


class Head(nn.Module):
    def forward(self, x: Tensor) -> Answer:
        return Answer(2 * x, {"norm": x.norm(dim=1), "first": x[:, 0]})


class ConvLstm(nn.Module):
    """A cell of maps (Shi et al. 2015): gates are a convolution of [x, h]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        i, f, o, g = self.mix(torch.cat([x, state[0]], 1)).chunk(4, 1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class Ticking(nn.Module):
    """A map is updated three times a step by the same cell, as in deep repeating ConvLSTMs (Guez et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = ConvLstm(2)

    def forward(self, x: Tensor, n_ticks: int = 3) -> list[tuple[Tensor, Tensor]]:
        state = (torch.zeros_like(x), torch.zeros_like(x))
        states = []
        for _ in range(n_ticks):
            state = self.cell(x, state)
            states.append(state)
        return states


class Network(nn.Module):
    """Something of everything: convolution, normalisation, dropout, a fused LSTM of two layers, a cell, tuples and dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5), nn.LayerNorm(5))
        self.drop = nn.Dropout(0.5)
        self.core = nn.LSTM(5, 4, 2, batch_first=True)
        self.cell = nn.GRUCell(4, 4)
        self.stats = Stats()
        self.head = Head()
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.encoder(x))
        h = self.core(y.unsqueeze(1))[0][:, 0]
        for _ in range(2):
            h = self.cell(h, h)
        answer = self.head(h)
        total: Tensor = answer.q.sum() + answer.extra["norm"].sum() + self.stats(h).mean.sum()
        return total


USED = ["encoder.*", "drop", "core", "cell", "stats", "head"]


def make_network() -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    return Network(), torch.randn(N, 1, 6)


# --- what is found, and what it is called -------------------------------------------------------------------------


def test_outputs_by_name_field_key_and_number() -> None:
    network, x = make_network()
    with Recorder(network, ["encoder", "stats", "head"]) as recorder, torch.no_grad():
        network(x)
        sites = recorder.take()
    assert list(sites) == ["encoder", "stats.mean", "stats.deviation", "head.q", "head.extra.norm", "head.extra.first"]
    assert sites["encoder"].shape == (N, 5)
    torch.testing.assert_close(sites["head.q"] / 2, sites["head.q"] - sites["head.q"] / 2)
    torch.testing.assert_close(sites["head.extra.norm"], (sites["head.q"] / 2).norm(dim=1))
    torch.testing.assert_close(sites["stats.mean"], (sites["head.q"] / 2).mean(1))


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (["encoder.3"], {"encoder.3"}),
        ("encoder.3", {"encoder.3"}),
        (["encoder.[13]"], {"encoder.1", "encoder.3"}),
        (["*.extra.*"], {"head.extra.norm", "head.extra.first"}),
        (["head.q"], {"head.q"}),
        (["core.h", "core.1.gates.f*"], {"core.h", "core.1.gates.forget"}),
        (["cell.tick1.h", "cell.tick0.gates.update"], {"cell.tick1.h", "cell.tick0.gates.update"}),
        (["cell.gates.reset"], {"cell.tick0.gates.reset", "cell.tick1.gates.reset"}),
        (["cell.tick1"], {f"cell.tick1.{leaf}" for leaf in ("h", "gates.reset", "gates.update", "gates.candidate")}),
        ([lambda name, module: isinstance(module, nn.Linear) and name.startswith("encoder")], {"encoder.3"}),
        ([lambda _, module: isinstance(module, nn.GRUCell), "drop"],
         {"drop", *(f"cell.tick{i}.{leaf}" for i in range(2) for leaf in ("h", "gates.reset", "gates.update", "gates.candidate"))}),
        ({"q": "head.q", "core.h": "core.1.h"}, {"q", "core.h"}),
    ],
)  # fmt: skip
def test_names_globs_predicates_and_new_names(sites: Any, expected: set[str]) -> None:
    network, x = make_network()
    with Recorder(network, sites) as recorder:
        network(x)
        assert set(recorder.take()) == expected


def test_new_names_mean_the_sites_they_stand_for() -> None:
    network, x = make_network()
    with Recorder(network, {"state": "core.1.c", "q": "head.q"}) as renamed, Recorder(network.eval(), ["core", "head"]) as plain:
        network(x)
        named, all_sites = renamed.take(), plain.take()
    assert torch.equal(named["state"], all_sites["core.1.c"])
    assert torch.equal(named["q"], all_sites["head.q"])


def test_every_tick_of_a_map_is_a_site() -> None:
    torch.manual_seed(0)
    network, x = Ticking(), torch.randn(N, 2, 4, 4)
    with Recorder(network, ["cell"]) as recorder, torch.no_grad():
        states = network(x)
        sites = recorder.take()
    assert list(sites) == [f"cell.tick{tick}.{leaf}" for tick in range(3) for leaf in range(2)]
    for tick, state in enumerate(states):
        for leaf in range(2):
            assert torch.equal(sites[f"cell.tick{tick}.{leaf}"], state[leaf])
    assert not torch.equal(sites["cell.tick0.0"], sites["cell.tick2.0"])


def test_a_module_with_two_names_is_recorded_under_the_one_that_is_meant() -> None:
    shared = nn.Linear(2, 2)
    both = nn.ModuleDict({"actor": shared, "critic": shared})
    with Recorder(both, ["critic"]) as recorder:
        both["actor"](torch.ones(1, 2))
        assert list(recorder.take()) == ["critic"]


def test_steps_do_not_run_into_each_other() -> None:
    linear = nn.Linear(2, 2)
    with Recorder(linear, ["self"]) as recorder, torch.no_grad():
        rows = []
        for x in torch.randn(5, N, 2):
            rows.append((linear(x), recorder.take()["self"]))
    assert all(torch.equal(own, taken) for own, taken in rows)
    assert all(taken.data_ptr() != own.data_ptr() and not taken.requires_grad for own, taken in rows)


def test_a_glob_asks_nothing_of_parts_that_have_no_such_site() -> None:
    class Careless(nn.Module):
        """Its parts overwrite outputs, are called now once and now twice, and return what has no rows."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
            self.packed = nn.RNN(3, 3)
            self.core = nn.LSTMCell(3, 3)

        def forward(self, x: Tensor, n_calls: int) -> Tensor:
            for _ in range(n_calls):
                x = self.encoder(x)
            self.packed(pack_sequence([x]))
            h: Tensor = self.core(x)[0]
            return h

    network = Careless()
    with Recorder(network, ["*.gates.forget", "*.h"]) as recorder:
        for n_calls in (2, 1, 3):
            h = network(torch.ones(N, 3), n_calls)
            sites = recorder.take()
            assert n_hooks(network) == 1
            assert set(sites) == {"core.gates.forget", "core.h"}
            assert torch.equal(sites["core.h"], h)
    assert n_hooks(network) == 0


# --- the computation stays the same -------------------------------------------------------------------------------


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    module.zero_grad()
    module(x).backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def test_values_gradients_and_random_numbers_are_equal_bit_for_bit() -> None:
    network, x = make_network()  # in training mode: dropout draws from the global generator
    torch.manual_seed(1)
    plain = [network(x) for _ in range(2)], gradients(network, x), torch.rand(3)
    torch.manual_seed(1)
    with Recorder(network, USED) as recorder:
        hooked: list[Tensor] = []
        for _ in range(2):
            hooked.append(network(x))
            recorder.take()
        watched = gradients(network, x)
        recorder.take()
        drawn = torch.rand(3)
    for one, other in zip((*plain[0], *plain[1], plain[2]), (*hooked, *watched, drawn), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_every_mode_of_autograd_is_recorded_alike(mode: Callable[[], AbstractContextManager[Any]]) -> None:
    network, x = make_network()
    network.eval()
    with mode():
        plain = network(x)
        with Recorder(network, USED) as recorder:
            assert torch.equal(network(x), plain)
            sites = recorder.take()
    with torch.no_grad():
        torch.testing.assert_close(sites["encoder.3"], network.encoder[:4](x), rtol=0, atol=0)
    assert not any(values.requires_grad for values in sites.values())


def n_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in module.modules())


def test_hooks_are_removed_whatever_happens() -> None:
    network, x = make_network()
    with Recorder(network, USED) as recorder:
        assert n_hooks(network) >= len(network.encoder) + 5
        network(x)
        recorder.take()
        with pytest.raises(RuntimeError, match="attached already"):
            recorder.__enter__()
    assert n_hooks(network) == 0
    with pytest.raises(RuntimeError, match=r"shape|size"), recorder:
        network(x[:, :, :4])
    assert n_hooks(network) == 0
    with pytest.raises(ZeroDivisionError), Recorder(network, USED):
        raise ZeroDivisionError
    assert n_hooks(network) == 0
    with recorder:  # what the broken pass left behind is forgotten
        network(x)
        assert recorder.take()["cell.tick1.h"].shape == (N, 4)


def test_an_error_inside_forward_is_survived_by_discarding_its_step() -> None:
    network, x = make_network()
    with Recorder(network.eval(), USED) as recorder:
        network(x)
        first = recorder.take()
        with pytest.raises(RuntimeError, match=r"shape|size"):
            network(x[:, :, :4])
        recorder.discard()
        network(x)
        second = recorder.take()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_fast_path_of_transformers_is_not_switched_off_silently() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model, x = nn.ModuleDict({"layer": layer}), torch.randn(N, 5, 4)
    message = r"'layer' belongs to a transformer layer.*set_fastpath_enabled"
    with pytest.raises(ValueError, match=message), Recorder(model, ["layer.linear1"]):
        layer(x)  # a layer in training may be put into evaluation while it is watched
    layer.eval()
    with pytest.raises(ValueError, match=message), Recorder(model, ["layer.linear1"]):
        layer(x)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            plain = layer(x)
            with Recorder(model, ["layer", "layer.linear1"]) as recorder:
                assert torch.equal(layer(x), plain)
                assert torch.equal(recorder.take()["layer"], plain)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sites", "error", "message"),
    [
        ([], ValueError, r"expected at least one site"),
        (["encodr"], KeyError, r"no module is called 'encodr'; there are self, encoder, encoder\.0"),
        (["encoder", "heads.*"], KeyError, r"no module is called 'heads\.\*'"),
        ([lambda *_: False], KeyError, r"the predicates hold for no module"),
    ],
)
def test_unknown_sites_are_refused_before_anything_runs(sites: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Recorder(make_network()[0], sites)


def test_a_list_of_modules_is_never_called() -> None:
    with pytest.raises(ValueError, match=r"'layers' is a ModuleList, which is never called itself; it holds 'layers\.0', 'layers\.1'"):
        Recorder(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])}), ["layers"])


def test_a_site_that_never_fires_is_named() -> None:
    network, x = make_network()
    with Recorder(network, ["head", "unused"]) as recorder:
        network(x)
        with pytest.raises(SiteError, match=r"'unused' never fired.*Fired: 'head'"):
            recorder.take()
    with pytest.raises(SiteError, match=r"'head' never fired.*Fired: none"), Recorder(network, ["head"]):
        pass
    with Recorder(network, ["head"]) as recorder:
        network(x)
        recorder.take()
        with pytest.raises(SiteError, match=r"'head' never fired since the last step"):
            recorder.take()


@pytest.mark.parametrize(("site", "there"), [("head.p", "head.q"), ("cell.tick2.h", "cell.tick0.h"), ("drop.h", "drop")])
def test_a_site_that_is_not_there_is_named_beside_those_that_are(site: str, there: str) -> None:
    network, x = make_network()
    with Recorder(network, [site]) as recorder:
        network(x)
        with pytest.raises(SiteError, match=rf"no site is called '{site}'; the modules that fired have .*{there}"):
            recorder.take()


def test_a_change_of_shape_or_of_the_number_of_ticks_is_named() -> None:
    network = Ticking()
    with Recorder(network, ["cell"]) as recorder:
        network(torch.zeros(N, 2, 4, 4))
        recorder.take()
        network(torch.zeros(N, 2, 5, 5))
        with pytest.raises(
            SiteError, match=r"site 'cell\.tick0\.0' changed its shape: \(3, 2, 4, 4\) in the first step, now \(3, 2, 5, 5\)"
        ):
            recorder.take()
        network(torch.zeros(N, 2, 4, 4), n_ticks=2)
        with pytest.raises(SiteError, match=r"'cell' was called 2 times in this step, 3 times in the first one"):
            recorder.take()
    cell = nn.GRUCell(2, 2)
    with Recorder(cell, ["self.gates.reset"]) as recorder:
        cell(torch.zeros(N, 2))
        recorder.take()
        cell(torch.zeros(1, 2))
        with pytest.raises(SiteError, match=r"site 'self\.h' changed its shape"):
            recorder.take()


def test_an_output_that_is_overwritten_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True))
    with Recorder(network, ["0", "1"]) as recorder, torch.no_grad():
        network(torch.randn(N, 2))
        with pytest.raises(SiteError, match=r"the output of '0' was overwritten in place before the step was taken"):
            recorder.take()
    with Recorder(network, ["1"]) as recorder, torch.no_grad():
        y = network(torch.randn(N, 2))
        assert torch.equal(recorder.take()["1"], y)


def test_a_module_without_tensors_and_two_sites_of_one_name_are_refused() -> None:
    class Silent(nn.Module):
        def forward(self, _: Tensor) -> str:
            return "nothing"

    silent = nn.Sequential(Silent())
    with pytest.raises(SiteError, match=r"'0' returned a str, which holds no tensor"), Recorder(silent, ["0"]):
        silent(torch.zeros(1))

    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Identity()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"q": self.q(x)}

    clash = nn.ModuleDict({"head": Clash()})
    with Recorder(clash, ["head", "head.q"]) as recorder:
        clash["head"](torch.zeros(N, 1))
        with pytest.raises(SiteError, match=r"two sites would be called 'head\.q'"):
            recorder.take()
