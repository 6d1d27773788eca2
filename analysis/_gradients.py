"""Is its gradient right? The response of the forked update to actions and to states, beside the world's own derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from worldprobe.activations import Forks, fork_stream
from worldprobe.analysis._decoders import Decoder
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._labels import Labels
from worldprobe.analysis._sources import History
from worldprobe.probes import Estimate, ratio_interval, t_interval
from worldprobe.worlds import SmoothWorld, State, World

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

STEP = 1e-3
"""Length of the finite differences that derivatives of factors are taken by."""

OFFERED = 4
"""Rows that pairs of close states are chosen from, per pair."""

NEIGHBOURS = 30
"""Neighbours that are looked at for one of another episode."""

N_BLOCKS = 10
"""Blocks of episodes that intervals of cosines are over."""


@dataclass(frozen=True)
class Gradients:
    """How well somebody's forked update responds, after k steps."""

    who: str
    """The agent, its initialisation, the present input, or the exact filter."""
    to: str
    """"action" or "state"."""
    horizon: int
    cosine: Estimate
    """Between its responses and the true ones, all of them as one vector; over blocks of episodes."""
    relative_error: Estimate
    """Sum of squared errors of its responses over the sum of squared true ones: 0 right, 1 as if it did not respond; over episodes."""
    prediction_error: Estimate
    """Sum of squared errors of what it decodes over the total variation: 0 right, 1 no better than the mean."""
    n_forks: int


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two futures that differ in one thing, and what the true law makes of the difference to first order."""

    one: Forks
    other: Forks
    true: Floats
    """(n, horizon, width)"""
    alive: NDArray[np.bool_]


def measure_gradients(examination: Examination, *, horizon: int = 5, n_forks: int = 2000) -> list[Gradients]:
    r"""Compare responses of the forked update with the Jacobians of the world.

    *To action*: from one recorded state two futures are stepped, with equal noise, that differ in their first action alone. The true
    response is
    :math:`\partial s_{t+k} / \partial s_{t+1} \cdot (f(s_t, a) - f(s_t, a'))`, the first factor by the Jacobians along the way; the agent's
    is the difference of what the frozen decoder reads from its core in the two. *To state*: futures of two recorded states of different
    episodes that are close to each other, under equal actions and noise; the true response is
    :math:`\partial s_{t+k} / \partial s_t \cdot (s_t - s'_t)`. The exact filter on the same forks is the ceiling; the present input and the
    untrained twin are floors. A model may be wrong about the state and right about its gradient, and the other way round.

    Parameters
    ----------
    examination : Examination
        Of an agent that can be stepped, in a smooth world, on one stream.
    horizon : int
        Forked steps.
    n_forks : int
        Pairs of futures.

    Returns
    -------
    list of Gradients
        For the agent, its initialisation where it is known, the present input, and the exact filter.

    Raises
    ------
    Unavailable
        If the world gives no Jacobian, or cannot be stepped.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, record
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.analysis import Examination, Labels, Stream, measure_gradients
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("pendulum")
    >>> agent = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recording = record(None, world, f"{folder}/c.wpr", CommonBehaviour(world, agent.channels), n_episodes=30, seed=0)
    ...     examination = Examination(agent, Stream(world, recording, Labels(world.factors)), "common")
    ...     found = measure_gradients(examination, horizon=2, n_forks=200)
    >>> sorted({each.who for each in found}), sorted({each.to for each in found})
    (['exact filter', 'network', 'present input'], ['action', 'state'])
    """
    world, stream = examination.world, examination.stream
    if not isinstance(world, SmoothWorld) or any(factor.is_categorical for factor in world.factors):
        raise world.unavailable("Jacobian of continuous factors to compare with")
    rng = np.random.default_rng(examination.config.seed)
    eligible = stream.scored[stream.t[stream.scored] + horizon < world.time_limit]
    rows = np.sort(rng.choice(eligible, min(n_forks, len(eligible)), replace=False))
    pairs = {
        "action": _by_action(examination, world, rows, horizon, rng),
        "state": _by_state(examination, world, eligible, n_forks, horizon, rng),
    }
    readers = {examination.agent.name: examination.decoder, "present input": Decoder(History(stream))}
    if examination.twins.own is not None:
        readers["own init"] = Decoder(examination.site(examination.twins.own))
    found = list[Gradients]()
    for to, pair in pairs.items():
        read: dict[str, tuple[Floats, Floats]] = {
            who: (reader.fork_predictions(pair.one), reader.fork_predictions(pair.other)) for who, reader in readers.items()
        }
        if pair.one.expected:
            one, other = (stream.labels.encode_expected(each.expected).astype(np.float64) for each in (pair.one, pair.other))
            read["exact filter"] = one, other
        found += [_score(examination, who, to, k, pair, *both) for who, both in read.items() for k in range(1, horizon + 1)]
    return found


def _by_action(examination: Examination, world: SmoothWorld, rows: Integers, horizon: int, rng: np.random.Generator) -> _Pair:
    """Return futures that differ in their first action."""
    n_actions = world.n_actions
    actions = rng.integers(n_actions, size=(len(rows), horizon))
    others = actions.copy()
    others[:, 0] = (actions[:, 0] + 1 + rng.integers(n_actions - 1, size=len(rows))) % n_actions
    one, other = (_fork(examination, rows, each) for each in (actions, others))
    before = _recorded_state(examination, rows)
    by_force = world.jacobian(before, torch.from_numpy(actions[:, 0]))[1]
    forces = world.forces.numpy()
    first = by_force.double().numpy() * (forces[actions[:, 0]] - forces[others[:, 0]])[:, None]
    return _pair(examination, world, one, other, first, start=1)


def _by_state(
    examination: Examination, world: SmoothWorld, eligible: Integers, n_forks: int, horizon: int, rng: np.random.Generator
) -> _Pair:
    """Return futures of rows of different episodes whose states are close: the closest of several times as many."""
    groups = examination.stream.groups
    offered = np.sort(rng.choice(eligible, min(OFFERED * n_forks, len(eligible)), replace=False))
    vectors = _recorded_state(examination, eligible)["vector"].double().numpy()
    tree = cKDTree(vectors / np.maximum(vectors.std(axis=0), 1e-12))
    distances, near = (
        np.asarray(each) for each in tree.query(tree.data[np.searchsorted(eligible, offered)], k=min(NEIGHBOURS, len(eligible)))
    )
    apart = groups[eligible[near]] != groups[offered][:, None]
    first = apart.argmax(axis=1), np.arange(len(offered))
    length = np.where(apart.any(axis=1), distances[first[1], first[0]], np.inf)
    closest = np.sort(np.argsort(length, kind="stable")[: min(n_forks, int(np.isfinite(length).sum()))])
    rows, partner = offered[closest], eligible[near[first[1], first[0]]][closest]
    actions = rng.integers(world.n_actions, size=(len(rows), horizon))
    one, other = (_fork(examination, each, actions) for each in (rows, partner))
    mine, theirs = (_recorded_state(examination, each)["vector"].double().numpy() for each in (rows, partner))
    return _pair(examination, world, one, other, mine - theirs, start=0)


def _fork(examination: Examination, rows: Integers, actions: Integers) -> Forks:
    generator = torch.Generator().manual_seed(examination.config.seed)
    return fork_stream(examination.world, examination.stream.recording, rows, actions.shape[1], generator, actions=actions)


def _recorded_state(examination: Examination, rows: Integers) -> State:
    recording = examination.stream.recording
    keys = [key for key in recording if key.startswith("state/")]
    return {key.removeprefix("state/"): torch.from_numpy(np.asarray(recording[key][:])[rows]) for key in keys}


def _pair(examination: Examination, world: SmoothWorld, one: Forks, other: Forks, first: Floats, start: int) -> _Pair:
    """Carry a difference of states (n, d), before the first step (start 0) or after it (start 1), along the Jacobians of a future."""
    labels = examination.stream.labels
    change, steps = first, []
    for k in range(one.horizon):
        if k >= start:
            before = _recorded_state(examination, one.rows) if k == 0 else _leaves(one.states, k - 1)
            by_state = world.jacobian(before, torch.from_numpy(one.action[:, k]))[0]
            change = np.einsum("nij,nj->ni", by_state.double().numpy(), change)
        steps.append(_of_factors(world, labels, _leaves(one.states, k), change))
    return _Pair(one, other, np.stack(steps, axis=1), one.alive & other.alive)


def _leaves(states: dict[str, NDArray[np.generic]], k: int) -> State:
    return {name: torch.from_numpy(np.ascontiguousarray(values[:, k])) for name, values in states.items()}


def _of_factors(world: World, labels: Labels, state: State, change: Floats) -> Floats:
    """Return what a small change of the state (n, d) does to the labels, (n, width), by central differences."""
    vector = state["vector"].double()
    move = torch.from_numpy(change)
    size = torch.linalg.vector_norm(move, dim=1, keepdim=True).clamp_min(1e-300)
    ends = [_labels_of(world, labels, {"vector": vector + sign * STEP * move / size}) for sign in (1, -1)]
    changed: Floats = (ends[0] - ends[1]) / (2 * STEP) * size.numpy()
    return changed


def _labels_of(world: World, labels: Labels, state: State) -> Floats:
    """Return the labels of states in double precision."""
    values = world.factor_values(state)
    return np.concatenate([values[factor.name].double().numpy() / factor.scale for factor in labels.factors], axis=1)


def _score(examination: Examination, who: str, to: str, k: int, pair: _Pair, mine: Floats, theirs: Floats) -> Gradients:
    """Score responses after k steps, over the pairs that are alive there."""
    stream, alive = examination.stream, np.flatnonzero(pair.alive[:, k - 1])
    rows = pair.one.rows[alive]
    true, response = pair.true[alive, k - 1], (mine - theirs)[alive, k - 1].astype(np.float64)
    target = stream.labels.encode(pair.one.factors)[alive, k - 1].astype(np.float64)

    def sums(values: Floats) -> Floats:
        return stream.episode_sums(values, rows)

    error, size = sums(np.square(response - true).sum(1)), sums(np.square(true).sum(1))
    wrong = sums(np.square(target - mine[alive, k - 1]).sum(1))
    total = sums(np.square(target - target.mean(0)).sum(1))
    inner, length = sums((response * true).sum(1)), sums(np.square(response).sum(1))
    return Gradients(who, to, k, _cosine(inner, length, size), _ratio(error, size), _ratio(wrong, total), len(alive))


def _cosine(inner: Floats, length: Floats, size: Floats) -> Estimate:
    """Return the cosine of all responses, by blocks of episodes."""
    blocks = np.array_split(np.random.default_rng(0).permutation(len(inner)), N_BLOCKS)
    found = [inner[b].sum() / np.sqrt(max(length[b].sum() * size[b].sum(), 1e-300)) for b in blocks if size[b].sum() > 0]
    return t_interval(found)


def _ratio(numerator: Floats, denominator: Floats) -> Estimate:
    found = ratio_interval(numerator, denominator)
    return Estimate(found.estimate, found.lower, found.upper, np.nan, found.estimable, found.reason)
