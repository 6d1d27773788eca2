"""The recurrent Q-network: encoder -> core -> action values."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.agents._agent import count_inputs
from worldprobe.agents._dense import draw_head, q_head
from worldprobe.agents._goal_head import GoalHead
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._seeds import seeded_generator
from worldprobe.agents._segments import SegmentBatch
from worldprobe.agents._trunk import Trunk
from worldprobe.worlds import TaskWorld, World


class RecurrentQNetwork(Trunk):
    """Action values from a history: Q_t = head(core(encoder(o_t, a_{t-1}[, r_{t-1}]), state)). An `Agent`.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    input_size, n_actions : int
        Widths of what comes in and goes out.
    generator : torch.Generator, optional
        Source of the initial weights; the global generator is neither read nor moved. None: the weights hold whatever lay
        in memory, and are to be loaded.
    name : str
        What the agent is called in tables.
    observation_shape : tuple of int
        Of the world's observations; matters where they are seen as images.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import NetworkConfig, RecurrentQNetwork
    >>> network = RecurrentQNetwork(NetworkConfig(hidden_size=8), input_size=6, n_actions=4, generator=torch.Generator())
    >>> q, state = network.step(torch.zeros(2, 6), network.initial_state(2), torch.ones(2, dtype=torch.bool))
    >>> q.shape, state.shape, sorted(network.sites)[:3]
    (torch.Size([2, 4]), torch.Size([2, 16]), ['core.0.c', 'core.0.gates.cell', 'core.0.gates.forget'])
    """

    weights: Tensor
    """Of several rewards, (n_rewards,): those that make up the world's own."""
    goal: Tensor
    """Of predictions, (observation_size,): the observation that it acts to reach, at the longest horizon; zeros until it is set."""

    def __init__(
        self,
        config: NetworkConfig,
        input_size: int,
        n_actions: int,
        generator: torch.Generator | None,
        name: str = "network",
        observation_shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__(config, input_size, n_actions, name, observation_shape)
        self.n_rewards = config.n_rewards
        if config.horizons:
            self.sites["one_step"] = n_actions * self.observation_size
            self.register_buffer("goal", torch.zeros(self.observation_size))
            self.head = GoalHead(self.core.output_size, config, self.observation_size, n_actions)
        else:
            width = self.n_rewards * n_actions + config.actor_critic
            self.head = q_head(self.core.output_size, config.head_sizes, width, config.dueling)
        if config.actor_critic:
            self.sites["value"] = 1
        if self.n_rewards > 1:
            self.register_buffer("weights", torch.zeros(self.n_rewards))
            self.sites["heads"] = self.n_rewards * n_actions
        if generator is not None:
            self._draw_trunk(generator)
            draw_head(self.head.layers if isinstance(self.head, GoalHead) else self.head, generator)

    def heads(self, y: Tensor) -> Tensor:
        """Return the values of every reward function (..., n_rewards, n_actions) from the core's output (..., output_size)."""
        values: Tensor = self.head(y)
        return values.view(*values.shape[:-1], self.n_rewards, self.n_actions)

    @property
    def observation_size(self) -> int:
        """Entries of the observations that it receives."""
        return self.input_size - self.n_actions - ("reward" in self.channels)

    def task(self, inputs: Tensor) -> Tensor:
        """Return the weights of the reward functions (..., n_rewards) that it acts by when it takes in `inputs`."""
        if self.config.acts_by == "own":
            weights = self.weights if self.n_rewards > 1 else inputs.new_ones(1)
            return weights.expand(*inputs.shape[:-1], -1)
        return inputs[..., self.observation_size - self.n_rewards : self.observation_size]

    def q_values(self, y: Tensor, inputs: Tensor) -> Tensor:
        """Return Q (..., n_actions) from the core's output (..., output_size): of several heads the sum, weighted by the task.

        An actor-critic has log-probabilities of actions in their place, and one that predicts the distance to its goal, negative.
        """
        if self.config.actor_critic:
            return self.preferences_and_value(y)[0]
        if self.config.horizons:
            goal = self.goal.expand(*y.shape[:-1], -1)
            horizon = torch.full(y.shape[:-1], self.config.horizons - 1, device=y.device)
            missed: Tensor = (self.head(y, goal, horizon) - goal.unsqueeze(-2)).abs().sum(-1)
            return -missed
        if self.n_rewards == 1:
            q: Tensor = self.head(y)
            return q
        return (self.task(inputs).to(y.device).unsqueeze(-1) * self.heads(y)).sum(-2)

    def preferences_and_value(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return an actor-critic's log-probabilities of actions (..., n_actions), and its value of the state (...)."""
        out: Tensor = self.head(y)
        return out[..., :-1].log_softmax(-1), out[..., -1]

    def segment_heads(self, batch: SegmentBatch, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of every reward function, and the weights they are acted on by, by step and segment; differentiable.

        Shapes (length + 1, n, n_rewards, n_actions) and (length + 1, n, n_rewards).
        """
        heads = self.heads(self.segment_features(batch, state))
        return batch.on_grid(heads.cpu()), batch.on_grid(self.task(batch.inputs).cpu())

    def _of_head(self, y: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        sites = super()._of_head(y, inputs)
        if self.config.actor_critic:
            return sites | {"value": self.preferences_and_value(y)[1].unsqueeze(-1)}
        if self.config.horizons:
            nowhere = self.goal.new_zeros(*y.shape[:-1], len(self.goal))
            next_step = torch.zeros(y.shape[:-1], dtype=torch.int64, device=y.device)
            return sites | {"one_step": self.head(y, nowhere, next_step).flatten(-2)}
        return sites if self.n_rewards == 1 else sites | {"heads": self.head(y)}


def make_network(world: World, config: NetworkConfig, seed: int, name: str = "network") -> RecurrentQNetwork:
    """Return the untrained network that training with `seed` begins from in `world`.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> make_network(make_world("tmaze"), NetworkConfig(hidden_size=32), seed=0).input_size
    8
    """
    return draw_network(world, config, seeded_generator(seed, "initial weights"), name)


def draw_network(world: World, config: NetworkConfig, generator: torch.Generator, name: str) -> RecurrentQNetwork:
    """Return a network for a world, drawn from a generator.

    Raises
    ------
    ValueError
        If it is to have heads that the world has no rewards for, or acts by a task that the world does not show.
    """
    n_inputs = count_inputs(world, frozenset(config.channels))
    network = RecurrentQNetwork(config, n_inputs, world.n_actions, generator, name, world.observation_shape)
    if config.n_rewards > 1:
        network.weights.copy_(_own_weights(world, config))
    return network


def _own_weights(world: World, config: NetworkConfig) -> Tensor:
    """Return the weights of the world's own reward (n_rewards,); zeros where each episode has others, which are seen."""
    if "rewards" not in world.gives or config.n_rewards > world.n_rewards:
        given = world.n_rewards if "rewards" in world.gives else 1
        raise ValueError(f"{config.n_rewards} heads need as many reward functions; world {world.name!r} has {given}")
    if config.acts_by == "task":
        if not isinstance(world, TaskWorld) or config.n_rewards != world.n_rewards or "observation" not in config.channels:
            raise ValueError(f"acting by the task needs a world that shows it, and a head for each; {world.name!r} is none: `with_tasks`")
        return torch.zeros(config.n_rewards)
    weights = world.reward_weights(world.reset(8, torch.Generator().manual_seed(0)))
    if not torch.equal(weights, weights[:1].expand_as(weights)) or weights[0, config.n_rewards :].any():
        raise ValueError(
            f"the first {config.n_rewards} rewards of world {world.name!r} do not make up its own reward in every episode: take all "
            f"{world.n_rewards}, or show the task (`with_tasks`) and act by it"
        )
    return weights[0, : config.n_rewards]


def count_parameters(config: NetworkConfig, input_size: int, n_actions: int, observation_shape: tuple[int, ...] = ()) -> int:
    """Return how many weights a network has, without the memory for them.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, count_parameters
    >>> count_parameters(NetworkConfig(core="lstm", hidden_size=2560, n_layers=2, encoder_sizes=(2560,)), input_size=8, n_actions=4)
    104936964
    """
    with torch.device("meta"):
        network = RecurrentQNetwork(config, input_size, n_actions, None, observation_shape=observation_shape)
    return sum(parameter.numel() for parameter in network.parameters())
