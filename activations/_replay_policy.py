"""Running somebody's policy over episodes that are already there: its untrained twins stand on the same stream as itself."""

from __future__ import annotations

import numpy as np

from worldprobe.activations._episodes import Array
from worldprobe.activations._policies import Policy
from worldprobe.activations._reader import Recording, load_episodes
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._sites import SiteSelection
from worldprobe.activations._vector_play import seeded_globals
from worldprobe.activations._vector_tape import flat_site
from worldprobe.agents import seeded_generator


def replay_policy(policy: Policy, recording: Recording, sites: SiteSelection, *, n_at_once: int = 64, seed: int = 0) -> dict[str, Array]:
    """Show a policy the observations of a recording, and return its sites in memory: what it would do is not done.

    Parameters
    ----------
    policy : Policy
        Receives observations alone, as the recorded one did.
    recording : Recording
        Whose episodes it is run on; observations are handed over as they were recorded.
    sites : sequence of str and callable, or mapping of str to str
        Which parts of `policy.module`, as for `Recorder`.
    n_at_once : int
        Episodes that are run side by side.
    seed : int
        Seed of what chance the policy draws on.

    Returns
    -------
    dict of str to ndarray
        Site to float32 (n_steps, width), rows as in the recording.

    Raises
    ------
    KeyError, SiteError
        As `Recorder`.

    Examples
    --------
    >>> import tempfile
    >>> import gymnasium, numpy as np, torch
    >>> from worldprobe.activations import TorchPolicy, record_policy, replay_policy
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> policy = TorchPolicy(network, lambda x, state, reset: (network(x).argmax(1), state))
    >>> env = gymnasium.make_vec("CartPole-v1", num_envs=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record_policy(policy, env, f"{folder}/a.wpr", sites={"hidden": "1"}, n_episodes=8, seed=0) as recording:
    ...         again = replay_policy(policy, recording, {"hidden": "1"})["hidden"]
    ...         bool(np.allclose(again, recording["hidden"][:], atol=1e-6))
    True
    >>> env.close()
    """
    episodes = load_episodes(recording, ("observation",))
    observation, arrays = episodes.arrays["observation"], dict[str, Array]()
    order = np.argsort(-episodes.length, kind="stable")
    n_at_once = min(n_at_once, len(order))
    with Recorder(policy.module, sites, one_step=True) as recorder:
        for begin in range(0, len(order), n_at_once):
            group = np.resize(order[begin : begin + n_at_once], n_at_once)  # the last ones again, so that every pass has one shape
            start, length, state = episodes.start[group], episodes.length[group], None
            with seeded_globals(policy.module, seeded_generator(seed, "replay", begin)):
                for t in range(int(length.max())):
                    rows = start + np.minimum(t, length - 1)
                    _, state = policy.act(observation[rows], state, np.full(len(group), t == 0))
                    going = t < length
                    for name, values in recorder.take().items():
                        flat = flat_site(name, values, len(group))
                        if name not in arrays:
                            arrays[name] = np.empty((episodes.n_steps, flat.shape[1]), np.float32)
                        arrays[name][rows[going]] = flat[going]
    return arrays
