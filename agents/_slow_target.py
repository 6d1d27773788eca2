"""Q-learning on replayed sequences with targets from a slow copy of the network."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._descent import Descent
from worldprobe.agents._learner import below, under
from worldprobe.agents._n_step import n_step_targets, rescale, unscale
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._rollout import Rollout
from worldprobe.agents._segments import SegmentBatch, Segments


@dataclass(frozen=True)
class TargetRule:
    """What Q is drawn towards."""

    discount: float
    """gamma."""
    n_step: int = 1
    """Rewards before the bootstrap."""
    double: bool = False
    """Whether the network itself chooses the action that its slow copy values (van Hasselt et al. 2016)."""
    rescale: bool = False
    """Whether Q stands for h^-1(Q), compressed values (Pohlen et al. 2018)."""


class SlowTargetQ:
    """A network, its slow copy and Adam: steps down weighted squared TD errors on sequences.

    Parameters
    ----------
    network : RecurrentQNetwork
        What is trained, in place.
    rule : TargetRule
        Towards what.
    max_gradient_norm : float
        Gradients are scaled down to this norm.
    """

    def __init__(self, network: RecurrentQNetwork, rule: TargetRule, max_gradient_norm: float) -> None:
        self._network, self._rule = network, rule
        self._slow = copy.deepcopy(network).requires_grad_(False)
        self._descent = Descent(network, torch.optim.Adam, max_gradient_norm)

    def copy(self) -> None:
        """Make the slow copy equal to the network."""
        self._slow.load_state_dict(self._network.state_dict())

    def warmed(self, rollout: Rollout, burn_in: int) -> Rollout:
        """Return what follows the first `burn_in` steps, with [state | slow copy's state] that each reaches on these steps.

        Both begin from the stored state; nothing of this has a gradient.
        """
        states = [burn_in_state(network, rollout, burn_in) for network in (self._network, self._slow)]
        rest = {name: getattr(rollout, name)[:, burn_in:] for name in ("inputs", "successors", "action", "reward", "terminated", "ended")}
        return Rollout(**rest, core_state=torch.cat(states, 1))

    def step(self, rollout: Rollout, weight: Tensor, learning_rate: float, place: str, *, only_last: bool = False) -> tuple[Tensor, Tensor]:
        """Take one optimiser step on sequences.

        loss = mean over steps of w (Q(h_t, a_t) - G_t)^2 / 2

        Parameters
        ----------
        rollout : Rollout
            Sequences as `warmed` returns them, one per row.
        weight : Tensor
            w (n,), of every sequence.
        learning_rate : float
            Step size.
        place : str
            Where in the update this is, for messages.
        only_last : bool
            Whether only the last step of every unbroken segment is learned from.

        Returns
        -------
        env : Tensor
            int64 (n,): the sequence that every unbroken segment is of.
        error : Tensor
            float32 (T, n): their absolute TD errors, 0 where nothing was learned.
        """
        batch = Segments(rollout).batch()
        learned = batch.is_last & batch.is_real if only_last else batch.is_real
        n_rows = int(learned.sum())
        self._descent.begin(learning_rate)
        taken, td_error = self._td_error(batch)
        td_error = td_error * learned
        loss = (weight[batch.env] * td_error.square()).sum() / 2
        torch.autograd.backward(loss / n_rows)
        with torch.no_grad():
            absolute = td_error.abs()
            measured = torch.stack([loss, absolute.sum(), (taken * learned).sum()]).double() / n_rows
        self._descent.step(measured, place)
        return batch.env, absolute

    def _td_error(self, batch: SegmentBatch) -> tuple[Tensor, Tensor]:
        """Return Q of the actions taken, and how far it is from its targets, (T, n)."""
        state, slow_state = batch.core_state.chunk(2, 1)
        q = self._network.segment_values(batch, state)
        with torch.no_grad():
            slow_q = self._slow.segment_values(batch, slow_state)
            greedy = (q if self._rule.double else slow_q).argmax(-1, keepdim=True)
            value = slow_q.gather(-1, greedy).squeeze(-1)
            value = unscale(value) if self._rule.rescale else value
            target = n_step_targets(
                batch.reward, value, batch.terminated, batch.is_last, batch.is_real, self._rule.discount, self._rule.n_step
            )
            target = rescale(target) if self._rule.rescale else target
        taken = q[:-1].gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        return taken, taken - target

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of what is measured since the last call (NaN if there was no step)."""
        return self._descent.pop_metrics()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next step depends on."""
        return under("descent/", self._descent.state_dict()) | under("slow/", self._slow.state_dict())

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._descent.load_state_dict(below("descent/", saved))
        self._slow.load_state_dict(below("slow/", saved))


@torch.no_grad()
def burn_in_state(network: RecurrentQNetwork, rollout: Rollout, n_steps: int) -> Tensor:
    """Return the core state (n, state_size) before step `n_steps` of every sequence, from its stored state.

    Only what follows the last reset before that step matters: what lies before is a gap.
    """
    if not n_steps:
        return rollout.core_state
    ended = rollout.ended[:, :n_steps]
    is_over = ended.flip(1).cummax(1).values.flip(1).T
    inputs = rollout.inputs[:, :n_steps].transpose(0, 1)
    return network.features(inputs, rollout.core_state, is_over if ended.any() else None)[1].cpu()
