"""Worlds of finitely many states, given by tables: fast simulation and every exact truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._counterfeit import counterfeit_transition
from worldprobe.worlds._filter import FiniteFilter, push
from worldprobe.worlds._tables import FiniteTables, RowSampler
from worldprobe.worlds._world import Belief, Capability, Factor, Headline, State, World


class FiniteWorld(World):
    """A partially observed world given by its tables.

    The state is `{"state": int64 (n,)}`, the belief `{"state": float64 (n, S)}`, the observation a one-hot. Terminal
    states are absorbing, pay nothing and are observed like any other.

    Parameters
    ----------
    tables : FiniteTables
        Initial law, P, O, R and the terminal states.
    name : str
        Name of the world in recordings and reports.
    factors : Mapping[Factor, Tensor]
        For each categorical factor the class of every state, int64 (S,).
    action_names : tuple of str
        One name per action.
    discount : float
        Discount factor.
    time_limit : int
        Steps after which an episode is truncated.
    exploration : tuple of float
        Action probabilities of undirected exploration.
    headline : Headline
        The cell that the world's ladder is decided in.
    positions : Tensor, optional
        float64 (S, 2): where each state lies on a plane, for figures.
    reward_functions : Tensor, optional
        float64 (K, A, S, S): reward functions that every move is paid by at once, that of the tables among them.

    Raises
    ------
    ValueError
        If names, factors, exploration, positions or reward functions do not fit the tables.

    Examples
    --------
    A coin under a cup: turning it over is an action, looking costs nothing, but heads is seen only nine times in ten.

    >>> import torch
    >>> from worldprobe.worlds import Factor, FiniteTables, FiniteWorld, Headline
    >>> keep, turn = torch.eye(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).flip(0)
    >>> tables = FiniteTables(
    ...     initial=torch.tensor([0.5, 0.5], dtype=torch.float64), transition=torch.stack([keep, turn]),
    ...     observation=torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64),
    ...     reward=torch.zeros(2, 2, 2, dtype=torch.float64), terminal=torch.zeros(2, dtype=torch.bool))
    >>> world = FiniteWorld(
    ...     tables, name="coin", factors={Factor("side", "categorical", 2, labels=("heads", "tails")): torch.arange(2)},
    ...     action_names=("keep", "turn"), discount=0.9, time_limit=10, exploration=(0.5, 0.5), headline=Headline("side", 2))
    >>> heads = world.belief_filter(frozenset({"action", "observation"})).start(torch.tensor([[1.0, 0.0]]), torch.Generator())
    >>> world.expect_factors(world.predict_belief(heads, torch.tensor([[1]])))["side"].round(decimals=3).tolist()
    [[0.1, 0.9]]
    """

    def __init__(
        self,
        tables: FiniteTables,
        *,
        name: str,
        factors: Mapping[Factor, Tensor],
        action_names: tuple[str, ...],
        discount: float,
        time_limit: int,
        exploration: tuple[float, ...],
        headline: Headline,
        positions: Tensor | None = None,
        reward_functions: Tensor | None = None,
    ) -> None:
        _check_fit(tables, factors, action_names, exploration, positions)
        self.tables = tables
        self.name = name
        self.factors = tuple(factors)
        self.action_names = action_names
        self.discount = discount
        self.time_limit = time_limit
        self.exploration = exploration
        self.headline = headline
        self.positions = positions
        self.observation_shape = (tables.n_observations,)
        self.class_maps = {factor.name: classes for factor, classes in factors.items()}
        capabilities: set[Capability] = {"simulation", "belief", "tables", "optimum"}
        self.reward_functions = reward_functions
        if reward_functions is not None:
            capabilities.add("rewards")
            self.n_rewards = len(reward_functions)
            self._own_reward = one_hot(torch.tensor(_find_reward(tables, reward_functions)), self.n_rewards).float()
        self.gives = frozenset(capabilities)
        self._set_up_simulation()

    def _set_up_simulation(self) -> None:
        """Flatten the tables into what `reset`, `observe` and `step` look up."""
        tables = self.tables
        S, A = tables.n_states, tables.n_actions
        self._initial = RowSampler(tables.initial.unsqueeze(0))
        self._moves = RowSampler(tables.transition.transpose(0, 1).reshape(S * A, S))
        source, action = self._moves.row // A, self._moves.row % A
        self._rewards = tables.reward[action, source, self._moves.column].float()
        self._ends = tables.terminal[self._moves.column]
        self._sights = RowSampler(tables.observation)
        self._one_hot = torch.eye(tables.n_observations, device=tables.initial.device)[self._sights.column]
        self._is_seen_exactly = self._sights.column.numel() == S

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states."""
        start = torch.zeros(n, dtype=torch.int64, device=self.tables.initial.device)
        return {"state": self._initial.column.index_select(0, self._initial.draw(start, generator))}

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Draw the observation of each state, a float32 one-hot (n, n_observations)."""
        if self._is_seen_exactly:
            return self._one_hot.index_select(0, state["state"])
        return self._one_hot.index_select(0, self._sights.draw(state["state"], generator))

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        row = torch.add(action, state["state"], alpha=self.tables.n_actions)
        move = self._moves.draw(row, generator)
        moved = {"state": self._moves.column.index_select(0, move)}
        return moved, self._rewards.index_select(0, move), self._ends.index_select(0, move)

    def rewards(self, state: State, action: Tensor, following: State) -> Tensor:
        """Return what each of `reward_functions` pays for moving from `state` to `following`, float32 (n, K)."""
        if self.reward_functions is None:
            return super().rewards(state, action, following)
        return self.reward_functions[:, action, state["state"], following["state"]].T.float()

    def reward_weights(self, state: State) -> Tensor:
        """Return the one-hot of the reward function that `step` pays by, float32 (n, K)."""
        if self.reward_functions is None:
            return super().reward_weights(state)
        return self._own_reward.expand(len(state["state"]), -1)

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return each factor's class, int64 (n,)."""
        return {name: classes.index_select(0, state["state"]) for name, classes in self.class_maps.items()}

    # --- ground truth ---------------------------------------------------------------------------------------------

    @property
    def state_factor(self) -> str | None:
        """Name of the factor whose classes are the states themselves; None if no factor is as fine as the state."""
        states = torch.arange(self.tables.n_states)
        return next((name for name, classes in self.class_maps.items() if torch.equal(classes.cpu(), states)), None)

    def belief_filter(self, channels: frozenset[str]) -> FiniteFilter:
        """Return the exact Bayes filter that conditions on exactly `channels` (and on the episode going on)."""
        return FiniteFilter(self.tables, channels)

    def point_belief(self, state: State) -> Belief:
        """Return the belief that is certain of each state."""
        return {"state": one_hot(state["state"], self.tables.n_states).double()}

    def predict_belief(self, belief: Belief, actions: Tensor) -> Belief:
        """Return b P_a1 ... P_ak for each row's action sequence, int64 (n, k); terminal states are absorbing."""
        predicted = belief["state"]
        for action in actions.unbind(1):
            predicted = push(predicted, action, self.tables.transition)
        return {"state": predicted}

    def expect_factors(self, belief: Belief) -> dict[str, Tensor]:
        """Return the class probabilities of each factor, float64 (n, size)."""
        return {factor.name: belief["state"] @ self._classes(factor) for factor in self.factors}

    def counterfeit(self, generator: torch.Generator) -> FiniteWorld:
        """Return the same world under another transition law; rewards stay the same function of (s, a, s').

        Where actions matter, every running state has its actions exchanged by a random permutation of its own (none
        stays in place), which leaves the law under uniformly random actions as it is. In a world that no action moves, running
        states that look alike exchange what follows them.

        Raises
        ------
        Unavailable
            If no action matters and no two states that look alike differ in what follows.
        """
        transition = counterfeit_transition(self.tables, generator)
        if transition is None:
            raise self.unavailable("counterfeit laws: no exchange of actions or of look-alike states changes its law")
        return FiniteWorld(
            replace(self.tables, transition=transition),
            name=f"{self.name}-counterfeit",
            factors={factor: self.class_maps[factor.name] for factor in self.factors},
            action_names=self.action_names,
            discount=self.discount,
            time_limit=self.time_limit,
            exploration=self.exploration,
            headline=self.headline,
            positions=self.positions,
            reward_functions=self.reward_functions,
        )

    def _classes(self, factor: Factor) -> Tensor:
        """Return the one-hot class of every state, float64 (S, size)."""
        return one_hot(self.class_maps[factor.name], factor.size).double()


def _find_reward(tables: FiniteTables, reward_functions: Tensor) -> int:
    """Return which of the reward functions is that of the tables.

    Raises
    ------
    ValueError
        If none is, a shape is wrong, or one of them pays in a terminal state.
    """
    if reward_functions.shape[1:] != tables.reward.shape or reward_functions.dtype != torch.float64:
        raise ValueError(
            f"reward_functions must be float64 of shape (K, {', '.join(map(str, tables.reward.shape))}); "
            f"got {reward_functions.dtype} of shape {tuple(reward_functions.shape)}"
        )
    each = [replace(tables, reward=reward) for reward in reward_functions]  # which checks that each fits
    own = [number for number, one in enumerate(each) if torch.equal(one.reward, tables.reward)]
    if not own:
        raise ValueError("the reward of the tables must be one of reward_functions: put it there, as the first for example")
    return own[0]


def _check_fit(
    tables: FiniteTables,
    factors: Mapping[Factor, Tensor],
    action_names: tuple[str, ...],
    exploration: tuple[float, ...],
    positions: Tensor | None,
) -> None:
    """Raise unless everything beside the tables has their sizes."""
    A, S = tables.n_actions, tables.n_states
    if len(action_names) != A or len(exploration) != A or abs(sum(exploration) - 1) > 1e-9:
        raise ValueError(f"expected {A} action names and {A} exploration probabilities that sum to 1; got {action_names}, {exploration}")
    for factor, classes in factors.items():
        if not factor.is_categorical:
            raise ValueError(f"factors of a finite world are categorical; {factor.name!r} is {factor.kind}")
        if classes.shape != (S,) or classes.dtype != torch.int64 or not ((classes >= 0) & (classes < factor.size)).all():
            raise ValueError(f"factor {factor.name!r} needs an int64 class in [0, {factor.size}) for each of the {S} states")
    if positions is not None and positions.shape != (S, 2):
        raise ValueError(f"positions must be of shape ({S}, 2); got {tuple(positions.shape)}")
