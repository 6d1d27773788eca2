"""Recording other people's agents in our worlds: with exact states, factors and beliefs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from worldprobe.activations._beliefs import add_beliefs
from worldprobe.activations._commit import Finish, Progress, Target, record_shards
from worldprobe.activations._describe import describe_world
from worldprobe.activations._episodes import Episodes
from worldprobe.activations._manifest import Identity, Part
from worldprobe.activations._policies import Policy, describe_policy
from worldprobe.activations._reader import Recording
from worldprobe.activations._record import SPLIT_FRACTIONS, WITHOUT_AGENT, checked_plan
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._rollout import play
from worldprobe.activations._sites import SiteSelection
from worldprobe.activations._streams import Actor, Moment
from worldprobe.activations._vector_actions import Actions
from worldprobe.activations._vector_play import seeded_globals
from worldprobe.activations._vector_tape import completed_sites, flat_site
from worldprobe.agents import seeded_generator
from worldprobe.worlds import World, check_channels

RAW = "raw/"
"""Prefix, while episodes are played, of what sites are made from."""


def record_in_world(
    policy: Policy,
    world: World,
    path: str | Path,
    *,
    sites: SiteSelection,
    n_episodes: int,
    seed: int,
    channels: frozenset[str] = WITHOUT_AGENT,
    n_envs: int = 64,
    epsilon: float = 0.0,
    episodes_per_shard: int = 512,
    splits: tuple[float, float, float] = SPLIT_FRACTIONS,
    precision: str = "float32",
    compression: str = "none",
    part: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Recording:
    """Record anybody's policy in one of our worlds, beside everything that is true of it; what is there already is kept.

    The policy receives observations alone. States, factors, exact beliefs and expectations stand beside its sites as in `record`, and
    a recording is made, resumed and split in the same way.

    Parameters
    ----------
    policy : Policy
        `StableBaselinesPolicy`, `TensorDictPolicy`, `TorchPolicy`, or your own. (A learner trains in the world by `WorldEnv(world)`.)
    world : World
        Any world.
    path : str or Path
        The directory, by custom `name.wpr`.
    sites : sequence of str and callable, or mapping of str to str
        Which parts of `policy.module`, as for `Recorder`.
    n_episodes : int
        Number of whole episodes.
    seed : int
        Seed of world, policy, exploration, filter and split.
    channels : frozenset of str
        What the beliefs condition on, beside the fact that the episode goes on. Actions belong to it, since a belief without them is
        defined only relative to a policy: a policy without memory knows less than this belief.
    n_envs : int
        Copies of the world that are stepped at once.
    epsilon : float
        Probability of a uniform action in the place of the policy's.
    episodes_per_shard, splits, precision, compression, part, progress
        As in `record`.

    Returns
    -------
    Recording
        The recording, open; finished, unless it is one part of several.

    Raises
    ------
    KeyError, SiteError
        If a site is not there, does not fire at every step, or has no row per copy.
    RecordingError
        If `path` holds a recording of something else, or the disk refuses.
    ValueError
        If a number, the channels, or an action of the policy is not what was expected.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from worldprobe.activations import TorchPolicy, record_in_world
    >>> from worldprobe.worlds import make_world
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))
    >>> policy = TorchPolicy(network, lambda x, state, reset: (network(x).argmax(1), state))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record_in_world(policy, make_world("tmaze"), f"{folder}/a.wpr", sites={"hidden": "1"}, n_episodes=8, seed=0) as recording:
    ...         recording["hidden"].shape[1], recording["belief/state"].shape[1]
    (8, 26)
    """
    behaviour = PolicyBehaviour(policy, sites, epsilon)
    identity = Identity(
        world=describe_world(world),
        agent=describe_policy(policy, world.n_actions, world.observation_shape, ("observation",)),
        channels=tuple(sorted(check_channels(channels))),
        behaviour=behaviour.describe(),
        seed=seed,
        n_episodes=n_episodes,
        n_envs=n_envs,
        episodes_per_shard=episodes_per_shard,
        splits=splits,
        sites=behaviour.rehearse(world, seed),
        stream=None,
        precision=precision,
    )

    def make(index: int) -> Finish:
        played = behaviour.play(world, identity.shard_episodes(index), n_envs, seed, index)
        return partial(add_beliefs, played, world, frozenset(channels), seeded_generator(seed, "shard", index, "belief"))

    return record_shards(Target(Path(path), compression, Part(*part) if part else None), checked_plan(identity), make, progress)


@dataclass(frozen=True, eq=False)
class PolicyBehaviour:
    """Somebody's policy as a behaviour, whose module is read while it acts."""

    policy: Policy
    sites: SiteSelection
    epsilon: float
    name: str = field(default="policy", init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is a probability, between 0 and 1; got {self.epsilon}")

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON."""
        return {"name": self.name, "epsilon": self.epsilon, "policy": self.policy.describe()}

    def begin(self, world: World, n_envs: int, generator: torch.Generator) -> PolicyActor:
        """Return an actor without a state; the policy's own chance comes from the global generators."""
        return PolicyActor(self.policy, Actions(spaces.Discrete(world.n_actions), n_envs, self.epsilon), generator)

    def rehearse(self, world: World, seed: int) -> dict[str, int]:
        """Act once and return the width of every site."""
        driver, generator = world.driver(1, seeded_generator(seed, "rehearsal world")), seeded_generator(seed, "rehearsal")
        with self._reading(generator) as recorder:
            self.begin(world, 1, generator)(Moment.first(driver.observation))
            return {name: flat_site(name, values, 1).shape[1] for name, values in recorder.take().items()}

    def play(self, world: World, numbers: range, n_envs: int, seed: int, shard: int) -> Episodes:
        """Play the episodes of a shard and return them with their sites."""
        with self._reading(seeded_generator(seed, "shard", shard, "policy")) as recorder:

            def read(_: Actor) -> dict[str, Tensor]:
                return {f"{RAW}{name}": values for name, values in recorder.take_parts().items()}

            played = play(world, self, numbers, n_envs, seed, shard, read)()
            raw = {key.removeprefix(RAW): torch.from_numpy(values) for key, values in played.arrays.items() if key.startswith(RAW)}
            kept = {key: values for key, values in played.arrays.items() if not key.startswith(RAW)}
            sites = {f"site/{name}": values for name, values in completed_sites(raw, recorder).items()}
        return Episodes(played.number, played.length, kept | sites)

    @contextmanager
    def _reading(self, generator: torch.Generator) -> Iterator[Recorder]:
        """Attach a recorder and seed the global generators meanwhile."""
        with Recorder(self.policy.module, self.sites, one_step=True) as recorder, seeded_globals(self.policy.module, generator):
            yield recorder


class PolicyActor:
    """Acts by a policy, which keeps its state here from step to step."""

    def __init__(self, policy: Policy, actions: Actions, generator: torch.Generator) -> None:
        self._policy, self._actions, self._generator = policy, actions, generator
        self._state: Any = None

    def __call__(self, moment: Moment) -> Tensor:
        """Return the actions of a step, int64 (n,)."""
        action, self._state = self._policy.act(moment.observation.numpy(), self._state, moment.reset.numpy())
        taken = self._actions.explored(self._actions.check(action), self._generator)
        return torch.from_numpy(self._actions.as_recorded(taken))
