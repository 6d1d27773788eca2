"""What coherence and interventions measure, as rows of the results table: rungs 6, 7 and 8 stand on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.stats import norm

from worldprobe.activations import replay
from worldprobe.agents import Agent, EditableAgent
from worldprobe.analysis._coherence import Coherence, measure_coherence, optimal_actions
from worldprobe.analysis._contexts import determines
from worldprobe.analysis._erasing import DoseResponse, ErasingConfig, Necessity, measure_necessity
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import Cell, Measurement, compared, exact, not_compared
from worldprobe.analysis._neurons import whole_episodes
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.analysis._steering import SteeringConfig, steer
from worldprobe.analysis._unit_information import silence_units
from worldprobe.probes import UNIT_SCORES, Estimate, t_interval
from worldprobe.worlds import Factor, Unavailable, finite_core, solve_pomdp

NEEDED = ("policy", "value", "irrelevant", "unknown")
"""Relevance, what the task needs most first: a factor that is needed less is a control for one that is needed more."""

MAX_COHERENT_ROWS = 8000
"""Rows, in whole episodes, whose pairs are compared."""


@dataclass(frozen=True)
class InterveneConfig:
    """How an agent is intervened on."""

    steering: SteeringConfig = field(default_factory=SteeringConfig)
    """Moving an activation, once."""
    erasing: ErasingConfig = field(default_factory=ErasingConfig)
    """Erasing a factor, at every step."""


def coherence(examination: Examination) -> list[Measurement]:
    """Compare how Q-values, and the headline site, tell equal histories from different ones, with chance and with the initialisation."""
    stream, headline = examination.stream, examination.world.factor(examination.world.headline.factor)
    cell = examination.cell("coherence", "chance")
    try:
        core = finite_core(stream.world)
        examination.site(examination.agent, "q")
    except (Unavailable, KeyError) as error:
        return [not_compared(cell, headline, "AUC", str(error.args[0]))]
    rows = whole_episodes(stream.groups, MAX_COHERENT_ROWS, examination.config.seed)
    beliefs, groups = np.asarray(stream.recording["belief/state"][:][rows], np.float64), stream.groups[rows]
    values = solve_pomdp(core, stream.recording.channels).policy.q_values({"state": torch.from_numpy(beliefs)}).numpy()
    optimal, measured = optimal_actions(values), list[Measurement]()

    def of(agent: Agent | RecordedAgent, site: str) -> Coherence:
        content = examination.site(agent, site).rows(0)[rows].astype(np.float64)
        return measure_coherence(content, beliefs, optimal, groups, random_state=examination.config.seed)

    for site in ("q", examination.hidden.site):
        own, here = of(examination.agent, site), replace(cell, site=site)
        if own.reason:
            return [not_compared(cell, headline, "AUC", own.reason)]
        against = {"chance": np.full(len(own.blocks), 0.5)}
        if examination.twins.own is not None:
            against["own init"] = np.array(of(examination.twins.own, site).blocks)
        value = t_interval(own.blocks)
        for floor, blocks in against.items():
            gain = t_interval(np.array(own.blocks) - blocks)
            measured.append(compared(replace(here, floor=floor), headline, "AUC", value, gain, len(np.unique(groups)), len(rows)))
    return measured


def steering(examination: Examination, config: SteeringConfig) -> list[Measurement]:
    """Steer along every categorical factor: how often the action follows, against every control; and what that earns."""
    measured = list[Measurement]()
    for factor in examination.world.factors:
        cell = examination.cell("steering", "none")
        try:
            if not factor.is_categorical:
                raise Unavailable("steering is between classes; this factor is continuous")
            found = steer(_editable(examination), examination.stream, factor.name, config)
        except (Unavailable, ValueError) as reason:
            measured.append(not_compared(cell, factor, "decisions", str(reason)))
            continue
        where = replace(cell, site="+".join(found.choice.sites))
        counts = found.n_episodes, found.n_rows
        for control, excess in found.excess.items():
            measured.append(compared(replace(where, floor=control), factor, "decisions", found.success["steered"], excess, *counts))
        for kind in ("untouched", "swapped", *found.excess):
            alone = replace(where, quantity="steering-beside", floor=kind)
            measured.append(compared(alone, factor, "decisions", found.success[kind], exact(found.success[kind].estimate), *counts))
        for kind, earned in found.returns.items():
            drop = exact(found.returns["untouched"] - earned)
            alone = replace(where, quantity="steering-return", floor=kind)
            measured.append(compared(alone, factor, "return", exact(earned), drop, *counts))
    return measured


def _editable(examination: Examination) -> EditableAgent:
    """Return the agent, if its state can be edited."""
    agent = examination.agent
    if isinstance(agent, RecordedAgent):
        raise Unavailable(f"of agent {agent.name!r} there are only recordings, which cannot be edited")
    if not isinstance(agent, EditableAgent) or not agent.carried:
        raise Unavailable(f"agent {agent.name!r} carries nothing that its values follow from, so that nothing can be edited")
    return agent


def necessity(examination: Examination, factor: Factor, config: ErasingConfig) -> list[Measurement]:
    """Erase a factor in doses, and compare the cost of the full one with random erasures and with erasing other factors."""
    cell = replace(examination.cell("necessity", "none"), stream="own policy")
    try:
        if not factor.is_categorical:
            raise Unavailable("erasing is of classes; this factor is continuous")
        if not examination.world.gives >= {"simulation"}:
            raise examination.world.unavailable("simulation to act in under an edit")
        found = measure_necessity(_editable(examination), examination.world, factor.name, config, others=_others(examination, factor))
    except (Unavailable, ValueError) as reason:
        return [not_compared(cell, factor, "return", str(reason))]
    responses = (found.erased, *found.controls, *found.others, *_silenced(examination, found, config))
    doses = [row for response in responses for row in _doses(response, cell, factor)]
    return doses + _against(found, cell, factor)


def _silenced(examination: Examination, found: Necessity, config: ErasingConfig) -> tuple[DoseResponse, ...]:
    """Return what silencing the unit that tells most costs, and what silencing as many of the best as the erasure has directions."""
    agent, stream = _editable(examination), examination.stream
    held = replay(agent, stream.recording, tuple(agent.carried))
    rows = whole_episodes(stream.groups, MAX_COHERENT_ROWS, examination.config.seed)
    units = np.concatenate([held[site][rows] for site in agent.carried], axis=1)
    told = UNIT_SCORES["information"](units, np.asarray(stream.recording[f"factor/{found.factor}"][:])[rows])
    best = np.argsort(-told)[: found.erasure.eraser.rank].tolist()
    mean = found.erasure.eraser.mean
    kinds = {f"best unit ({best[0]})": best[:1], f"{len(best)} best units": best}
    return tuple(silence_units(agent, examination.world, mean, chosen, config, kind) for kind, chosen in kinds.items())


def _others(examination: Examination, factor: Factor) -> tuple[str, ...]:
    """Return the categorical factors that the task needs less, and that say nothing certain about this one, nor it about them."""
    stream = examination.stream
    labels = np.asarray(stream.recording[f"factor/{factor.name}"][:])
    needed = NEEDED.index(factor.relevance)
    others = [each.name for each in examination.world.factors if each.is_categorical and NEEDED.index(each.relevance) > needed]
    values = {name: np.asarray(stream.recording[f"factor/{name}"][:]) for name in others}
    return tuple(name for name, each in values.items() if not determines(each, labels) and not determines(labels, each))


def _doses(response: DoseResponse, cell: Cell, factor: Factor) -> list[Measurement]:
    """Return what every dose earns and costs; the horizon is the dose in percent."""
    kind = "erased" if response.kind == factor.name else response.kind
    rows, here = list[Measurement](), replace(cell, quantity="dose", floor=kind)
    for place, (dose, earned) in enumerate(zip(response.doses, response.returns, strict=True)):
        value = _normal(earned.mean_discounted_return, earned.discounted_standard_error)
        drop = replace(_normal(*response.drop(place)), p_value=np.nan)
        rows.append(compared(here, factor, "return", value, drop, earned.n_episodes, earned.n_episodes, round(100 * dose)))
    return rows


def _against(found: Necessity, cell: Cell, factor: Factor) -> list[Measurement]:
    """Return how much more the full erasure costs than its controls, and what it leaves."""
    rows, n_episodes = list[Measurement](), found.erased.returns[-1].n_episodes
    last, rank = found.erasure.rounds[-1], found.erasure.eraser.rank
    for floor, responses in (("random erasures", found.controls), ("other factors", found.others)):
        here = replace(cell, floor=floor)
        if not responses:
            words = (
                f"the factor has {rank} of {found.width} directions, and leaves none to erase beside it"
                if floor == "random erasures"
                else "no other factor is needed less, and says nothing certain of this one"
            )
            rows.append(not_compared(here, factor, "return", words))
        else:
            cost, error = found.erased.drop()
            other, other_error = max(each.drop() for each in responses)
            excess = _normal(cost - other, float(np.hypot(error, other_error)))
            rows.append(compared(here, factor, "return", _normal(cost, error), excess, n_episodes, n_episodes, 100))
    for probe, bits in (("linear", last.linear_bits), ("MLP", last.mlp_bits)):
        here = replace(cell, quantity="erasure", floor=f"{probe} probe, rank {rank} of {found.width}")
        rows.append(compared(here, factor, "bits", exact(bits), exact(bits), n_episodes, n_episodes))
    return rows


def _normal(value: float, error: float) -> Estimate:
    """A value with its 95 % interval and the two-sided test of zero, from its standard error."""
    reach = float(norm.ppf(0.975)) * error
    p_value = float(2 * norm.sf(abs(value) / error)) if error > 0 else float(value == 0)
    return Estimate(value, value - reach, value + reach, p_value, True)
