"""Where a network computes, and in what precision: other numbers hardly, other devices never mixed, other names of what broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldprobe.agents import (
    ALGORITHMS,
    CORES,
    Actor,
    Core,
    NetworkConfig,
    PqnConfig,
    PqnLearner,
    RecurrentQNetwork,
    Rollout,
    TrainingDivergedError,
    _trunk,
    load_checkpoint,
    make_network,
    seeded_generator,
    train,
    training_preset,
)
from worldprobe.agents._segments import Segments
from worldprobe.worlds import World, make_world

BuildWorld = Callable[..., World]
TINY = PqnConfig(total_steps=512, n_envs=8, n_steps=16, n_epochs=1, n_minibatches=1, n_evaluations=1, n_evaluation_episodes=8)


def played(network: RecurrentQNetwork, world: World) -> Rollout:
    return Actor(network, world.driver(6, seeded_generator(0, "driver")), seeded_generator(0, "exploration")).collect(12, 1.0)


def recurrent(world: World, core: str) -> RecurrentQNetwork:
    if core == "drc":
        world = make_world("sokoban")
        return make_network(world, NetworkConfig(core=core, hidden_size=4, encoder="convolutional", encoder_sizes=(4,)), seed=0)
    return make_network(world, NetworkConfig(core=core, hidden_size=8), seed=0)


@pytest.mark.parametrize("core", sorted(CORES))
def test_bfloat16_gives_nearly_the_same_values_and_gradients_in_float32(core: str, corridor: BuildWorld) -> None:
    world = make_world("sokoban") if core == "drc" else corridor()
    network = recurrent(world, core)
    batch = Segments(played(network, world)).batch()
    results = []
    for precision in ("float32", "bfloat16"):
        network.run_on("cpu", precision)
        network.zero_grad()
        q = network.segment_values(batch, batch.core_state)
        torch.autograd.backward(q.square().mean())
        gradients = torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])
        assert q.dtype == gradients.dtype == torch.float32
        results.append((q.detach(), gradients))
    (exact, slope), (rounded, rounded_slope) = results
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()
    assert torch.cosine_similarity(slope, rounded_slope, 0) > 0.99


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_core_gives_the_same_values_and_gradients(corridor: BuildWorld) -> None:
    network = recurrent(corridor(), "mingru")
    batch = Segments(played(network, corridor())).batch()
    results = []
    for compiled in (False, True):
        network.run_on("cpu", compiled=compiled).zero_grad()
        q = network.segment_values(batch, batch.core_state)
        torch.autograd.backward(q.square().mean())
        results.append([q.detach(), *(each.grad.clone() for each in network.parameters() if each.grad is not None)])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_a_training_may_be_compiled(corridor: BuildWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Core] = []

    def run(core: Core, x: Tensor, state: Tensor, gap: Tensor | None) -> tuple[Tensor, Tensor]:
        calls.append(core)
        return _trunk.run_sequence(core, x, state, gap)

    monkeypatch.setattr(_trunk, "compiled_sequence", lambda: run)
    train(corridor(), NetworkConfig(core="mingru", hidden_size=8), TINY, tmp_path / "plain", seed=0)
    assert not calls
    result = train(corridor(), NetworkConfig(core="mingru", hidden_size=8), replace(TINY, compiled=True), tmp_path / "compiled", seed=0)
    assert calls
    assert load_checkpoint(result.final)[1].training["compiled"] is True


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_in_bfloat16(algorithm: str, tmp_path: Path) -> None:
    network, config = training_preset("tmaze", algorithm)
    small = {"total_steps": 512, "n_envs": 8, "n_evaluations": 1, "n_evaluation_episodes": 8, "n_checkpoints": 2, "precision": "bfloat16"}
    if algorithm == "r2d2":
        small |= {"warm_up_steps": 100, "replay_steps": 2000, "n_gradient_steps": 2}
    result = train(make_world("tmaze"), replace(network, hidden_size=8), replace(config, **small), tmp_path, seed=0)  # type: ignore[arg-type]
    trained, _ = load_checkpoint(result.final)
    first, _ = load_checkpoint(result.checkpoints[0])
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), trained.parameters(), strict=True))


def copied_back(values: Tensor) -> Tensor:
    """What a tensor on another device is in main memory: tensors of "meta" have shapes, dtypes and a device, but no content."""
    return torch.zeros(values.shape, dtype=values.dtype) if values.is_meta else values


@pytest.mark.parametrize("core", ["lstm", "gru", "lru", "mingru", "feedforward"])
def test_a_network_on_another_device_never_meets_tensors_of_main_memory(
    core: str, corridor: BuildWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = recurrent(corridor(), core)
    batch = Segments(played(network, corridor())).batch()
    with torch.device("meta"):
        there = RecurrentQNetwork(network.config, network.input_size, network.n_actions, None)
    with pytest.raises(RuntimeError, match="device"):
        there.encoder(batch.inputs)
    monkeypatch.setattr(Tensor, "cpu", copied_back)
    assert there.segment_values(batch, batch.core_state).device.type == "cpu"
    q, state = there.step(torch.zeros(3, there.input_size), there.initial_state(3), torch.ones(3, dtype=torch.bool))
    assert (q.device.type, state.device.type) == ("cpu", "meta")
    assert there.values(torch.zeros(3, there.input_size), there.initial_state(3)).device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_before_anything_is_written(corridor: BuildWorld, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a GPU"):
        train(corridor(), NetworkConfig(hidden_size=8), replace(TINY, device="cuda"), tmp_path / "new", seed=0)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_on_a_gpu(algorithm: str, tmp_path: Path) -> None:
    network, config = training_preset("tmaze", algorithm)
    small = {"total_steps": 2048, "n_evaluations": 1, "n_evaluation_episodes": 8, "n_checkpoints": 2, "device": "cuda"}
    result = train(make_world("tmaze"), replace(network, hidden_size=8), replace(config, **small), tmp_path, seed=0)  # type: ignore[arg-type]
    assert load_checkpoint(result.final)[0].device.type == "cpu"


def test_what_broke_is_named(corridor: BuildWorld) -> None:
    network = make_network(corridor(), NetworkConfig(hidden_size=5), seed=0)
    learner = PqnLearner(network, TINY, 0.9, seeded_generator(0, "minibatches"))
    rollout = played(network, corridor())
    with torch.no_grad():
        network.head.weight[0, 0] = torch.nan  # type: ignore[operator]
    with pytest.raises(TrainingDivergedError, match=r"the weights of head\.weight are not finite"):
        learner.update(rollout, 1e-3)
    network.head.weight.data[0, 0] = 0.0  # type: ignore[operator]
    rollout.reward[:] = 3e38
    with pytest.raises(
        TrainingDivergedError, match=r"epoch 0, minibatch 0: loss inf.*the gradients of encoder\.0\.weight, .* and \d+ more"
    ):
        learner.update(rollout, 1e-3)
    assert all(each.isfinite().all() for each in network.parameters())
