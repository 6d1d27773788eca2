"""A cue, a long wait, a question: the plainest test of memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline


class MemoryChain(FiniteWorld):
    """One of several cues is shown at step 0, nothing until step `length`, then a question mark; name the cue.

    The right answer pays 1, a wrong one -1, and either ends the episode. No action before it changes anything. So J* =
    gamma^length, with memory of the cue alone, and an agent without memory gets gamma^length (2 / n_cues - 1) at most.

    Parameters
    ----------
    length : int
        Steps between cue and question.
    n_cues : int
        Number of cues, and of actions.

    Raises
    ------
    ValueError
        If `length` is below 1 or `n_cues` below 2.

    Examples
    --------
    >>> from worldprobe.worlds import MemoryChain
    >>> world = MemoryChain(length=20, n_cues=2)
    >>> world.tables.n_states, world.observation_shape, world.time_limit
    (44, (4,), 21)

    References
    ----------
    Osband, Doron, Hessel et al. 2020, "Behaviour suite for reinforcement learning" (memory length).
    """

    def __init__(self, length: int = 20, n_cues: int = 2) -> None:
        if length < 1 or n_cues < 2:
            raise ValueError(f"expected length >= 1 and n_cues >= 2; got {length} and {n_cues}")
        n_steps = length + 2
        cue, step = torch.arange(n_cues).repeat_interleave(n_steps), torch.arange(n_steps).repeat(n_cues)
        names = tuple(f"cue {i}" for i in range(n_cues))
        super().__init__(
            _tables(cue, step, length, n_cues),
            name="memory-chain",
            factors={
                Factor("cue", "categorical", n_cues, "policy", labels=names): cue,
                Factor("step", "categorical", n_steps, "value" if length > 2 else "unknown"): step,
                Factor("state", "categorical", len(cue), "policy"): torch.arange(len(cue)),
            },
            action_names=names,
            discount=0.99,
            time_limit=length + 1,
            exploration=(1 / n_cues,) * n_cues,
            headline=Headline("state", horizon=5),
            positions=torch.stack([step, cue], 1).double(),
        )


def _tables(cue: Tensor, step: Tensor, length: int, n_cues: int) -> FiniteTables:
    S, wait, question = len(cue), n_cues, n_cues + 1
    over = step == length + 1
    moves = torch.eye(S, dtype=torch.float64)[torch.where(over, torch.arange(S), (torch.arange(S) + 1) % S)]
    right = 2.0 * (torch.arange(n_cues).view(-1, 1) == cue) - 1
    seen = torch.where(step == 0, cue, torch.where(step < length, wait, question))
    return FiniteTables(
        initial=(step == 0).double() / n_cues,
        transition=moves.expand(n_cues, -1, -1).clone(),
        observation=one_hot(seen, n_cues + 2).double(),
        reward=(right * (step == length)).double().unsqueeze(-1).expand(-1, -1, S).clone(),
        terminal=over,
    )
