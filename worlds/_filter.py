"""The exact Bayes filter of a finite world, for whatever the agent receives."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._tables import FiniteTables, possible_rewards, reward_levels
from worldprobe.worlds._world import Belief, BeliefFilter, check_channels

REWARD_TOLERANCE = 1e-6
"""How far a reward may be from one that the tables pay (a recording keeps float32)."""


class FiniteFilter(BeliefFilter):
    """b_{t+1}(s') ~ [s' is terminal iff the episode ended] O(o | s') sum_s b_t(s) P(s' | s, a) [r = R(s, a, s')].

    The factor of O is there when "observation" is a channel, that of R when "reward" is. A running episode has no mass
    on terminal states, an ended one has all of it there.

    Parameters
    ----------
    tables : FiniteTables
        The world's law.
    channels : frozenset of str
        What is conditioned on; holds "action".

    Raises
    ------
    ValueError
        If the channels are not legal; on use, if a history has probability zero under the tables.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import TMaze
    >>> world, generator = TMaze(length=3), torch.Generator()
    >>> belief_filter = world.belief_filter(frozenset({"observation", "action"}))
    >>> up = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    >>> belief_filter.start(up, generator)["state"].argmax(1)
    tensor([0])
    """

    def __init__(self, tables: FiniteTables, channels: frozenset[str]) -> None:
        self.channels = check_channels(channels)
        self._tables = tables
        self._running = (~tables.terminal).double()
        self._likelihood = tables.observation.T.contiguous()
        self._rewards = possible_rewards(tables)
        self._kernels = tables.transition.unsqueeze(1)
        if "reward" in channels:
            self._kernels = self._kernels * torch.stack(reward_levels(tables), 1)  # (A, n_rewards, S, S)

    def start(self, observation: Tensor, generator: torch.Generator) -> Belief:
        """Return b_0 from the first observation (n, n_observations)."""
        joint = self._tables.initial.expand(observation.shape[0], -1)
        return {"state": self._normalised(self._see(joint, observation))}

    def update(
        self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor, terminated: Tensor, generator: torch.Generator
    ) -> Belief:
        """Return b_{t+1} from b_t, a_t, r_t, o_{t+1} and whether the episode terminated there (each with leading n)."""
        kernel = action * self._kernels.shape[1] + self._level(reward)
        joint = push(belief["state"], kernel, self._kernels.flatten(0, 1))
        joint = joint * torch.where(terminated.unsqueeze(1), 1 - self._running, self._running)
        return {"state": self._normalised(self._see(joint, observation))}

    def _see(self, joint: Tensor, observation: Tensor) -> Tensor:
        """Weigh by the likelihood of what was observed, if it may be looked at."""
        if "observation" not in self.channels:
            return joint
        return joint * self._likelihood.index_select(0, observation.argmax(1))

    def _level(self, reward: Tensor) -> Tensor:
        """Return which of the possible rewards each one is (0 if rewards are no channel)."""
        if "reward" not in self.channels:
            return torch.zeros_like(reward, dtype=torch.int64)
        distance, level = (reward.double().unsqueeze(1) - self._rewards).abs().min(1)
        if not (distance <= REWARD_TOLERANCE).all():
            wrong = reward[distance.argmax()].item()
            raise ValueError(f"reward {wrong} is none of those this world pays ({self._rewards.tolist()}); was it scaled or clipped?")
        return level

    def _normalised(self, joint: Tensor) -> Tensor:
        total = joint.sum(1, keepdim=True)
        if not (total > 0).all():
            row = int((total <= 0).flatten().nonzero()[0])
            raise ValueError(
                f"history {row} of the batch has probability zero in this world: its action, reward, observation or end does not fit "
                "the belief before it; check that they belong to one step of one episode, and that an ended episode is started anew"
            )
        return joint / total


def push(belief: Tensor, kernel: Tensor, kernels: Tensor) -> Tensor:
    """Return belief[i] @ kernels[kernel[i]] for every row i: (n, S), int64 (n,), (K, S, C) -> (n, C)."""
    pushed = belief.new_empty(len(belief), kernels.shape[-1])
    for index, matrix in enumerate(kernels):
        rows = (kernel == index).nonzero().squeeze(1)
        pushed[rows] = belief[rows] @ matrix
    return pushed
