"""What the report says beside its measurements: returns and optimum, visits, versions, and what was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from worldprobe.activations import package_versions, recorded_belief
from worldprobe.agents import evaluate_return, load_checkpoint
from worldprobe.analysis._cells import STREAMS, examined, network_directory, open_stream
from worldprobe.analysis._config import RunConfig, command_line
from worldprobe.analysis._emergence import MIN_EPISODES, VisitCounts, bayes_losses, visits
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._stream import Stream
from worldprobe.probes import count_identical_rows
from worldprobe.worlds import ParticleWorld, World, solve_pomdp


def summarise(directory: Path, config: RunConfig, common: Examination) -> dict[str, Any]:
    """Return summary.json of a run; it holds no times and no paths."""
    world = common.world
    return {
        "world": world.name,
        "seed": config.seed,
        "agent": f"{config.network.core.upper()} of {config.network.hidden_size} units",
        "headline": asdict(world.headline),
        "factors": [asdict(factor) for factor in world.factors],
        "facts": [*_facts(directory, config, world), *_ceiling_error(common.stream), repeated(common)],
        "training": _training(directory, world),
        "visits": [row for stream in STREAMS for row in visit_rows(stream, world, visits(open_stream(directory, config, world, stream)))],
        "why_not": why_not(world),
        "missing": missing(world, common),
        "commands": _commands(config),
        "config": config.to_json(),
        "versions": package_versions(),
    }


def repeated(examination: Examination) -> str:
    """Say how many of the examined activations another fold has to the bit: a decoder might have memorised these."""
    stream = examination.stream
    n_rows = int(count_identical_rows(examination.hidden.rows(0)[stream.scored], stream.folds[stream.scored]).sum())
    return f"{100 * n_rows / len(stream.scored):.1f} % of the {examination.name} stream's activations stand in another fold as well"


def _facts(directory: Path, config: RunConfig, world: World) -> list[str]:
    """Parameters, training steps, and the return beside the optimum."""
    network, info = load_checkpoint(examined(directory).best)
    generator = torch.Generator().manual_seed(config.seed)
    result = evaluate_return(network, world, config.streams.n_evaluation, generator)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    facts = [
        f"{n_parameters:,} parameters, {info.step:,} environment steps",
        f"greedy return {result.mean_return:.3f} ± {result.standard_error:.3f}",
    ]
    if "optimum" in world.gives:
        optimum = solve_pomdp(world, network.channels)
        known = "J*" if optimum.exact else f"J* in [{optimum.lower:.3f}, {optimum.upper:.3f}]"
        best = optimum.lower if optimum.exact else optimum.upper
        share = 100 * result.mean_discounted_return / best
        facts.append(f"discounted {result.mean_discounted_return:.3f}, {share:.1f} % of {known} = {best:.3f} ({optimum.method})")
    return facts


def _ceiling_error(stream: Stream, n_rows: int = 100) -> list[str]:
    """What the Monte-Carlo error of a particle belief adds to the ceiling's loss of the headline factor, on a sample of rows."""
    world, name = stream.world, stream.world.headline.factor
    losses = bayes_losses(stream)
    if not isinstance(world, ParticleWorld) or losses is None:
        return []
    chosen = np.sort(np.random.default_rng(stream.seed).choice(len(stream.scored), min(n_rows, len(stream.scored)), replace=False))
    belief = recorded_belief(stream.recording, world, stream.scored[chosen], torch.Generator().manual_seed(stream.seed))
    error = world.expectation_error(belief)[name] / world.factor(name).scale
    share = float(error.square().sum()) / float(losses[name][chosen].sum())
    return [f"the ceiling is a filter of {world.n_particles:,} particles; their Monte-Carlo error is {100 * share:.1f} % of its loss"]


def _training(directory: Path, world: World) -> dict[str, Any]:
    """Greedy returns over the training of the examined network, and what the best known policy earns."""
    metrics = pd.read_csv(network_directory(directory, "trained-0") / "metrics.csv")
    channels = load_checkpoint(examined(directory).best)[0].channels
    return {
        "step": metrics.step.astype(int).tolist(),
        "return": metrics.evaluation_return.tolist(),
        "best_known": solve_pomdp(world, channels).undiscounted if "optimum" in world.gives else None,
    }


def visit_rows(stream: str, world: World, counted: Mapping[str, VisitCounts]) -> list[dict[str, Any]]:
    """Return rows of the table of visits."""
    return [
        {
            "stream": stream,
            "factor": name,
            "classes": world.factor(name).size,
            "visited": len(counts.classes),
            "exp(entropy of visits)": f"{counts.effective:.1f}",
            f"in fewer than {MIN_EPISODES} episodes": counts.n_rare,
            "episodes of the rarest": int(counts.n_episodes.min()),
        }
        for name, counts in counted.items()
    ]


def why_not(world: World) -> dict[str, str]:
    """Why a figure may be absent."""
    return {
        "own_update": "the own-update score needs a world that can be forked and filtered exactly; " + _lacks(world),
        "emergence": "a share needs a ceiling; " + _lacks(world),
        "training": "a share over training needs a ceiling; " + _lacks(world),
        "steering": "no agent was steered; the table below, or `worldprobe probe --lens intervene`, says why.",
        "doses": "nothing was erased; the table below, or `worldprobe probe --lens intervene`, says why.",
    }


def _lacks(world: World) -> str:
    lacking = [what for what in ("simulation", "belief", "tables", "optimum") if what not in world.gives]
    return f"{world.name} gives no {', no '.join(lacking)}." if lacking else f"in {world.name} no share was estimable."


def missing(world: World, common: Examination) -> list[str]:
    """What a reader might look for and does not find, with the reason."""
    lines = list[str]()
    if "belief" not in world.gives:
        lines.append(f"Emergence and the own update: {_lacks(world)} Held-out R² stands beside its floors; nothing bounds it from above.")
    if "tables" not in world.gives:
        lines.append(f"Counterfactual tests and counterfeit laws: {_lacks(world)}")
    if "optimum" not in world.gives:
        lines.append(f"The share of the optimal return: {_lacks(world)}")
    width = common.stream.received.shape[1]
    longest = int(common.stream.t.max())
    if (longest + 1) * width > common.config.floors.max_width:
        affordable = common.config.floors.max_width // width - 1
        lines.append(f"Floor windows longer than {affordable} steps were not tried (the longest episode has {longest + 1}).")
    return lines


def _commands(config: RunConfig) -> str:
    """The commands that make the run, and its page, again."""
    return f"{command_line(config)}\nworldprobe report RUN_DIRECTORY    # figures and page again, from saved results"
