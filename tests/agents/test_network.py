from __future__ import annotations

import itertools

import pytest
import torch

from worldprobe.agents import CORES, DuelingHead, NetworkConfig, RecurrentQNetwork, from_json, make_network
from worldprobe.worlds import make_world

VECTOR_CORES = [core for core in CORES if core != "drc"]  # test_drc.py examines the one of maps


@pytest.mark.parametrize("core", VECTOR_CORES)
@pytest.mark.parametrize("n_layers", [1, 3])
def test_sequence_and_activations_agree_on_values(core: str, n_layers: int) -> None:
    config = NetworkConfig(core=core, hidden_size=8, n_layers=n_layers, encoder_sizes=(6, 5), layer_norm=n_layers == 1)
    network = RecurrentQNetwork(config, 3, 4, torch.Generator().manual_seed(0))
    inputs, state = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(1)), network.initial_state(5)
    q, last = network.sequence(inputs, state)
    sites = network.activations(inputs, state)
    torch.testing.assert_close(q, sites["q"], atol=1e-5, rtol=0)
    torch.testing.assert_close(last, sites["core.state"][-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(network.encoder(inputs), sites["encoder"])
    assert q.requires_grad
    assert not sites["q"].requires_grad


def test_without_an_encoder_the_core_sees_the_inputs() -> None:
    network = RecurrentQNetwork(NetworkConfig(hidden_size=4, encoder_sizes=()), 3, 2, torch.Generator().manual_seed(0))
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.activations(inputs, network.initial_state(5))["encoder"], inputs)
    assert network.sites["encoder"] == 3


def test_layer_norm_is_optional() -> None:
    with_norm, without = (
        RecurrentQNetwork(NetworkConfig(layer_norm=each), 3, 2, torch.Generator().manual_seed(0)) for each in (True, False)
    )
    kinds = [[type(layer).__name__ for layer in network.encoder.children()] for network in (with_norm, without)]
    assert kinds == [["Linear", "LayerNorm", "ReLU"], ["Linear", "ReLU"]]


@pytest.mark.parametrize("core", VECTOR_CORES)
def test_every_weight_comes_from_the_seed(core: str) -> None:
    """No parameter is left to chance or to what lay in memory."""
    between = {"residual": True, "core_layer_norm": True, "head_sizes": (7,), "dueling": True}
    config = NetworkConfig(core=core, hidden_size=16, n_layers=2, encoder_sizes=(12,), **between)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    first, same, other = (make_network(make_world("tmaze"), config, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), b, c in zip(first.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.isfinite().all(), name
        is_constant = "bias" in name or "encoder.1" in name or "norm" in name  # biases and norms begin at fixed values
        assert torch.equal(a, c) == is_constant, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core": "abacus"}, "unknown core 'abacus'; the cores are lstm, gru, rnn"),
        ({"hidden_size": 0}, "at least 1"),
        ({"n_layers": 0}, "at least 1"),
        ({"encoder_sizes": (8, 0)}, "at least 1"),
        ({"head_sizes": (0,)}, "at least 1"),
        ({"n_layers": 257}, "n_layers and n_ticks must be at most 256, n_rewards at most 4096; got 257, 1 and 1"),
        ({"hidden_size": 2**20 + 1}, "widths must be at most 1,048,576"),
        ({"encoder_sizes": (2**70,)}, "widths must be at most 1,048,576"),
        ({"channels": ("observation",)}, "'action'"),
        ({"channels": ("action", "smell")}, "smell"),
    ],
)
def test_impossible_networks_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)  # type: ignore[arg-type]  # wrong on purpose


def test_names_of_sites() -> None:
    for core, n_layers in itertools.product(VECTOR_CORES, (1, 2)):
        network = RecurrentQNetwork(NetworkConfig(core=core, hidden_size=4, n_layers=n_layers), 3, 2, torch.Generator())
        others = {
            "lstm": ("gates.input", "gates.forget", "gates.cell", "gates.output"),
            "gru": ("gates.reset", "gates.update", "gates.candidate"),
            "mingru": ("gates.update", "gates.candidate"),
            "lru": ("y",),
        }.get(core, ())
        leaves = ("h", "c") if core == "lstm" else ("h",)
        expected = {"encoder", "q", *(f"core.{leaf}" for leaf in leaves)}
        for depth in range(n_layers):
            expected |= {f"core.{depth}.{name}" for name in (*leaves, *others)}
        assert set(network.sites) == expected
        assert network.sites["core.h"] == 4 * n_layers


@pytest.mark.parametrize("sizes", [(), (9,)])
def test_a_dueling_head_keeps_value_and_advantage_apart(sizes: tuple[int, ...]) -> None:
    config = NetworkConfig(hidden_size=8, head_sizes=sizes, dueling=True)
    network = RecurrentQNetwork(config, 3, 4, torch.Generator().manual_seed(0))
    head = network.head[-1] if isinstance(network.head, torch.nn.Sequential) else network.head
    assert isinstance(head, DuelingHead)
    y = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    q = network.q_values(y, torch.zeros(6, 3))
    hidden = network.head[:-1](y) if isinstance(network.head, torch.nn.Sequential) else y
    torch.testing.assert_close(q.mean(-1, keepdim=True), head.value(hidden))
    advantage = head.advantage(hidden)
    torch.testing.assert_close(q - q[:, :1], advantage - advantage[:, :1])


def test_files_from_before_a_setting_was_added_are_read() -> None:
    """Settings that came later have the value that says what networks were before."""
    old = {"core": "gru", "hidden_size": 6, "n_layers": 2, "encoder_sizes": [5], "layer_norm": True, "channels": ["action"]}
    assert from_json(NetworkConfig, old) == NetworkConfig("gru", 6, 2, (5,), True, ("action",))
    with pytest.raises(ValueError, match=r"must hold exactly the settings of NetworkConfig; got .'core'."):
        from_json(NetworkConfig, {name: value for name, value in old.items() if name != "core"})
