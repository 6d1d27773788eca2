"""From recordings of anybody's agent to the report: what recordings support is measured, and the rest says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worldprobe.activations import Recording, package_versions
from worldprobe.analysis._config import ConfigError
from worldprobe.analysis._emergence import visits
from worldprobe.analysis._erasing import ErasingConfig
from worldprobe.analysis._examine import Examination, ExamineConfig, Twins
from worldprobe.analysis._examples import collect_examples, save_examples
from worldprobe.analysis._extracting import extraction
from worldprobe.analysis._interventions import coherence, necessity, steering
from worldprobe.analysis._labels import Array, Labels
from worldprobe.analysis._ladder import climb
from worldprobe.analysis._measurement import Measurement
from worldprobe.analysis._neurons import neurons
from worldprobe.analysis._recorded_agent import RecordedAgent, RecordedWorld
from worldprobe.analysis._report import write_report
from worldprobe.analysis._steering import SteeringConfig
from worldprobe.analysis._stream import Stream
from worldprobe.analysis._summary import missing, repeated, visit_rows, why_not
from worldprobe.analysis._tables import as_table, with_false_discovery_rate, write_atomically, write_table
from worldprobe.worlds import Headline, World

Replayed = Mapping[str, Mapping[str, Array]]
"""For each stream, site to activations (n_steps, width): a twin, by `replay_policy`."""


def examine_recordings(
    directory: Path | str,
    recordings: Mapping[str, Recording],
    headline: Headline,
    *,
    world: World | None = None,
    untrained: Sequence[Replayed] = (),
    config: ExamineConfig | None = None,
) -> Path:
    """Measure what recordings of an agent support, climb the ladder, and write the report.

    Parameters
    ----------
    directory : Path or str
        Where results.csv, ladder.json, summary.json, figures/ and report.html are written; made if it is not there.
    recordings : mapping of str to Recording
        "own", under the agent's policy, and "common", under a policy of everybody (`epsilon=1.0`), with the same sites. The ladder
        asks for both.
    headline : Headline
        The cell that the ladder is decided in: a factor of the recordings, and a site. Fix it before you look.
    world : World, optional
        The world of the recordings, if it is one of ours (`record_in_world`): with its beliefs there is a ceiling.
    untrained : sequence of mapping
        Untrained networks on the same streams: the agent's own initialisation first, then fresh ones (19 make a rank test). Each maps
        "own" and "common" to what `replay_policy` returned.
    config : ExamineConfig, optional

    Returns
    -------
    Path
        Of report.html.

    Raises
    ------
    ConfigError
        If there is no "own" stream, a stream has another name, or the site was not recorded.
    ValueError
        If the recordings have no such factor.

    Examples
    --------
    >>> import tempfile
    >>> import gymnasium, torch
    >>> from worldprobe.activations import TorchPolicy, record_policy
    >>> from worldprobe.analysis import ExamineConfig, FloorConfig, examine_recordings
    >>> from worldprobe.worlds import Headline
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> policy = TorchPolicy(network, lambda x, state, reset: (network(x).argmax(1), state))
    >>> env = gymnasium.make_vec("CartPole-v1", num_envs=8)
    >>> config = ExamineConfig(floors=FloorConfig(mlp_epochs=1, max_width=20))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read = lambda env: {"angle": env.unwrapped.state.T[:, 2:3]}
    ...     with record_policy(policy, env, f"{folder}/own.wpr", sites={"hidden": "1"}, n_episodes=80, seed=0, factors=read) as own:
    ...         cell = Headline("angle", 1, site="hidden", streams="own")
    ...         page = examine_recordings(f"{folder}/report", {"own": own}, cell, config=config)
    ...         page.name
    'report.html'
    >>> env.close()
    """
    config = config or ExamineConfig()
    where = _checked(recordings, headline)
    seen = world or RecordedWorld(where, headline)
    agent = RecordedAgent.of(where)
    twins = [RecordedAgent(f"untrained {number:02d}", held) for number, held in enumerate(untrained)]
    beside = Twins(twins[0], tuple(twins[1:])) if twins else Twins()
    streams = {name: Stream(seen, recording, Labels(seen.factors), config.n_folds, config.seed) for name, recording in where.items()}
    examinations = [Examination(agent, stream, name, beside, config) for name, stream in streams.items()]
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    table = with_false_discovery_rate(as_table([row for one in examinations for row in _measure(one)]), headline)
    ladders = {factor.name: [asdict(rung) for rung in climb(table, headline, factor.name)] for factor in seen.factors}
    save_examples(collect_examples(examinations[0].decoder), folder / "examples.npz")
    write_atomically(folder / "ladder.json", json.dumps(ladders, indent=2) + "\n")
    write_atomically(folder / "summary.json", json.dumps(_summary(examinations, headline, config), indent=2) + "\n")
    write_table(table, folder / "results.csv")
    return write_report(folder)


def _checked(recordings: Mapping[str, Recording], headline: Headline) -> dict[str, Recording]:
    """Return the streams, the headline's first, or say what is wrong with them."""
    if headline.streams not in recordings or not set(recordings) <= {"own", "common"}:
        raise ConfigError(f"recordings must be named 'own' and 'common', and hold {headline.streams!r}; got {sorted(recordings)}")
    for name, recording in recordings.items():
        if headline.site not in recording.sites:
            raise ConfigError(f"site {headline.site!r} was not recorded on the {name} stream; what was: {', '.join(recording.sites)}")
    return dict(sorted(recordings.items(), key=lambda item: item[0] != headline.streams))


def _measure(examination: Examination) -> list[Measurement]:
    """Measure all that a recording supports; the rest are rows that say why not."""
    headline = examination.world.factor(examination.world.headline.factor)
    measured = [*examination.states(), *examination.training(), *coherence(examination), *steering(examination, SteeringConfig())]
    if examination.name != examination.world.headline.streams:
        return measured
    return [*measured, *neurons(examination), *necessity(examination, headline, ErasingConfig()), *extraction(examination)]


def _summary(examinations: Sequence[Examination], headline: Headline, config: ExamineConfig) -> dict[str, Any]:
    """Return summary.json."""
    first = examinations[0]
    recording, world = first.stream.recording, first.world
    described = recording.identity.agent or {"name": "nobody", "class": "none"}
    streams = [(one.name, one.stream.recording) for one in examinations]
    return {
        "world": world.name,
        "seed": recording.identity.seed,
        "agent": f"{described['name']} ({described['class']})",
        "headline": asdict(headline),
        "factors": [asdict(factor) for factor in world.factors],
        "facts": [*(f"{name} stream: {each.n_episodes:,} episodes, {each.n_steps:,} steps" for name, each in streams), repeated(first)],
        "training": None,
        "visits": [row for one in examinations for row in visit_rows(one.name, world, visits(one.stream))],
        "why_not": why_not(world),
        "missing": ["Rungs of update, steering and erasing: of this agent there are only recordings.", *missing(world, first)],
        "commands": "worldprobe.analysis.examine_recordings(DIRECTORY, RECORDINGS, HEADLINE)",
        "config": asdict(config),
        "versions": package_versions(),
    }
