"""Recording other people's agents in Gymnasium environments: the same files, by the same writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gymnasium import spaces

from worldprobe.activations._commit import Progress, Target, done, record_shards
from worldprobe.activations._manifest import Identity
from worldprobe.activations._policies import Policy, describe_policy
from worldprobe.activations._reader import Recording
from worldprobe.activations._record import SPLIT_FRACTIONS, checked_plan
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._sites import SiteSelection
from worldprobe.activations._vector_play import Player, ReadFactors
from worldprobe.activations._vector_steps import Environment, VectorSteps, describe_environment


def record_policy(
    policy: Policy,
    env: Environment,
    path: str | Path,
    *,
    sites: SiteSelection,
    n_episodes: int,
    seed: int,
    factors: ReadFactors | None = None,
    n_classes: Mapping[str, int] | None = None,
    epsilon: float = 0.0,
    episodes_per_shard: int = 512,
    splits: tuple[float, float, float] = SPLIT_FRACTIONS,
    progress: Progress | None = None,
) -> Recording:
    """Record anybody's policy in a Gymnasium environment; what is there already is kept.

    Row t holds o_t, the sites *after* o_t, a_t, r_t, terminated_t and truncated_t. Every environment of the vector plays the same number
    of whole episodes, o_T is recorded, and the steps in which an environment only begins anew are no rows, whatever its
    autoreset mode. Every shard begins with `env.reset(seed=...)`, so that an interrupted call goes on where it stopped.

    Parameters
    ----------
    policy : Policy
        `TorchPolicy`, `StableBaselinesPolicy`, `TensorDictPolicy`, or your own.
    env : Env or VectorEnv
        Where it acts. It is left open.
    path : str or Path
        The directory, by custom `name.wpr`.
    sites : sequence of str and callable, or mapping of str to str
        Which parts of `policy.module`, as for `Recorder`; {"q": "q_net"} records under another name. Maps are flattened.
    n_episodes : int
        Number of whole episodes.
    seed : int
        Seed of environments, policy, exploration and split.
    factors : callable, optional
        Reads what is true of the environments, whatever the policy sees of it: integers are classes, other numbers continuous. It is given
        the vector environment without wrappers (a single one comes as a vector of one); `env.get_attr("state")` of Gymnasium's own gives an
        attribute of each.
    n_classes : mapping of str to int, optional
        Number of classes of every factor of integers, so that probes know them; true-or-false factors have 2.
    epsilon : float
        Probability of a uniform action in the place of the policy's, at each step and environment.
    episodes_per_shard : int
        Episodes that are held in memory and committed together.
    splits : tuple of float
        Fractions of train, validation and test episodes.
    progress : callable, optional
        Told (episodes recorded, episodes planned) after every shard.

    Returns
    -------
    Recording
        The finished recording, open.

    Raises
    ------
    KeyError, SiteError
        If a site is not there, does not fire at every step, or has no row per environment.
    RecordingError
        If `path` holds a recording of something else, or the disk refuses.
    TypeError, ValueError
        If the environment, the actions or a number is not what was expected.

    Examples
    --------
    >>> import tempfile
    >>> import gymnasium, torch
    >>> from worldprobe.activations import TorchPolicy, record_policy
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> policy = TorchPolicy(network, lambda x, state, reset: (network(x).argmax(1), state))
    >>> env = gymnasium.make_vec("CartPole-v1", num_envs=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record_policy(policy, env, f"{folder}/a.wpr", sites={"hidden": "1", "q": "2"}, n_episodes=8, seed=0) as recording:
    ...         recording.n_episodes, recording.sites
    (8, {'hidden': 8, 'q': 2})
    >>> env.close()
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is a probability, between 0 and 1; got {epsilon}")
    steps = VectorSteps(env)
    read = factors or (lambda _: {})
    with Recorder(policy.module, sites, one_step=True) as recorder:
        player = Player(policy, steps, recorder, read, dict(n_classes or {}), epsilon)
        widths, described = player.rehearse(seed)
        identity = Identity(
            world=describe_environment(steps) | {"factors": described},
            agent=describe_policy(policy, _n_actions(steps), steps.observation_shape, ("observation",)),
            channels=("observation",),
            behaviour={"name": "policy", "epsilon": epsilon, "policy": policy.describe()},
            seed=seed,
            n_episodes=n_episodes,
            n_envs=steps.n_envs,
            episodes_per_shard=episodes_per_shard,
            splits=splits,
            sites=widths,
            stream=None,
        )
        plan = checked_plan(identity)
        return record_shards(Target(Path(path)), plan, lambda index: done(player.play(plan.shard_episodes(index), seed, index)), progress)


def _n_actions(steps: VectorSteps) -> int | None:
    space = steps.env.single_action_space
    return int(space.n) if isinstance(space, spaces.Discrete) else None
