from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.agents import CORES, NetworkConfig, RecurrentQNetwork, Rollout
from worldprobe.agents._segments import Segments, stretch_borders

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
    seen, batch = [], Segments(rollout).batch()
    inputs = batch.on_grid(batch.inputs)
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
        assert inputs[:length, column, 0].tolist() == rows.tolist()
        assert inputs[length, column, 0].item() == rows[-1].item() + 0.5
        assert batch.reward[:length, column].tolist() == (rows + 1).tolist()
        assert batch.reward[length:, column].abs().sum() == 0
        assert batch.is_last[:, column].nonzero().tolist() == [[length - 1]]
        assert torch.equal(batch.terminated[:length, column], rollout.terminated.flatten()[rows])
    assert sorted(seen) == list(range(N_ENVS * N_STEPS))


@given(st.lists(st.booleans(), min_size=N_ENVS * N_STEPS, max_size=N_ENVS * N_STEPS), st.sets(st.integers(0, N_ENVS - 1), min_size=1))
def test_minibatches_are_whole_environments(ends: list[bool], envs: set[int]) -> None:
    rollout = labelled(torch.tensor(ends).reshape(N_ENVS, N_STEPS))
    chosen = torch.tensor(sorted(envs), dtype=torch.int64)
    batch = Segments(rollout).batch(chosen)
    assert len(batch.inputs) == sum(n_steps * n for n_steps, n in batch.stretches)
    assert sorted(batch.action[batch.is_real].tolist()) == [env * N_STEPS + t for env in sorted(envs) for t in range(N_STEPS)]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(0, 30))
def test_stretches_cost_least(extents: list[int], overhead: int) -> None:
    def cost(borders: tuple[int, ...]) -> int:
        """Rows of every segment, padded to the first border that it does not exceed, and the overhead of every stretch."""
        return overhead * len(borders) + sum(min(border for border in borders if border >= each) for each in extents)

    distinct = sorted(set(extents))
    choices = [(*inner, distinct[-1]) for size in range(len(distinct)) for inner in itertools.combinations(distinct[:-1], size)]
    found = stretch_borders(torch.tensor(extents), overhead)
    assert tuple(found) in choices
    assert cost(tuple(found)) == min(map(cost, choices))


@given(st.lists(st.booleans(), min_size=N_ENVS * N_STEPS, max_size=N_ENVS * N_STEPS), st.integers(0, 40))
def test_rows_are_as_many_as_the_stretches_cost(ends: list[bool], overhead: int) -> None:
    """Segments that are over take no part in the stretches that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldprobe.agents._segments.CALL_OVERHEAD", overhead)
        batch = Segments(labelled(torch.tensor(ends).reshape(N_ENVS, N_STEPS))).batch()
    extents = (batch.is_real.sum(0) + 1).tolist()
    borders = list(itertools.accumulate(n_steps for n_steps, _ in batch.stretches))
    assert len(batch.inputs) == sum(min(border for border in borders if border >= extent) for extent in extents)
    for begin, (_, n) in zip([0, *borders], batch.stretches, strict=False):
        assert n == sum(extent > begin for extent in extents)


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("core", [core for core in CORES if core != "drc"])
@pytest.mark.parametrize("overhead", [0, 1000])
def test_segments_give_the_values_that_stepping_with_resets_gives(
    core: str, n_layers: int, overhead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused pass over cut and padded pieces is the step-wise pass that chose the actions."""
    generator = torch.Generator().manual_seed(0)
    network = RecurrentQNetwork(NetworkConfig(core=core, hidden_size=6, n_layers=n_layers), 3, 2, generator)
    rollout = labelled(torch.rand(N_ENVS, N_STEPS, generator=generator) < 0.3)
    rollout.inputs, rollout.successors = torch.randn(2, N_ENVS, N_STEPS, 3, generator=generator)
    rollout.core_state = torch.randn(N_ENVS, network.state_size, generator=generator)
    stepped, followed = step_through(network, rollout)
    monkeypatch.setattr("worldprobe.agents._segments.CALL_OVERHEAD", overhead)
    batch = Segments(rollout).batch()
    assert (len(batch.stretches) > 1) == (overhead == 0)
    with torch.no_grad():
        q = network.segment_values(batch, batch.core_state)
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
