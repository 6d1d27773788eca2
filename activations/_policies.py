"""Other people's agents as policies: what acts, what its recurrent state is, and which module holds the sites."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from worldprobe.activations._describe import checkpoint_hash
from worldprobe.activations._episodes import Array

Act = Callable[[Any, Any, Tensor], tuple[Tensor, Any]]
"""(o_t, state after o_{t-1}, reset) -> (a_t, state after o_t), all with a first axis of n environments."""


class Policy(Protocol):
    """Acts in n environments at once. Between two calls it remembers only what it returned as its state."""

    @property
    def module(self) -> nn.Module:
        """Whose parts are the sites."""

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON, for the manifest."""

    def act(self, observation: Any, state: Any, reset: Array) -> tuple[Array, Any]:
        """Choose actions from observations.

        Parameters
        ----------
        observation : ndarray, or dict or tuple of them
            o_t as the environment gives it, (n, ...).
        state : object
            What the last call returned; None at the first.
        reset : ndarray
            bool (n,): where an episode begins, so that the state must be the initial one.

        Returns
        -------
        tuple
            Actions, an array of n rows as the environment takes them, and the state after o_t.
        """


@dataclass(frozen=True, eq=False)
class TorchPolicy:
    """Any torch module, with a function that says how it acts.

    Parameters
    ----------
    module : Module
        Whose parts are the sites.
    function : callable
        `(observation, state, reset) -> (action, state)`, tensors with a first axis of n environments; the state is None at the first
        call, and a part of it whose `reset` is true must be replaced by the initial state. Runs without gradients. Chance comes
        from the global generators of torch, numpy or Python, which are seeded for every shard.
    name : str
        What the agent is called in tables.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from worldprobe.activations import TorchPolicy
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> policy = TorchPolicy(network, lambda x, state, reset: (network(x).argmax(1), state))
    >>> action, state = policy.act(np.zeros((3, 4)), None, np.ones(3, bool))
    >>> action.shape, state
    ((3,), None)
    """

    module: nn.Module
    function: Act
    name: str = "torch module"

    def describe(self) -> dict[str, Any]:
        """Return the name as JSON."""
        return {"name": self.name}

    def act(self, observation: Any, state: Any, reset: Array) -> tuple[Array, Any]:
        """Choose actions; see `Policy`."""
        device = _device(self.module)
        with torch.no_grad():
            action, state = self.function(_as_tensors(observation, device), state, torch.as_tensor(reset, device=device))
        return action.detach().cpu().numpy(), state


@dataclass(frozen=True, eq=False)
class StableBaselinesPolicy:
    """A model of stable-baselines3 or sb3-contrib, feed-forward or recurrent.

    Its policy is asked, not the model: the exploration of a DQN's `predict`, one coin for all environments at whose heads the network is
    not even run, is left out (`record_policy(..., epsilon=...)` explores). Observations are normalised as in training where the model
    carries a `VecNormalize`.

    Parameters
    ----------
    model : BaseAlgorithm
        What `learn` or `load` returned.
    deterministic : bool
        Take the most probable action instead of drawing one.

    Examples
    --------
    >>> from stable_baselines3 import PPO
    >>> from worldprobe.activations import StableBaselinesPolicy
    >>> policy = StableBaselinesPolicy(PPO("MlpPolicy", "CartPole-v1", device="cpu"), deterministic=False)
    >>> policy.describe()
    {'name': 'PPO', 'deterministic': False}
    """

    model: Any
    deterministic: bool = True

    @property
    def module(self) -> nn.Module:
        """The model's policy."""
        policy: nn.Module = self.model.policy
        return policy

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON."""
        return {"name": type(self.model).__name__, "deterministic": self.deterministic}

    def act(self, observation: Any, state: Any, reset: Array) -> tuple[Array, Any]:
        """Choose actions; the state is the pair (h, c) of the actor, each (n_layers, n, width), after o_t."""
        normalised = self.model.get_vec_normalize_env()
        received = normalised.normalize_obs(observation) if normalised else observation
        action, state = self.model.policy.predict(received, state=state, episode_start=reset, deterministic=self.deterministic)
        return np.asarray(action), state


@dataclass(frozen=True, eq=False)
class TensorDictPolicy:
    """A module of TorchRL or tensordict that reads observations and writes actions.

    What it writes to ("next", key) and reads from key is its recurrent state, as in `LSTMModule` and `GRUModule`; "is_init" tells it where
    episodes begin.

    Parameters
    ----------
    module : TensorDictModuleBase
        The policy, in the mode that takes one step at a time (the default of TorchRL's modules).
    deterministic : bool
        Take the most probable action of a probabilistic module instead of drawing one.
    observation_key, action_key : str
        Where observation and action stand.
    one_hot : bool
        Whether actions come as one-hots, as TorchRL's modules write them unless told `action_space="categorical"`.

    Examples
    --------
    >>> from tensordict.nn import TensorDictModule, TensorDictSequential
    >>> from torchrl.modules import LSTMModule, MLP, QValueModule
    >>> from worldprobe.activations import TensorDictPolicy
    >>> lstm = LSTMModule(input_size=4, hidden_size=8, in_key="observation", out_key="embed")
    >>> head = TensorDictModule(MLP(in_features=8, out_features=2, num_cells=[]), ["embed"], ["action_value"])
    >>> TensorDictPolicy(TensorDictSequential(lstm, head, QValueModule("categorical"))).state_keys
    ['recurrent_state_h', 'recurrent_state_c']
    """

    module: Any
    deterministic: bool = True
    observation_key: str = "observation"
    action_key: str = "action"
    one_hot: bool = False

    @property
    def state_keys(self) -> list[Any]:
        """What is carried from one step to the next."""
        written = [tuple(key)[1:] for key in self.module.out_keys if isinstance(key, tuple) and key[0] == "next"]
        return [key for key in self.module.in_keys if (key if isinstance(key, tuple) else (key,)) in written]

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON."""
        return {"name": type(self.module).__name__, "deterministic": self.deterministic, "state": [str(key) for key in self.state_keys]}

    def act(self, observation: Any, state: Any, reset: Array) -> tuple[Array, Any]:
        """Choose actions; the state is a dict of `state_keys`, as the module wrote them after o_t."""
        from tensordict import TensorDict
        from tensordict.nn import InteractionType, set_interaction_type

        device = _device(self.module)
        begins = torch.as_tensor(reset, device=device).unsqueeze(1)
        received = {self.observation_key: _as_tensors(observation, device), "is_init": begins, **(state or {})}
        with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC if self.deterministic else InteractionType.RANDOM):
            written = self.module(TensorDict(received, [len(reset)], device=device))
        action = written[self.action_key].cpu().numpy()
        carried = {key: written[("next", *key) if isinstance(key, tuple) else ("next", key)] for key in self.state_keys}
        return action.argmax(-1) if self.one_hot else action, carried


def describe_policy(policy: Policy, n_actions: int | None, observation_shape: tuple[int, ...], channels: tuple[str, ...]) -> dict[str, Any]:
    """Return what a recording says of an agent that is not ours."""
    return {
        "name": policy.describe()["name"],
        "class": f"{type(policy.module).__module__}.{type(policy.module).__qualname__}",
        "checkpoint": checkpoint_hash(policy.module),
        "config": policy.describe(),
        "channels": list(channels),
        "n_actions": n_actions,
        "input_size": math.prod(observation_shape),
        "state_size": None,
    }


def _device(module: nn.Module) -> torch.device:
    """Return where a module computes."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _as_tensors(observation: Any, device: torch.device) -> Any:
    """Return observations as tensors; float64 becomes float32, as modules expect it."""
    if isinstance(observation, Mapping):
        return {name: _as_tensors(part, device) for name, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_as_tensors(part, device) for part in observation)
    values = torch.as_tensor(observation, device=device)
    return values.float() if values.dtype == torch.float64 else values
