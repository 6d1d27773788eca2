"""Acting: the network meets the driver, and what happened is kept for learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._agent import Agent, agent_inputs
from worldprobe.worlds import Driver, DriverStep, categorical


@dataclass(slots=True)
class Rollout:
    """`n_steps` steps of `n_envs` environments, environment by environment."""

    inputs: Tensor
    """float32 (n_envs, n_steps, input_size): what the agent received."""
    successors: Tensor
    """float32, same shape: what it received next *in the same episode* (o_T, a_{T-1}, r_{T-1} where the episode ended)."""
    action: Tensor
    """int64 (n_envs, n_steps)."""
    reward: Tensor
    """float32 (n_envs, n_steps), or of several reward functions (n_envs, n_steps, n_rewards): what is learned from."""
    terminated: Tensor
    """bool (n_envs, n_steps): nothing follows this step."""
    ended: Tensor
    """bool (n_envs, n_steps): terminated or truncated."""
    core_state: Tensor
    """float32 (n_envs, state_size): the core state before the first step, the initial one where an episode begins there."""


@dataclass(slots=True)
class Transition:
    """One step of all environments."""

    inputs: Tensor
    """float32 (n, input_size): what the agent received."""
    action: Tensor
    """int64 (n,)."""
    reward: Tensor
    """float32 (n,): what the agent is paid (another environment's reward if yoked)."""
    rewards: Tensor | None
    """float32 (n, world's n_rewards): what every reward function pays, of the same environment; None where there is one."""
    successor: Tensor
    """float32 (n, input_size): what it received next in the same episode."""
    step: DriverStep
    """What the driver gave."""


class Actor:
    """Acts epsilon-greedily in a driver and goes on where it stopped.

    Parameters
    ----------
    agent : Agent
        Who acts.
    driver : Driver
        The environments.
    generator : torch.Generator
        Source of exploration: with probability epsilon an action of the world's undirected exploration.
    is_yoked : bool
        Whether environment i is paid the reward of environment i - 1 instead of its own, also in the reward input.
    n_rewards : int
        Reward functions that rollouts keep; 1: the world's own reward.
    samples : bool
        Whether what the agent gives are log-probabilities that actions are drawn by, and epsilon is not used.

    Raises
    ------
    ValueError
        If yoked with a single environment.
    """

    def __init__(
        self, agent: Agent, driver: Driver, generator: torch.Generator, is_yoked: bool = False, n_rewards: int = 1, samples: bool = False
    ) -> None:
        if is_yoked and driver.n_envs < 2:
            raise ValueError("yoked rewards come from another environment: n_envs must be at least 2; got 1")
        self._agent = agent
        self._driver = driver
        self._generator = generator
        self._is_yoked, self._n_rewards, self._samples = is_yoked, n_rewards, samples
        n = driver.n_envs
        self._exploration = torch.tensor(driver.world.exploration).expand(n, -1)
        self._inputs = self._receive(driver.observation, torch.full((n,), -1), torch.zeros(n))
        self._core_state = agent.initial_state(n)
        self._reset = torch.ones(n, dtype=torch.bool)
        self._running = torch.zeros(2, n)  # return and length so far, of the world's own rewards
        self._finished = torch.zeros(3, dtype=torch.float64)  # episodes, their summed returns and lengths

    def _receive(self, observation: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        return agent_inputs(observation, action, reward, self._agent.channels, self._agent.n_actions)

    def act(self, epsilon: float) -> Transition:
        """Act once in every environment."""
        inputs = self._inputs
        q, self._core_state = self._agent.step(inputs, self._core_state, self._reset)
        action = categorical(q.exp(), self._generator) if self._samples else self._explore(q.argmax(1), epsilon)
        step = self._driver.step(action)
        reward = step.reward.roll(1) if self._is_yoked else step.reward
        self._reset = step.terminated | step.truncated
        successor = self._receive(step.observation, action, reward)
        self._inputs = successor
        if step.done.numel():
            self._inputs = self._receive(step.observation, action.masked_fill(self._reset, -1), reward.masked_fill(self._reset, 0.0))
            successor[step.done] = self._receive(step.final_observation, action[step.done], reward[step.done])
        self._count(step.reward, step.done)
        rewards = step.rewards.roll(1, 0) if self._is_yoked and step.rewards is not None else step.rewards
        return Transition(inputs, action, reward, rewards, successor, step)

    def _explore(self, action: Tensor, epsilon: float) -> Tensor:
        """Replace each action by an undirected one with probability epsilon."""
        if epsilon == 0.0:
            return action
        explores = torch.rand(len(action), generator=self._generator) < epsilon
        return torch.where(explores, categorical(self._exploration, self._generator), action)

    def collect(self, n_steps: int, epsilon: float) -> Rollout:
        """Act `n_steps` times in every environment."""
        rollout = self._empty(n_steps)
        for t in range(n_steps):
            transition = self.act(epsilon)
            rollout.inputs[:, t] = transition.inputs
            rollout.action[:, t] = transition.action
            rollout.reward[:, t] = self._learned_from(transition)
            rollout.successors[:, t] = transition.successor
            rollout.terminated[:, t] = transition.step.terminated
            rollout.ended[:, t] = self._reset
        return rollout

    def _learned_from(self, transition: Transition) -> Tensor:
        """Return the rewards that rollouts keep."""
        if transition.rewards is None or self._n_rewards == 1:
            return transition.reward
        return transition.rewards[:, : self._n_rewards]

    def _count(self, reward: Tensor, done: Tensor) -> None:
        """Add up returns and lengths of episodes, always of the rewards that the world itself paid."""
        self._running[0] += reward
        self._running[1] += 1
        if done.numel():
            self._finished[0] += done.numel()
            self._finished[1:] += self._running[:, done].sum(1)
            self._running[:, done] = 0.0

    def _empty(self, n_steps: int) -> Rollout:
        n, width = self._inputs.shape
        return Rollout(
            inputs=torch.empty(n, n_steps, width),
            successors=torch.empty(n, n_steps, width),
            action=torch.empty(n, n_steps, dtype=torch.int64),
            reward=torch.empty(n, n_steps, *([self._n_rewards] if self._n_rewards > 1 else [])),
            terminated=torch.empty(n, n_steps, dtype=torch.bool),
            ended=torch.empty(n, n_steps, dtype=torch.bool),
            core_state=self._core_state.cpu().masked_fill(self._reset.unsqueeze(1), 0.0),
        )

    def pop_episodes(self) -> tuple[int, float, float]:
        """Return number, mean return and mean length of the episodes finished since the last call (NaN if none)."""
        count, total, steps = self._finished.tolist()
        self._finished.zero_()
        return int(count), total / count if count else float("nan"), steps / count if count else float("nan")

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next rollout depends on, beside the agent."""
        own = {"inputs": self._inputs, "core_state": self._core_state, "reset": self._reset}
        own |= {"running": self._running, "finished": self._finished, "generator": self._generator.get_state()}
        return own | {f"driver/{name}": value for name, value in self._driver.state_dict().items()}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._inputs, self._core_state, self._reset = saved["inputs"], saved["core_state"], saved["reset"]
        self._running, self._finished = saved["running"], saved["finished"]
        self._generator.set_state(saved["generator"])
        self._driver.load_state_dict({name.removeprefix("driver/"): value for name, value in saved.items() if name.startswith("driver/")})
