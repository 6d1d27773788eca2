"""A plain module as CleanRL's scripts write them, recorded and probed: one function says how it acts and carries its state."""

import tempfile

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from worldprobe.activations import TorchPolicy, record_policy
from worldprobe.probes import cross_fit, group_folds, r2

State = tuple[Tensor, Tensor]


class Agent(nn.Module):
    """Encoder, LSTM, actor and critic in one file; load your own weights into yours."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 32), nn.Tanh())
        self.lstm = nn.LSTM(32, 32)
        self.actor, self.critic = nn.Linear(32, 2), nn.Linear(32, 1)

    def get_states(self, x: Tensor, lstm_state: State, done: Tensor) -> tuple[Tensor, State]:
        """Take one step; `done` says where an episode begins."""
        kept = 1 - done.float().view(1, -1, 1)
        y, lstm_state = self.lstm(self.network(x).unsqueeze(0), (kept * lstm_state[0], kept * lstm_state[1]))
        return y[0], lstm_state


def make_env() -> gymnasium.Env:
    """Return a CartPole of which position and angle are seen, and no velocity."""
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    return gymnasium.wrappers.TransformObservation(gymnasium.make("CartPole-v1"), lambda seen: seen[::2], space)


torch.manual_seed(0)
agent = Agent()


def act(x: Tensor, state: State | None, reset: Tensor) -> tuple[Tensor, State]:
    """Draw actions, and hand on the state."""
    h, state = agent.get_states(x, state or (torch.zeros(1, len(x), 32),) * 2, reset)
    return Categorical(logits=agent.actor(h)).sample(), state


with tempfile.TemporaryDirectory() as folder:
    envs = gymnasium.vector.SyncVectorEnv([make_env] * 8)
    recording = record_policy(
        TorchPolicy(agent, act, "cleanrl"), envs, f"{folder}/agent.wpr", sites=["network", "lstm.h", "lstm.c"], n_episodes=80, seed=0,
        factors=lambda env: {"velocity": np.stack(env.get_attr("state"))[:, 1::2]},
    )  # fmt: skip
    velocity, episodes = recording["factor/velocity"][:], recording.groups
    for site in ("observation", "network", "lstm.h", "lstm.c"):
        fit = cross_fit(recording[site][:], velocity, episodes, folds=group_folds(episodes))
        print(site, r2(velocity, fit.predictions).round(2))
