"""Forks: from recorded states on, the world is stepped under actions that nobody chose, and cores are stepped along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._beliefs import recorded_belief
from worldprobe.activations._describe import describe_world
from worldprobe.activations._episodes import Array
from worldprobe.activations._files import RecordingError
from worldprobe.activations._manifest import differences
from worldprobe.activations._reader import Recording
from worldprobe.activations._replay import check_sites
from worldprobe.agents import Agent, agent_inputs
from worldprobe.worlds import Belief, BeliefFilter, State, World


@dataclass(frozen=True, eq=False)
class Forks:
    """`n_forks` futures of `horizon` steps each; index j holds what step j + 1 after the row brought.

    A fork that is not alive has ended: the world stands still there, and nobody receives anything any more.
    """

    rows: Array
    """int64 (n_forks,): the rows of the recording that the forks start from."""
    channels: frozenset[str]
    """What the expectations condition on."""
    action: Array
    """int64 (n_forks, horizon): drawn uniformly and independently of everything."""
    reward: Array
    """float32 (n_forks, horizon): what each action brought, 0 after the end."""
    observation: Array
    """float32 (n_forks, horizon, *observation_shape): after each action; the last one again after the end."""
    alive: Array
    """bool (n_forks, horizon): whether the episode goes on after each action."""
    factors: dict[str, Array]
    """Each factor after each action: int64 (n_forks, horizon), or float (n_forks, horizon, size)."""
    states: dict[str, Array]
    """The world's state after each action, leaf by leaf (n_forks, horizon, ...)."""
    expected: dict[str, Array]
    """E[factor | b], float32 (n_forks, horizon, size), with the exact belief started at the row's b_t and updated by the law
    that was stepped: the ceiling. Empty where the world gives no belief."""

    @property
    def horizon(self) -> int:
        """Number of steps."""
        return int(self.action.shape[1])

    def __len__(self) -> int:
        return int(self.action.shape[0])

    def take(self, chosen: Array) -> Forks:
        """Return the forks at some positions (numbers or a mask)."""
        return replace(
            self,
            rows=self.rows[chosen],
            action=self.action[chosen],
            reward=self.reward[chosen],
            observation=self.observation[chosen],
            alive=self.alive[chosen],
            factors={name: values[chosen] for name, values in self.factors.items()},
            states={name: values[chosen] for name, values in self.states.items()},
            expected={name: values[chosen] for name, values in self.expected.items()},
        )


def fork_stream(
    world: World,
    recording: Recording,
    rows: Array,
    horizon: int,
    generator: torch.Generator,
    law: World | None = None,
    actions: Array | None = None,
) -> Forks:
    """Step the world from recorded states under actions drawn uniformly, whatever any policy would choose.

    s'_0 = s_t, b'_0 = b_t; then a'_j ~ uniform, (s'_{j+1}, r'_j) ~ law(s'_j, a'_j), o'_{j+1} ~ observation of s'_{j+1}, and
    b'_{j+1} is the Bayes update of b'_j under the same law. Forks depend on the world alone: every network is stepped on
    the same ones by `fork_core`. Equal generators give equal actions under every law.

    Parameters
    ----------
    world : World
        The world of the recording; gives "simulation".
    recording : Recording
        Holds the states (and beliefs) at `rows`; it is not changed.
    rows : ndarray
        int64 (n_forks,): rows of the recording; repeat a row to fork it more than once.
    horizon : int
        Number of steps.
    generator : torch.Generator
        Source of all chance.
    law : World, optional
        A counterfeit with the states, observations and rewards of `world`; by default `world` itself.
    actions : ndarray, optional
        int64 (n_forks, horizon): what is done instead of drawn actions. Equal generators then give equal noise.

    Returns
    -------
    Forks

    Raises
    ------
    Unavailable
        If the world cannot be stepped from a state.
    RecordingError
        If the recording is of another world.
    ValueError
        If `horizon` is below 1, or `actions` do not fit.

    Examples
    --------
    >>> import tempfile, numpy as np, torch
    >>> from worldprobe.activations import CommonBehaviour, fork_stream, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=10, seed=0) as recording:
    ...         forks = fork_stream(world, recording, np.array([0, 0, 5]), 4, torch.Generator().manual_seed(0))
    >>> forks.action.shape, forks.observation.shape, forks.expected["position"].shape
    ((3, 4), (3, 4, 4), (3, 4, 13))

    References
    ----------
    Mikulik et al. 2020, "Meta-trained agents implement Bayes-optimal agents" (stepping one machine inside another).
    """
    law = law or world
    _check_origin(world, recording, horizon)
    action = _actions(actions, world, len(rows), horizon, generator)
    front = _front(world, law, recording, rows, generator)
    steps = [front.advance(action[:, step], generator) for step in range(horizon)]
    return Forks(
        rows=np.asarray(rows),
        channels=recording.channels,
        action=action.numpy(),
        reward=_column(steps, "reward"),
        observation=_column(steps, "observation"),
        alive=_column(steps, "alive"),
        factors={name: _column(steps, f"factor/{name}") for name in front.factor_names},
        states={name: _column(steps, f"state/{name}") for name in front.state},
        expected={name: _column(steps, f"expected/{name}") for name in front.factor_names if front.belief},
    )


@torch.no_grad()
def fork_core(agent: Agent, forks: Forks, core_state: Array | Tensor, sites: Sequence[str] = ("core.h",)) -> dict[str, Array]:
    """Step an agent's core along forks from its own state at each row: its update under actions it would not choose.

    At step j the core receives (o'_{j+1}, a'_j, r'_j), as it would in the world; the state before the first is that after o_t.

    Parameters
    ----------
    agent : Agent
        Any agent with the channels of the forks.
    forks : Forks
        From `fork_stream`.
    core_state : ndarray or Tensor
        float32 (n_forks, state_size): the agent's "core.state" at `forks.rows`, from `replay`.
    sites : sequence of str
        Names of `agent.sites`, or "core.state".

    Returns
    -------
    dict of str to ndarray
        Site to float32 (n_forks, horizon, width); zero where a fork is not alive.

    Raises
    ------
    KeyError
        If the agent has no such site.
    RecordingError
        If the core states or the channels do not fit.

    Examples
    --------
    >>> import tempfile, numpy as np, torch
    >>> from worldprobe.activations import CommonBehaviour, fork_core, fork_stream, record, replay
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> world, rows = make_world("tmaze"), np.array([0, 3])
    >>> agent = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=10, seed=0) as recording:
    ...         forks = fork_stream(world, recording, rows, 5, torch.Generator().manual_seed(0))
    ...         core_state = replay(agent, recording, ["core.state"])["core.state"][rows]
    >>> fork_core(agent, forks, core_state)["core.h"].shape
    (2, 5, 8)
    """
    _check_core(agent, forks, core_state)
    widths = check_sites(agent, sites)
    arrays = {site: np.zeros((*forks.action.shape, width), np.float32) for site, width in widths.items()}
    state = torch.as_tensor(core_state).clone()
    for step in range(forks.horizon):
        going = np.flatnonzero(forks.alive[:, step])
        observation, action, reward = (torch.from_numpy(each[going, step]) for each in (forks.observation, forks.action, forks.reward))
        inputs = agent_inputs(observation, action, reward, agent.channels, agent.n_actions)
        values = agent.activations(inputs.unsqueeze(0), state[going])
        state[going] = values["core.state"][0]
        for site, array in arrays.items():
            array[going, step] = values[site][0].numpy()
    return arrays


@dataclass(eq=False)
class _Front:
    """Where all forks stand."""

    world: World
    law: World
    belief_filter: BeliefFilter | None
    state: State
    belief: Belief
    observation: Tensor
    alive: Tensor

    @property
    def factor_names(self) -> list[str]:
        return [factor.name for factor in self.world.factors]

    def advance(self, action: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Step the forks that are alive and return how all of them stand."""
        going = self.alive.nonzero().squeeze(1)
        state, received, terminated = self.law.step(_pick(self.state, going), action[going], generator)
        observation = self.law.observe(state, generator)
        self.state = _put(self.state, going, state)
        self.observation = self.observation.index_copy(0, going, observation)
        self.alive = self.alive.index_copy(0, going, ~terminated)
        if self.belief_filter:
            before = _pick(self.belief, going)
            after = self.belief_filter.update(before, action[going], received, observation, terminated, generator)
            self.belief = _put(self.belief, going, after)
        reward = torch.zeros(len(self.alive)).index_copy(0, going, received)
        return {"reward": reward, "observation": self.observation, "alive": self.alive, **self._truth()}

    def _truth(self) -> dict[str, Tensor]:
        factors = {f"factor/{name}": values for name, values in self.world.factor_values(self.state).items()}
        factors |= {f"state/{name}": leaf for name, leaf in self.state.items()}
        if not self.belief_filter:
            return factors
        expected = self.world.expect_factors(self.belief)
        return factors | {f"expected/{name}": values.float() for name, values in expected.items()}


def _actions(given: Array | None, world: World, n_forks: int, horizon: int, generator: torch.Generator) -> Tensor:
    """Return what is done in each fork and step, int64 (n_forks, horizon)."""
    if given is None:
        return torch.randint(world.n_actions, (n_forks, horizon), generator=generator)
    actions = torch.from_numpy(np.ascontiguousarray(given))
    if tuple(actions.shape) != (n_forks, horizon) or not ((actions >= 0) & (actions < world.n_actions)).all():
        raise ValueError(f"actions must be numbers below {world.n_actions} of shape {(n_forks, horizon)}; got {tuple(actions.shape)}")
    return actions


def _front(world: World, law: World, recording: Recording, rows: Array, generator: torch.Generator) -> _Front:
    """Return the forks before their first step."""
    leaves = {key.removeprefix("state/"): recording[key] for key in recording if key.startswith("state/")}
    has_belief = "belief" in law.gives
    return _Front(
        world=world,
        law=law,
        belief_filter=law.belief_filter(recording.channels) if has_belief else None,
        state={name: torch.from_numpy(array[rows]) for name, array in leaves.items()},
        belief=recorded_belief(recording, world, rows, generator) if has_belief else {},
        observation=torch.from_numpy(recording["observation"][rows]),
        alive=torch.ones(len(rows), dtype=torch.bool),
    )


def _pick(leaves: State, rows: Tensor) -> State:
    return {name: leaf[rows] for name, leaf in leaves.items()}


def _put(leaves: State, rows: Tensor, values: State) -> State:
    return {name: leaf.index_copy(0, rows, values[name]) for name, leaf in leaves.items()}


def _column(steps: list[dict[str, Tensor]], key: str) -> Array:
    """Return one quantity over all steps, (n_forks, horizon, ...)."""
    return torch.stack([step[key] for step in steps], 1).numpy()


def _check_origin(world: World, recording: Recording, horizon: int) -> None:
    """Raise unless the recording holds states of exactly this world."""
    if "simulation" not in world.gives:
        hint = "; forks of environments that copy themselves are not made yet" if "snapshot" in world.gives else ""
        raise world.unavailable(f"pure `step`, which forks need{hint}")
    changed = differences(recording.identity.world, describe_world(world))
    if changed:
        raise RecordingError(f"{recording.path} was recorded in another world ({'; '.join(changed[:3])})")
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1; got {horizon}")


def _check_core(agent: Agent, forks: Forks, core_state: Array | Tensor) -> None:
    if agent.channels != forks.channels:
        raise RecordingError(
            f"agent {agent.name!r} receives {sorted(agent.channels)}, but the forks' expectations condition on {sorted(forks.channels)}"
        )
    if tuple(core_state.shape) != (len(forks), agent.state_size):
        raise RecordingError(
            f"expected core states of shape {(len(forks), agent.state_size)}, one per fork; got {tuple(core_state.shape)}: "
            "take the rows of replay(agent, recording, ['core.state'])"
        )
