"""Temporal difference models: on a finite world their predictions are the law at horizon 0, and dynamic programming beyond."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from worldprobe.activations import CommonBehaviour, record
from worldprobe.agents import (
    NetworkConfig,
    PqnConfig,
    RecurrentQNetwork,
    TdmConfig,
    check_agent,
    evaluate_return,
    load_checkpoint,
    make_network,
    train,
)
from worldprobe.analysis import Examination, Labels, Stream, read_law
from worldprobe.worlds import RandomConfig, RandomWorld, make_world

WORLD, HORIZONS = RandomWorld(RandomConfig(n_states=5, n_actions=3, n_successors=3)), 3
S, A = WORLD.tables.n_states, WORLD.n_actions
NETWORK = NetworkConfig(core="feedforward", hidden_size=64, encoder_sizes=(64,), layer_norm=False, horizons=HORIZONS)
CONFIG = TdmConfig(
    total_steps=80_000,
    n_envs=32,
    n_steps=16,
    learning_rate=3e-3,
    final_learning_rate=1e-5,
    max_gradient_norm=10.0,
    n_evaluations=1,
    n_evaluation_episodes=16,
    n_checkpoints=2,
)


def exact_futures() -> Tensor:
    """F[tau, s, a, g] (S,): where action a leads in tau + 1 steps, done to end near state g in mean absolute distance."""
    law, goals = WORLD.tables.transition, torch.eye(S, dtype=torch.float64)
    futures = [law.permute(1, 0, 2).unsqueeze(2).expand(S, A, S, S)]
    for _ in range(HORIZONS - 1):
        best = (futures[-1] - goals).abs().sum(-1).argmin(1)  # (S, g)
        reached = torch.stack([futures[-1][torch.arange(S), best[:, g], g] for g in range(S)], 1)  # (S, g, S)
        futures.append(torch.einsum("ast,tgu->sagu", law, reached))
    return torch.stack(futures)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> RecurrentQNetwork:
    return load_checkpoint(train(WORLD, NETWORK, CONFIG, tmp_path_factory.mktemp("tdm"), seed=0).final)[0]


@torch.no_grad()
def predicted(network: RecurrentQNetwork) -> Tensor:
    """The same futures as the network predicts them at the first step of an episode, in states."""
    seen = WORLD.tables.observation.float()
    inputs = torch.cat([seen, torch.zeros(S, A)], 1)
    y, _ = network.core.step(network.encoder(inputs), network.initial_state(S), torch.ones(S, dtype=torch.bool))
    each = [torch.stack([network.head(y, seen[g].expand(S, -1), torch.full((S,), tau)) for g in range(S)], 2) for tau in range(HORIZONS)]
    return torch.stack(each)[..., seen.argmax(1)].double()


def test_the_shortest_horizon_is_the_law_and_longer_ones_are_dynamic_programming(network: RecurrentQNetwork) -> None:
    distance = (predicted(network) - exact_futures()).abs().sum(-1) / 2
    assert distance[0].mean() < 0.06
    assert distance[0].max() < 0.15
    assert distance[1:].mean() < 0.12


def test_its_law_is_read_like_any_other(network: RecurrentQNetwork, tmp_path: Path) -> None:
    recording = record(None, WORLD, tmp_path / "c.wpr", CommonBehaviour(WORLD), 40, seed=0)
    examination = Examination(network, Stream(WORLD, recording, Labels(WORLD.factors)), "common")
    model = read_law(examination, network, WORLD)
    assert model.source == "one-step predictions"
    assert model.total_variation(WORLD.tables).mean() < 0.06


def test_it_acts_to_reach_its_goal(network: RecurrentQNetwork) -> None:
    """Its values are the predicted distances to the goal that is set, at the longest horizon; and it is an agent."""
    check_agent(network, WORLD)
    goal = WORLD.tables.observation[2].float()
    network.goal.copy_(goal)
    inputs = torch.cat([WORLD.tables.observation.float(), torch.zeros(S, A)], 1)
    q, _ = network.step(inputs, network.initial_state(S), torch.ones(S, dtype=torch.bool))
    longest = predicted(network)[HORIZONS - 1][:, :, 2]
    torch.testing.assert_close(q.double(), -(longest - torch.eye(S, dtype=torch.float64)[2]).abs().sum(-1), atol=1e-5, rtol=0)
    network.goal.zero_()
    assert evaluate_return(network, WORLD, 8, torch.Generator().manual_seed(0)).n_episodes == 8


def test_recurrent_ones_train_in_hidden_worlds(tmp_path: Path) -> None:
    world = make_world("memory-chain")
    network = NetworkConfig(core="gru", hidden_size=8, horizons=4)
    config = TdmConfig(total_steps=2048, n_envs=8, n_steps=16, n_evaluations=1, n_evaluation_episodes=8, n_checkpoints=2)
    result = train(world, network, config, tmp_path, seed=0)
    loaded, _ = load_checkpoint(result.final)
    check_agent(loaded, world)
    header, *_, last = (result.directory / "metrics.csv").read_text().splitlines()
    found = dict(zip(header.split(","), last.split(","), strict=True))
    assert 0 < float(found["one_step_loss"]) < 1


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tdm horizons, and nothing else does"):
        train(WORLD, NetworkConfig(), CONFIG, tmp_path, 0)
    with pytest.raises(ValueError, match="tdm horizons, and nothing else does"):
        train(WORLD, NETWORK, PqnConfig(), tmp_path, 0)
    with pytest.raises(ValueError, match="choose one"):
        NetworkConfig(horizons=3, actor_critic=True)
    with pytest.raises(ValueError, match="horizons must be 0 to"):
        NetworkConfig(horizons=1000)
    with pytest.raises(ValueError, match="expected n_goals >= 1"):
        TdmConfig(n_goals=0)
    assert make_network(WORLD, NETWORK, 0).sites["one_step"] == A * WORLD.observation_size
