"""Cue, silence, reward: the trace conditioning in which dopamine's reward prediction errors were measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline

PHASES = ("between trials", "cue", "waiting", "reward")


@dataclass(frozen=True)
class TraceConditioningConfig:
    """Times and probabilities; the defaults are task 1 of Hennig et al. 2023, `omission=0.1` is their task 2."""

    omission: float = 0.0
    """Probability that no reward follows a cue."""
    bin_seconds: float = 0.2
    """Duration of a step, s."""
    first_reward: float = 1.2
    """Earliest time of the reward after the cue, s."""
    last_reward: float = 2.8
    """Latest time, s."""
    reward_spread: float = 0.5
    """Standard deviation of the Gaussian weights of the times, centred between the two, s."""
    iti_bins: int = 10
    """Least number of steps between trials."""
    iti_hazard: float = 1 / 8
    """Probability per step that the cue comes, once these have passed."""
    discount: float = 0.93
    """gamma per step."""
    time_limit: int = 100
    """Steps of an episode, about three trials."""

    def __post_init__(self) -> None:
        if not 0 <= self.omission < 1 or not 0 < self.iti_hazard <= 1 or self.iti_bins < 1:
            raise ValueError(f"expected 0 <= omission < 1, 0 < iti_hazard <= 1 and iti_bins >= 1; got {self}")
        if min(self.bin_seconds, self.reward_spread) <= 0 or self.first_reward > self.last_reward or self.reward_bins.start < 2:
            raise ValueError(f"expected positive times and 2 steps or more from the cue to the first and then the last reward; got {self}")

    @property
    def reward_bins(self) -> range:
        """The numbers of steps after the cue at which the reward can come."""
        return range(round(self.first_reward / self.bin_seconds), round(self.last_reward / self.bin_seconds) + 1)

    def reward_probabilities(self) -> Tensor:
        """Return the probability of each of `reward_bins`, given that a reward comes."""
        seconds = self.bin_seconds * torch.tensor(list(self.reward_bins), dtype=torch.float64)
        middle = (self.first_reward + self.last_reward) / 2
        weights: Tensor = (-0.5 * ((seconds - middle) / self.reward_spread).square()).exp()
        return weights / weights.sum()


class TraceConditioning(FiniteWorld):
    """A cue announces a reward that comes after a random delay, or not at all; there is nothing to do but to expect it.

    The agent sees nothing, the cue (for one step) or the reward (for one step). Between trials at least `iti_bins` steps pass,
    then the cue comes with a constant hazard. After the cue a reward of 1 arrives at one of several times; with probability `omission`
    none comes, and the next pause begins right after the cue, unseen. The states are the steps since the last event, so that a
    semi-Markov process is a Markov one; the belief over them, exact, is what a value needs: V(b) = b . V, as there is one action.

    Parameters
    ----------
    config : TraceConditioningConfig
        Times and probabilities.

    Examples
    --------
    >>> from worldprobe.worlds import TraceConditioning, TraceConditioningConfig
    >>> world = TraceConditioning(TraceConditioningConfig(omission=0.1))
    >>> world.tables.n_states, world.action_names, list(world.config.reward_bins)
    (25, ('wait',), [6, 7, 8, 9, 10, 11, 12, 13, 14])

    References
    ----------
    Starkweather, Babayan, Uchida & Gershman 2017, "Dopamine reward prediction errors reflect hidden-state inference across time";
    Hennig, Romero Pinto, Yamaguchi et al. 2023, "Emergence of belief-like representations through reinforcement learning".
    """

    def __init__(self, config: TraceConditioningConfig | None = None) -> None:
        self.config = config = config or TraceConditioningConfig()
        phase = torch.tensor([0] * config.iti_bins + [1] + [2] * (config.reward_bins[-1] - 1) + [3])
        S = len(phase)
        names = tuple(
            [f"pause {i + 1}" for i in range(config.iti_bins)]
            + ["cue"]
            + [f"{i + 1} after cue" for i in range((phase == 2).sum())]
            + ["reward"]
        )
        arrives = (phase == PHASES.index("reward")).double()
        super().__init__(
            FiniteTables(
                initial=one_hot(torch.tensor(0), S).double(),
                transition=_law(config, S).unsqueeze(0),
                observation=one_hot(torch.tensor([0, 1, 0, 2])[phase], 3).double(),
                reward=arrives.expand(1, S, -1).clone(),
                terminal=torch.zeros(S, dtype=torch.bool),
            ),
            name="trace-conditioning" + "-omissions" * (config.omission > 0),
            factors={
                Factor("phase", "categorical", len(PHASES), "value", labels=PHASES): phase,
                Factor("state", "categorical", S, "value", labels=names): torch.arange(S),
            },
            action_names=("wait",),
            discount=config.discount,
            time_limit=config.time_limit,
            exploration=(1.0,),
            headline=Headline("state", horizon=5),
        )


def _law(config: TraceConditioningConfig, S: int) -> Tensor:
    """Return P between pauses, cue, waiting steps and reward, float64 (S, S)."""
    cue, reward, last = config.iti_bins, S - 1, config.reward_bins[-1]
    law = torch.zeros(S, S, dtype=torch.float64)
    law[range(cue - 1), range(1, cue)] = 1.0
    law[cue - 1, cue - 1], law[cue - 1, cue] = 1 - config.iti_hazard, config.iti_hazard
    law[reward, 0] = 1.0
    times = torch.zeros(last + 1, dtype=torch.float64)
    times[config.reward_bins.start :] = config.reward_probabilities()
    later = times.flip(0).cumsum(0).flip(0)  # probability that the reward comes at this step after the cue or later
    for waited in range(last):
        hazard = times[waited + 1] / later[waited + 1]
        law[cue + waited, reward] = hazard
        if waited + 1 < last:
            law[cue + waited, cue + waited + 1] = 1 - hazard
    law[cue] *= 1 - config.omission
    law[cue, 0] += config.omission
    return law
