"""Planted agents that know: the exact belief, in the open or in code."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.agents._hash import draw_streams, hashed_uniform, next_stream
from worldprobe.agents._planted import PlantedAgent, split_inputs
from worldprobe.agents._seeds import seeded_generator
from worldprobe.worlds import Belief, World, solve_pomdp


class BeliefTracker:
    """Carries a world's exact belief as one flat row per environment.

    Parameters
    ----------
    world : World
        A world that gives "belief".
    channels : frozenset of str
        What is received.

    Raises
    ------
    Unavailable
        If the world has no belief filter.
    """

    def __init__(self, world: World, channels: frozenset[str]) -> None:
        self._world = world
        self._channels = channels
        self._filter = world.belief_filter(channels)
        self._generator = seeded_generator(0, "belief tracker")
        start = world.reset(1, self._generator)
        example = self._filter.start(world.observe(start, self._generator), self._generator)
        self._shapes = {name: leaf.shape[1:] for name, leaf in example.items()}
        self.width = sum(shape.numel() for shape in self._shapes.values())

    def unflatten(self, rows: Tensor) -> Belief:
        """Return the belief that each row (n, width) holds, in float64."""
        parts = torch.split(rows.double(), [shape.numel() for shape in self._shapes.values()], 1)
        return {name: part.reshape(len(rows), *shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def flatten(self, belief: Belief) -> Tensor:
        """Return beliefs as float32 rows (n, width)."""
        return torch.cat([belief[name].flatten(1) for name in self._shapes], 1).float()

    def follow(self, inputs: Tensor, rows: Tensor, is_fresh: Tensor) -> Tensor:
        """Return the beliefs after `inputs`, from the prior where `is_fresh` (n,) holds or no action came before."""
        observation, action, reward = split_inputs(inputs, self._world, self._channels)
        begins = is_fresh | (action < 0)
        after = torch.empty_like(rows)
        if begins.any():
            after[begins] = self.flatten(self._filter.start(observation[begins], self._generator))
        if not begins.all():
            goes_on = ~begins
            belief = self.unflatten(rows[goes_on])
            after[goes_on] = self.flatten(self._update(belief, action[goes_on], reward[goes_on], observation[goes_on]))
        return after

    def _update(self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor) -> Belief:
        """Take the Bayes step; a row that its world could not have given (padding, a counterfeit law) only follows its action."""
        running = torch.zeros_like(action, dtype=torch.bool)
        try:
            return self._filter.update(belief, action, reward, observation, running, self._generator)
        except ValueError:
            if len(action) == 1:
                return self._world.predict_belief(belief, action.unsqueeze(1))
        halves = [
            self._update({name: leaf[half] for name, leaf in belief.items()}, action[half], reward[half], observation[half])
            for half in torch.arange(len(action)).tensor_split(2)
        ]
        return {name: torch.cat([half[name] for half in halves]) for name in belief}


class BeliefAgent(PlantedAgent):
    """Its hidden state is the exact belief b_t, and it acts by the best known belief policy of its world.

    State [1 once begun | b_t]; "core.h" = b_t.

    Parameters
    ----------
    world : World
        A world that gives "belief" and "optimum".
    channels : frozenset of str
        What it receives and conditions on.

    Raises
    ------
    Unavailable
        If the world has no belief filter or no belief policy.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import BeliefAgent, evaluate_return
    >>> from worldprobe.worlds import TMaze
    >>> world = TMaze(length=3, stochasticity=0.0)
    >>> agent = BeliefAgent(world, frozenset({"observation", "action"}))
    >>> evaluate_return(agent, world, 8, torch.Generator().manual_seed(0)).mean_return
    4.0
    """

    def __init__(self, world: World, channels: frozenset[str]) -> None:
        self._tracker = BeliefTracker(world, channels)
        self._policy = solve_pomdp(world, channels).policy
        super().__init__("belief", world, channels, self._tracker.width, 1 + self._tracker.width)
        self.carried = {"core.h": torch.arange(1, self.state_size)}

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Update the belief."""
        rows = self._tracker.follow(inputs, state[:, 1:], state[:, 0] == 0)
        return torch.cat([torch.ones(len(rows), 1), rows], 1)

    def hidden(self, state: Tensor) -> Tensor:
        """Return b."""
        return state[:, 1:]

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the policy's values of the belief."""
        return self._policy.q_values(self._tracker.unflatten(state[:, 1:])).float()


class CodedBeliefAgent(PlantedAgent):
    """It knows as much as `BeliefAgent`, but multiplies it by a random sign: "core.h" = [s b_t, s], s = +-1 anew at every step.

    E[s b | b] = 0, so no linear probe finds anything; b = s (s b) is a product, so a quadratic one finds everything.
    State [stream | t | s b_t | s]; the signs are a fixed function of stream and t.

    Parameters
    ----------
    world : World
        A world that gives "belief" and "optimum".
    channels : frozenset of str
        What it receives and conditions on.
    seed : int
        Seed of the streams that `initial_state` hands out.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import CodedBeliefAgent
    >>> from worldprobe.worlds import TMaze
    >>> agent = CodedBeliefAgent(TMaze(length=3), frozenset({"observation", "action"}), seed=0)
    >>> agent.sites["core.h"]
    13
    """

    def __init__(self, world: World, channels: frozenset[str], seed: int) -> None:
        self._tracker = BeliefTracker(world, channels)
        self._policy = solve_pomdp(world, channels).policy
        self._generator = seeded_generator(seed, "coded belief")
        super().__init__("coded belief", world, channels, self._tracker.width + 1, self._tracker.width + 3)
        self.carried = {"core.h": torch.arange(2, self.state_size)}

    def initial_state(self, n: int) -> Tensor:
        """Return core states (n, state_size) of streams that were not handed out before."""
        state = torch.zeros(n, self.state_size)
        state[:, 0] = draw_streams(n, self._generator)
        return state

    def renewed(self, state: Tensor) -> Tensor:
        """Go to the next stream."""
        renewed = torch.zeros_like(state)
        renewed[:, 0] = next_stream(state[:, 0])
        return renewed

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Decode, update the belief, and code it with the next sign."""
        stream, t = state[:, 0], state[:, 1]
        belief = self._tracker.follow(inputs, self._belief(state), t == 0)
        sign = torch.where(hashed_uniform(stream, t) < 0.5, -1.0, 1.0).unsqueeze(1)
        return torch.cat([stream.unsqueeze(1), t.unsqueeze(1) + 1, sign * belief, sign], 1)

    def _belief(self, state: Tensor) -> Tensor:
        return state[:, 2:-1] * state[:, -1:]

    def hidden(self, state: Tensor) -> Tensor:
        """Return [s b, s]."""
        return state[:, 2:]

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the policy's values of the belief."""
        return self._policy.q_values(self._tracker.unflatten(self._belief(state))).float()
