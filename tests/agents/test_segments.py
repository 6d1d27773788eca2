from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.agents import CORES, NetworkConfig, RecurrentQNetwork, Rollout
from worldprobe.agents._segments import cut_segments, group_by_length

N_ENVS, N_STEPS = 4, 6


def labelled(ended: torch.Tensor) -> Rollout:
    """A rollout in which every number says where it comes from."""
    label = torch.arange(N_ENVS * N_STEPS).reshape(N_ENVS, N_STEPS)
    return Rollout(
        inputs=label.unsqueeze(-1).float(),
        successors=label.unsqueeze(-1).float() + 0.5,
        action=label,
        reward=label.float() + 1,
        terminated=ended & (label % 2 == 0),
        ended=ended,
        core_state=torch.arange(1.0, N_ENVS + 1).unsqueeze(1),
    )


@given(st.lists(st.booleans(), min_size=N_ENVS * N_STEPS, max_size=N_ENVS * N_STEPS))
def test_every_step_is_in_exactly_one_unbroken_segment(ends: list[bool]) -> None:
    rollout = labelled(torch.tensor(ends).reshape(N_ENVS, N_STEPS))
    seen = []
    for batch in cut_segments(rollout):
        for column in range(len(batch.env)):
            real = batch.is_real[:, column]
            length = int(real.sum())
            assert real[:length].all()
            rows = batch.action[:length, column]
            seen += rows.tolist()
            env, start = int(batch.env[column]), int(rows[0]) % N_STEPS
            assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + length))
            assert (rows // N_STEPS == env).all()
            assert not rollout.ended.flatten()[rows[:-1]].any()
            assert start == 0 or rollout.ended[env, start - 1]
            assert batch.core_state[column].item() == (env + 1 if start == 0 else 0)
            assert batch.inputs[:length, column, 0].tolist() == rows.tolist()
            assert batch.inputs[length, column, 0].item() == rows[-1].item() + 0.5
            assert batch.reward[:length, column].tolist() == (rows + 1).tolist()
            assert batch.reward[length:, column].abs().sum() == 0
            assert batch.is_last[:, column].nonzero().tolist() == [[length - 1]]
            assert torch.equal(batch.terminated[:length, column], rollout.terminated.flatten()[rows])
    assert sorted(seen) == list(range(N_ENVS * N_STEPS))


@given(st.lists(st.booleans(), min_size=N_ENVS * N_STEPS, max_size=N_ENVS * N_STEPS), st.sets(st.integers(0, N_ENVS - 1)))
def test_minibatches_are_whole_environments(ends: list[bool], envs: set[int]) -> None:
    rollout = labelled(torch.tensor(ends).reshape(N_ENVS, N_STEPS))
    chosen = torch.tensor(sorted(envs), dtype=torch.int64)
    seen = [row for batch in cut_segments(rollout) for part in [batch.of_envs(chosen)] for row in part.action[part.is_real].tolist()]
    assert sorted(seen) == [env * N_STEPS + t for env in sorted(envs) for t in range(N_STEPS)]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(0, 30), st.integers(0, 5))
def test_groups_cost_least(lengths: list[int], overhead: int, per_step: int) -> None:
    length = torch.tensor(lengths)
    groups = group_by_length(length, overhead, per_step)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(lengths)))

    def cost(borders: tuple[int, ...]) -> int:
        """Cost of the groups (0, b_1], (b_1, b_2], ... whose longest segments are the borders."""
        total = 0
        for low, high in itertools.pairwise((0, *borders)):
            total += overhead + (high + 1) * (per_step + sum(low < each <= high for each in lengths))
        return total

    distinct = sorted(set(lengths))
    choices = ((*inner, distinct[-1]) for size in range(len(distinct)) for inner in itertools.combinations(distinct[:-1], size))
    found = sum(overhead + (int(length[group].max()) + 1) * (per_step + group.numel()) for group in groups)
    assert found == min(cost(borders) for borders in choices)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("core", [core for core in CORES if core != "drc"])
def test_segments_give_the_values_that_stepping_with_resets_gives(core: str, n_layers: int) -> None:
    """The fused pass over cut and padded pieces is the step-wise pass that chose the actions."""
    generator = torch.Generator().manual_seed(0)
    network = RecurrentQNetwork(NetworkConfig(core=core, hidden_size=6, n_layers=n_layers), 3, 2, generator)
    rollout = labelled(torch.rand(N_ENVS, N_STEPS, generator=generator) < 0.3)
    rollout.inputs, rollout.successors = torch.randn(2, N_ENVS, N_STEPS, 3, generator=generator)
    rollout.core_state = torch.randn(N_ENVS, network.state_size, generator=generator)
    stepped, followed = step_through(network, rollout)
    for batch in cut_segments(rollout):
        with torch.no_grad():
            q, _ = network.sequence(batch.inputs, batch.core_state)
        for column in range(len(batch.env)):
            rows = batch.action[batch.is_real[:, column], column]
            torch.testing.assert_close(q[: len(rows), column], stepped[rows], atol=1e-5, rtol=0)
            torch.testing.assert_close(q[len(rows), column], followed[rows[-1]], atol=1e-5, rtol=0)


def step_through(network: RecurrentQNetwork, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Q of every step and of what followed it, by steps with resets, in the order of the labels."""
    state, goes_on = rollout.core_state, torch.zeros(N_ENVS, dtype=torch.bool)
    stepped, followed = [], []
    for t in range(N_STEPS):
        q, state = network.step(rollout.inputs[:, t], state, rollout.ended[:, t - 1] if t else goes_on)
        stepped.append(q)
        followed.append(network.step(rollout.successors[:, t], state, goes_on)[0])
    return torch.stack(stepped, 1).flatten(0, 1), torch.stack(followed, 1).flatten(0, 1)
