"""Activations: what an agent holds inside, recorded beside everything that is true of its world.

In go an agent, a world and a behaviour; out comes a recording on disk (docs/format.md is its specification), read lazily.
Any network can then be run over the same episodes, in memory (`replay`) or as a recording (`record_on`), and stepped along
forks of the world under actions it would not choose. Agents that are not ours, in Gymnasium environments, are recorded by
`record_policy`; `Recorder` reads the parts of any torch module (docs/recording.md).

>>> import tempfile
>>> from worldprobe.activations import EpsilonGreedy, record
>>> from worldprobe.agents import NetworkConfig, make_network
>>> from worldprobe.worlds import make_world
>>> world = make_world("tmaze")
>>> agent = make_network(world, NetworkConfig(hidden_size=16), seed=0)
>>> with tempfile.TemporaryDirectory() as folder:
...     with record(agent, world, f"{folder}/own.wpr", EpsilonGreedy(agent, 0.1), n_episodes=20, seed=0) as recording:
...         recording["core.h"][recording.split("test")].shape[1]
16
"""

from worldprobe.activations._array import RecordedArray
from worldprobe.activations._beliefs import recorded_belief
from worldprobe.activations._describe import package_versions
from worldprobe.activations._files import RecordingError
from worldprobe.activations._forks import Forks, fork_core, fork_stream
from worldprobe.activations._info import describe_recording
from worldprobe.activations._manifest import Identity
from worldprobe.activations._minari import export_minari
from worldprobe.activations._pack import merge_recordings, pack_recording
from worldprobe.activations._policies import Policy, StableBaselinesPolicy, TensorDictPolicy, TorchPolicy
from worldprobe.activations._reader import Recording, open_recording
from worldprobe.activations._record import record, record_on
from worldprobe.activations._record_in_world import record_in_world
from worldprobe.activations._record_policy import record_policy
from worldprobe.activations._recorder import Recorder
from worldprobe.activations._replay import received_inputs, replay
from worldprobe.activations._replay_policy import replay_policy
from worldprobe.activations._streams import BEHAVIOURS, Actor, Behaviour, CommonBehaviour, EpsilonGreedy, Moment
from worldprobe.activations._watched import SiteError

__all__ = [
    # recording
    "record", "record_on", "Behaviour", "Actor", "Moment", "EpsilonGreedy", "CommonBehaviour", "BEHAVIOURS",
    # what any torch module holds
    "Recorder", "SiteError",
    # other people's agents, in Gymnasium environments and in our worlds
    "record_policy", "record_in_world", "Policy", "TorchPolicy", "StableBaselinesPolicy", "TensorDictPolicy",
    # reading
    "open_recording", "Recording", "RecordedArray", "Identity", "RecordingError", "recorded_belief", "package_versions",
    # one file, one recording of several
    "pack_recording", "merge_recordings", "describe_recording", "export_minari",
    # other networks on the same episodes
    "replay", "replay_policy", "received_inputs", "Forks", "fork_stream", "fork_core",
]  # fmt: skip
