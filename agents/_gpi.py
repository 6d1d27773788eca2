"""Generalised policy improvement: one universal network imagined under several tasks, acting by the best of its policies."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.agents._network import RecurrentQNetwork


class GpiAgent:
    r"""Acts on :math:`\max_z w^\top \psi(s, a, z)`: values, for the task w that is seen, of the policies for tasks z. An `Agent`.

    Every z has a core of its own that is fed with z in the place of the task; the values of its heads are weighted by w. With universal
    successor features (`PqnConfig(bootstrap="common")` and `NetworkConfig(acts_by="task")`) these are the values of following the
    policy of z, and acting on the largest is at least as good as any of them, but for errors of estimation.

    Parameters
    ----------
    network : RecurrentQNetwork
        That acts by the task.
    tasks : Tensor
        float32 (m, n_rewards): the tasks z.
    name : str
        What it is called in tables.

    Raises
    ------
    ValueError
        If the network does not act by a task, or the tasks are not of its width.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import GpiAgent, NetworkConfig, evaluate_return, make_network
    >>> from worldprobe.worlds import RandomConfig, RandomWorld, with_tasks
    >>> world = with_tasks(RandomWorld(RandomConfig(n_states=6, n_rewards=3, n_successors=2)))
    >>> network = make_network(world, NetworkConfig(hidden_size=8, n_rewards=3, acts_by="task"), seed=0)
    >>> evaluate_return(GpiAgent(network, torch.eye(3)), world, 16, torch.Generator().manual_seed(0)).n_episodes
    16

    References
    ----------
    Barreto et al. 2017, "Successor features for transfer in reinforcement learning", theorem 1; Borsa et al. 2019, "Universal successor
    features approximators".
    """

    def __init__(self, network: RecurrentQNetwork, tasks: Tensor, name: str = "gpi") -> None:
        if network.config.acts_by != "task" or tasks.ndim != 2 or tasks.shape[1] != network.n_rewards:
            raise ValueError(
                f"expected a network that acts by the task, and tasks (m, {network.n_rewards}); got one that acts by "
                f"{network.config.acts_by!r}, and {tuple(tasks.shape)}"
            )
        self.network, self.tasks, self.name = network, tasks.float(), name
        self.channels, self.n_actions, self.input_size = network.channels, network.n_actions, network.input_size
        self.state_size = len(tasks) * network.state_size
        self.sites = {"core.h": len(tasks) * network.sites["core.h"], "q": network.n_actions}

    def initial_state(self, n: int) -> Tensor:
        """Return the core states (n, state_size) in which episodes begin."""
        return self.network.initial_state(n).repeat(1, len(self.tasks))

    def _imagined(self, inputs: Tensor) -> Tensor:
        """Return inputs (..., m * n, input_size): all rows under the first task, then all under the second."""
        end = self.input_size - self.n_actions - ("reward" in self.channels)
        rows = inputs.repeat(*[1] * (inputs.ndim - 2), len(self.tasks), 1)
        rows[..., end - self.network.n_rewards : end] = self.tasks.repeat_interleave(inputs.shape[-2], 0)
        return rows

    def _spread(self, state: Tensor) -> Tensor:
        """Return the cores' states one below the other (m * n, network's state_size)."""
        return torch.cat(state.chunk(len(self.tasks), 1))

    def _best(self, heads: Tensor, inputs: Tensor) -> Tensor:
        """Return the largest value over tasks (..., n, A) from heads (..., m * n, K, A)."""
        each = torch.stack(heads.chunk(len(self.tasks), -3))
        values = (self.network.task(inputs).unsqueeze(-1) * each).sum(-2)
        return values.amax(0)

    @torch.no_grad()
    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state, from zeros where `reset` (n,) holds."""
        m, network = len(self.tasks), self.network
        y, spread = network.core.step(network.encoder(self._imagined(inputs)), self._spread(state), reset.repeat(m))
        return self._best(network.heads(y), inputs), torch.cat(spread.chunk(m), 1)

    @torch.no_grad()
    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return "core.h" of all cores side by side, "q" and "core.state" (T, n, width), over one unbroken stretch."""
        m, network = len(self.tasks), self.network
        values = network.activations(self._imagined(inputs), self._spread(state))
        heads = values["heads"].view(*values["heads"].shape[:-1], network.n_rewards, network.n_actions)
        side_by_side = {site: torch.cat(values[site].chunk(m, 1), -1) for site in ("core.h", "core.state")}
        return {**side_by_side, "q": self._best(heads, inputs)}
