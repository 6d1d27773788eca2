"""DRC: written out tick by tick, on random maps and as an agent in a world that is seen as an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from worldprobe.activations import EpsilonGreedy, record, replay
from worldprobe.agents import (
    CORES,
    CoreShape,
    NetworkConfig,
    PqnConfig,
    RecurrentQNetwork,
    agent_inputs,
    check_agent,
    load_checkpoint,
    make_network,
    train_pqn,
)
from worldprobe.agents._drc import ConvLSTM, DRCCore
from worldprobe.worlds import Sokoban, SokobanConfig, World

T, N, C, MAP = 4, 3, 2, (4, 3)
CONFIG = NetworkConfig(
    core="drc", hidden_size=4, n_layers=2, n_ticks=2, encoder="convolutional", encoder_sizes=(5, 4), head_sizes=(6,), dueling=True
)


@pytest.fixture(scope="module")
def world() -> World:
    return Sokoban(SokobanConfig(size=5, n_levels=30))


def build(n_layers: int, n_ticks: int) -> DRCCore:
    core = CORES["drc"](CoreShape(C * 12, C, n_layers, n_ticks=n_ticks, map_size=MAP))
    assert isinstance(core, DRCCore)
    core.initialise(torch.Generator().manual_seed(0))
    return core.double()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def zero_padded(maps: Tensor, kernel: Tensor) -> Tensor:
    return conv2d(pad(maps, (1, 1, 1, 1)), kernel)


def plain_gates(layer: ConvLSTM, encoded: Tensor, below: Tensor, h: Tensor) -> Tensor:
    """Write out what a module's gates are made of, kernel slice by kernel slice."""
    boundary = torch.zeros(N, 1, *MAP, dtype=torch.float64)
    for row in range(MAP[0]):
        for column in range(MAP[1]):
            boundary[:, :, row, column] = row in (0, MAP[0] - 1) or column in (0, MAP[1] - 1)
    observed, hidden = layer.from_input.weight, layer.from_hidden.weight
    total = zero_padded(encoded, observed[:, :C]) + zero_padded(boundary, observed[:, C:])
    total = total + zero_padded(below, hidden[:, :C]) + zero_padded(h, hidden[:, C:])
    pooled = torch.cat([h.flatten(2).mean(2), h.flatten(2).amax(2)], 1) @ layer.inject.weight.T
    assert layer.from_input.bias is not None
    return total + (pooled + layer.from_input.bias)[:, :, None, None]


@torch.no_grad()
@pytest.mark.parametrize(("n_layers", "n_ticks"), [(1, 1), (2, 3), (3, 2)])
def test_drc_follows_its_equations(n_layers: int, n_ticks: int) -> None:
    core = build(n_layers, n_ticks)
    x, state = draw(T, N, C * 12), draw(N, core.state_size, seed=2)
    y, sites = core.record(x, state)
    leaves = state.view(N, n_layers, 2, C, *MAP)
    h, c = ([leaves[:, depth, leaf] for depth in range(n_layers)] for leaf in (0, 1))
    for t in range(T):
        encoded = x[t].view(N, C, *MAP)
        for tick in range(n_ticks):
            below = h[-1]
            for depth, layer in enumerate(core._stack):
                i, f, g, o = plain_gates(layer, encoded, below, h[depth]).chunk(4, 1)
                c[depth] = f.sigmoid() * c[depth] + i.sigmoid() * g.tanh()
                below = h[depth] = o.sigmoid() * c[depth].tanh()
                expected = {"h": h[depth], "c": c[depth], "gates.input": i.sigmoid(), "gates.forget": f.sigmoid()}
                expected |= {"gates.cell": g.tanh(), "gates.output": o.sigmoid()}
                for name, values in expected.items():
                    torch.testing.assert_close(sites[f"core.{depth}.tick{tick}.{name}"][t], values.flatten(1))
        torch.testing.assert_close(y[t], (h[-1] + encoded).flatten(1))
        torch.testing.assert_close(sites["core.h"][t], torch.cat([each.flatten(1) for each in h], 1))


def test_gradients_reach_the_first_state() -> None:
    core = build(2, 2)
    state = torch.zeros(N, core.state_size, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(core.sequence(draw(T, N, C * 12), state)[0][-1].sum())
    assert state.grad is not None
    assert (state.grad.abs().sum(0) > 0).all()


def test_it_is_an_agent(world: World) -> None:
    check_agent(make_network(world, CONFIG, seed=0), world)


def test_what_is_no_image_comes_in_as_planes(world: World) -> None:
    network = make_network(world, replace(CONFIG, channels=("action", "observation", "reward"), layer_norm=False), seed=0)
    observation = torch.rand(N, *world.observation_shape, generator=torch.Generator().manual_seed(0))
    action, reward = torch.tensor([-1, 0, 3]), torch.tensor([0.0, 2.0, -1.0])
    inputs = agent_inputs(observation, action, reward, network.channels, world.n_actions)
    planes = torch.zeros(N, world.n_actions + 1, *world.observation_shape[1:])
    planes[1, 0], planes[2, 3], planes[1, 4], planes[2, 4] = 1.0, 1.0, 2.0, -1.0
    maps = torch.cat([observation, planes], 1)
    for layer in network.encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            maps = (conv2d(pad(maps, (1, 1, 1, 1)), layer.weight) + layer.bias[:, None, None]).relu()  # type: ignore[index]
    torch.testing.assert_close(network.encoder(inputs), maps.flatten(1), atol=1e-5, rtol=0)


def test_more_ticks_are_the_same_weights(world: World) -> None:
    """So that a trained network can be given more time to think."""
    network = make_network(world, CONFIG, seed=0)
    slower = make_network(world, replace(CONFIG, n_ticks=5), seed=1)
    slower.load_state_dict(network.state_dict())
    inputs, state = torch.rand(1, N, network.input_size), network.initial_state(N)
    first, second = network.activations(inputs, state), slower.activations(inputs, state)
    for tick in range(2):
        torch.testing.assert_close(first[f"core.1.tick{tick}.h"], second[f"core.1.tick{tick}.h"])
    assert not torch.allclose(first["core.h"], second["core.h"])


def test_it_is_trained_recorded_and_replayed(world: World, tmp_path: Path) -> None:
    config = PqnConfig(total_steps=128, n_envs=8, n_steps=8, n_minibatches=2, n_checkpoints=2, n_evaluations=1, n_evaluation_episodes=8)
    agent, info = load_checkpoint(train_pqn(world, CONFIG, config, tmp_path / "training", seed=0).final)
    assert info.observation_shape == (4, 5, 5)
    assert info.step == 128
    sites = ("core.h", "core.1.tick0.h", "q")
    with record(agent, world, tmp_path / "own.wpr", EpsilonGreedy(agent, 0.5), 6, 0, sites, n_envs=2) as recording:
        again = replay(agent, recording, sites)
        for site in sites:
            torch.testing.assert_close(torch.from_numpy(again[site]), torch.from_numpy(recording[site][:]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "dense"}, "needs as many maps as input.*choose a convolutional encoder whose last size is hidden_size"),
        ({"encoder_sizes": (5,)}, "a drc core of 4 channels needs as many maps as input; got 125 numbers"),
        ({"channels": ("action",)}, "needs at least one size and images"),
        ({"encoder_sizes": ()}, "needs at least one size and images"),
    ],
)
def test_impossible_networks_are_refused(change: dict[str, object], message: str, world: World) -> None:
    with pytest.raises(ValueError, match=message):
        make_network(world, replace(CONFIG, **change), seed=0)  # type: ignore[arg-type]  # wrong on purpose


def test_worlds_without_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got sizes \(5, 4\) and observations of shape \(8,\) in 12 inputs"):
        RecurrentQNetwork(CONFIG, 12, 4, torch.Generator(), observation_shape=(8,))
