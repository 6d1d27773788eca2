from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldprobe.agents import CORES, NetworkConfig, RecurrentQNetwork, Rollout
from worldprobe.agents._segments import STEP_OVERHEAD, SegmentBatch, Segments, best_height, in_lanes

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
        assert first_state(batch, column) == (env + 1 if start == 0 else 0)
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
    assert sorted(batch.action[batch.is_real].tolist()) == [env * N_STEPS + t for env in sorted(envs) for t in range(N_STEPS)]


segments = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=14)


@given(segments, st.integers(0, 12))
def test_lanes_hold_every_segment_once_with_a_gap_between(drawn: list[tuple[int, bool]], more: int) -> None:
    extents, goes_on = map(list, zip(*sorted(drawn, reverse=True), strict=True))
    height = max(extents) + more
    lanes, offsets = in_lanes(extents, goes_on, height)
    assert set(lanes) == set(range(max(lanes) + 1))
    for lane in set(lanes):
        inside = sorted((offsets[each], extents[each]) for each in range(len(extents)) if lanes[each] == lane)
        assert inside[0][0] == 0
        for (begin, extent), (following, _) in pairwise(inside):
            assert following == begin + extent + 1
        assert sum(inside[-1]) <= height
    assert all(offsets[each] == 0 for each in range(len(extents)) if goes_on[each])


@given(segments)
def test_no_two_free_lanes_would_fit_into_one(drawn: list[tuple[int, bool]]) -> None:
    """What any first- or best-fit packing keeps: so, of equal heights, the lanes are at most about twice the fewest."""
    extents = sorted((extent for extent, _ in drawn), reverse=True)
    height = 2 * max(extents)
    lanes, offsets = in_lanes(extents, [False] * len(extents), height)
    used = [max(offsets[each] + extents[each] for each in range(len(extents)) if lanes[each] == lane) for lane in set(lanes)]
    assert all(one + 1 + other > height for index, one in enumerate(used) for other in used[:index])


@given(segments)
def test_the_height_is_no_worse_than_a_lane_for_each(drawn: list[tuple[int, bool]]) -> None:
    extents, goes_on = map(list, zip(*sorted(drawn, reverse=True), strict=True))
    height = best_height(extents, goes_on)
    n_lanes = max(in_lanes(extents, goes_on, height)[0]) + 1
    assert height >= max(extents)
    assert height * (n_lanes + STEP_OVERHEAD) <= max(extents) * (len(extents) + STEP_OVERHEAD)


def test_short_episodes_are_padded_little() -> None:
    """64 environments x 64 steps of episodes of 9 to 15 steps, in four minibatches: rows run per row that is needed."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(9, 16, (64, 20), generator=generator).cumsum(1)
    ended = torch.zeros(64, 64, dtype=torch.bool).scatter_(1, edges.clamp(max=63), True)
    steps = torch.zeros(64, 64)
    rollout = Rollout(
        steps.unsqueeze(2), steps.unsqueeze(2), steps.long(), steps, torch.zeros_like(ended), ended, core_state=torch.ones(64, 1)
    )
    cut = Segments(rollout, 4)
    run = needed = 0
    for envs in torch.arange(64).chunk(4):
        batch = cut.batch(envs)
        run += batch.inputs.shape[0] * batch.inputs.shape[1]
        needed += len(batch.cell)
    assert run / needed < 1.2


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("core", [core for core in CORES if core != "drc"])
@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("height", [1, 3])
def test_segments_give_the_values_that_stepping_with_resets_gives(
    core: str, n_layers: int, is_stored: bool, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass over lanes of whatever height is the step-wise pass that chose the actions, from stored states and from none."""
    monkeypatch.setattr("worldprobe.agents._segments.best_height", lambda extents, _: height * max(extents))
    generator = torch.Generator().manual_seed(0)
    network = RecurrentQNetwork(NetworkConfig(core=core, hidden_size=6, n_layers=n_layers), 3, 2, generator)
    rollout = labelled(torch.rand(N_ENVS, N_STEPS, generator=generator) < 0.5)
    rollout.inputs, rollout.successors = torch.randn(2, N_ENVS, N_STEPS, 3, generator=generator)
    rollout.core_state = torch.randn(N_ENVS, network.state_size, generator=generator) * is_stored
    stepped, followed = step_through(network, rollout)
    batch = Segments(rollout).batch()
    assert batch.gap is not None or height == 1
    with torch.no_grad():
        q = network.segment_values(batch, batch.core_state)
    for column in range(len(batch.env)):
        rows = batch.action[batch.is_real[:, column], column]
        torch.testing.assert_close(q[: len(rows), column], stepped[rows], atol=1e-5, rtol=0)
        torch.testing.assert_close(q[len(rows), column], followed[rows[-1]], atol=1e-5, rtol=0)


def first_state(batch: SegmentBatch, column: int) -> float:
    """Return the core state that a segment begins in: its lane's, or zeros behind a gap."""
    n_lanes = len(batch.core_state)
    cell = int(batch.cell[batch.place == column])
    if cell < n_lanes:
        return batch.core_state[cell].item()
    assert batch.gap is not None
    assert batch.gap.flatten()[cell - n_lanes]
    return 0.0


def step_through(network: RecurrentQNetwork, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Q of every step and of what followed it, by steps with resets, in the order of the labels."""
    state, goes_on = rollout.core_state, torch.zeros(N_ENVS, dtype=torch.bool)
    stepped, followed = [], []
    for t in range(N_STEPS):
        q, state = network.step(rollout.inputs[:, t], state, rollout.ended[:, t - 1] if t else goes_on)
        stepped.append(q)
        followed.append(network.step(rollout.successors[:, t], state, goes_on)[0])
    return torch.stack(stepped, 1).flatten(0, 1), torch.stack(followed, 1).flatten(0, 1)
