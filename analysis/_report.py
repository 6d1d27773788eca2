"""The report: figures and one self-contained page, from what a run directory holds and nothing else."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from worldprobe.analysis._examples import load_examples
from worldprobe.analysis._figures import STYLE, draw_beliefs, plot_emergence, plot_model_share, plot_own_update, plot_training
from worldprobe.analysis._ladder import Rung
from worldprobe.analysis._tables import read_table
from worldprobe.worlds import Factor, Headline


@dataclass(frozen=True)
class Findings:
    """What a run directory holds of an answer."""

    table: pd.DataFrame
    """results.csv"""
    ladder: list[Rung]
    """ladder.json"""
    summary: dict[str, Any]
    """summary.json: world, factors, headline, returns, optimum, visits, versions, configuration and what was not measured."""
    examples: dict[str, Any]
    """examples.npz"""

    @classmethod
    def read(cls, directory: Path) -> Findings:
        """Read the saved results of a run.

        Raises
        ------
        FileNotFoundError
            If the run was not probed yet.
        """
        for name in ("results.csv", "ladder.json", "summary.json", "examples.npz"):
            if not (directory / name).exists():
                raise FileNotFoundError(f"{directory / name} is missing: run `worldprobe probe {directory}` first")
        table = read_table(directory / "results.csv")
        ladder = [Rung(**rung) for rung in json.loads((directory / "ladder.json").read_text())]
        return cls(table, ladder, json.loads((directory / "summary.json").read_text()), load_examples(directory / "examples.npz"))

    @property
    def headline(self) -> Headline:
        """The world's pre-registered cell."""
        return Headline(**self.summary["headline"])

    @property
    def factors(self) -> list[Factor]:
        """The world's factors."""
        return [Factor(**{**factor, "labels": tuple(factor["labels"])}) for factor in self.summary["factors"]]


def answer(findings: Findings) -> str:
    """Return the run's answer: what was found of the headline factor, beside the untrained twin, and which rungs hold."""
    headline, summary = findings.headline, findings.summary
    held = [rung.number for rung in findings.ladder if rung.verdict == "pass"]
    climbed = f"Rungs that hold: {', '.join(held)}." if held else "No rung of the ladder holds."
    verdict = {rung.number: rung.verdict for rung in findings.ladder}["4"]
    found = {"pass": "a model was found", "fail": "no model was found", "not tested": "whether there is a model could not be tested"}[
        verdict
    ]
    who = f"In this {summary['agent']}, trained on reward alone in {summary['world']}, {found}"
    return f"{who}: {_told(findings.table, headline)}. {climbed}"


def _told(table: pd.DataFrame, headline: Headline) -> str:
    """The headline cell in words."""
    update = _cell(table, "own-update", headline.factor, headline.horizon, headline.streams)
    state = _cell(table, "emergence", headline.factor, 0, headline.streams)
    if update is not None and update.estimable:
        twin = _cell(table, "own-update", headline.factor, headline.horizon, headline.streams, "own init")
        return (
            f"after {headline.horizon} actions it would not have chosen, its own update holds {_percent(update)} of what the exact Bayes "
            f"filter knows of the {headline.factor} beyond the present input" + _beside(update, twin)
        )
    if update is not None:
        return f"its update was stepped beside the exact filter, but {update.reason}"
    if state is None:
        return "nothing was measured"
    if state.estimable:
        return f"its hidden state holds {_percent(state)} of what can be known of the {headline.factor} beyond the present input"
    return (
        f"its hidden state adds {state.gain:+.2f} R² [{state.gain_lower:+.2f}, {state.gain_upper:+.2f}] about the {headline.factor} to the "
        f"present input, but no share can be given ({state.reason})"
    )


def _beside(update: Any, twin: Any) -> str:
    """The untrained twin's share of the same room."""
    if twin is None:
        return ""
    share = (twin.r2_floor - update.r2_floor) / (update.r2_ceiling - update.r2_floor)
    return f", its untrained twin {100 * share:.0f} %"


def _cell(table: pd.DataFrame, quantity: str, factor: str, horizon: int, stream: str, floor: str = "F0 best") -> Any:
    rows = table[
        (table.quantity == quantity)
        & (table.factor == factor)
        & (table.horizon == horizon)
        & (table.stream == stream)
        & (table.floor == floor)
        & (table.law == "true")
        & (table.step == -1)
    ]
    return rows.iloc[0] if len(rows) else None


def _percent(row: Any) -> str:
    return f"{100 * row.estimate:.0f} % [{100 * row.lower:.0f}, {100 * row.upper:.0f}]"


def draw_figures(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Return every figure the findings support, by name, with its caption."""
    table, headline = findings.table, findings.headline
    figures: dict[str, tuple[Figure, str]] = {}
    with plt.style.context(STYLE):
        if (table.quantity == "own-update").any():
            figures["own_update"] = (_own_update_figure(findings), OWN_UPDATE_CAPTION)
        figure, ax = plt.subplots(figsize=(7.4, 1.4 + 0.75 * table.factor.nunique()), layout="constrained")
        if table[(table.quantity == "emergence") & table.estimable].empty:
            plt.close(figure)
        else:
            plot_emergence(table, ax)
            figures["emergence"] = (
                figure,
                "State emergence of every factor: 0 is nothing beyond the floor, 1 everything that can be known.",
            )
        if (table[table.estimable].step >= 0).any():
            figure, ax = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
            plot_training(table, headline, ax)
            caption = "Share beyond F0 (linear) on the common streams at log-spaced checkpoints; bands are 95 % intervals over episodes."
            figures["training"] = (figure, caption)
        for factor in findings.factors:
            if factor.size <= 60 and f"0/{factor.name}/decoded" in findings.examples and factor.name != "state":
                caption = (
                    f"The {factor.name} along one held-out episode of the common streams: belief, read-out of the hidden state, truth."
                )
                figures[f"beliefs_{factor.name}"] = (draw_beliefs(findings.examples, factor), caption)
    return figures


OWN_UPDATE_CAPTION = (
    "World and core are forked at recorded steps and driven by random actions. Above: R² of the state decoded from the core's own "
    "new state, by a decoder fitted on recorded steps only (band: 95 % over episodes), between what needs no model and the exact "
    "filter on the same inputs. Below: the same as a share of that room, and where the forks follow laws that are not the world's."
)


def _own_update_figure(findings: Findings) -> Figure:
    """Curves and shares of the headline factor and of up to two others."""
    table, headline = findings.table, findings.headline
    measured = set(table[table.quantity == "own-update"].factor)
    others = [factor.name for factor in findings.factors if factor.name in measured and factor.name not in ("state", headline.factor)]
    names = [headline.factor, *others[:2]]
    figure, axes = plt.subplots(2, len(names), figsize=(3.6 * len(names), 5.6), sharex=True, layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        plot_own_update(table, name, headline.streams, axes[0, column])
        plot_model_share(table, name, headline.streams, axes[1, column])
    curves, shares = (row[0].get_legend_handles_labels() for row in axes)
    figure.legend(curves[0] + shares[0], curves[1] + shares[1], loc="outside lower center", ncols=2, fontsize="small")
    return figure


def write_report(directory: Path) -> Path:
    """Write figures/ (PDF and PNG) and report.html of a probed run; return the page's path.

    Raises
    ------
    FileNotFoundError
        If the run was not probed yet.
    """
    findings = Findings.read(directory)
    figures = draw_figures(findings)
    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    pictures = {}
    for name, (figure, caption) in figures.items():
        figure.savefig(folder / f"{name}.pdf", bbox_inches="tight")
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=200)
        pictures[name] = _picture(figure, caption)
        plt.close(figure)
    page = directory / "report.html"
    page.write_text(_render(findings, pictures))
    return page


def _picture(figure: Figure, caption: str) -> Markup:
    """The figure as an image inside the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=160)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<figure><img alt="{0}" src="data:image/png;base64,{1}"><figcaption>{0}</figcaption></figure>').format(caption, data)


def _render(findings: Findings, pictures: dict[str, Markup]) -> str:
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources.files("worldprobe.analysis").joinpath("report.html").read_text()
    )
    tables, summary, headline = _tables(findings), findings.summary, findings.headline
    nothing = Markup('<p class="facts">No figure: {}</p>')
    return template.render(
        title=f"{summary['world']}, seed {summary['seed']}",
        answer=answer(findings),
        facts=summary["facts"],
        headline=f"factor {headline.factor}, k* = {headline.horizon}, site {headline.site}, {headline.streams} streams",
        ladder=findings.ladder,
        figure=lambda name: pictures.get(name) or nothing.format(summary["why_not"].get(name, "nothing to draw was measured.")),
        figures=lambda prefix: Markup().join(picture for name, picture in pictures.items() if name.startswith(prefix)),
        table=lambda name: tables[name],
        missing=summary["missing"],
        commands=summary["commands"],
        config=json.dumps(summary["config"], indent=2),
        versions=json.dumps(summary["versions"], indent=2),
    )


def _tables(findings: Findings) -> dict[str, Markup]:
    """The tables of the page."""
    table = findings.table[findings.table.step == -1]
    states = table[(table.quantity == "emergence") & table.floor.isin(["F0 best", "F1 best"])]
    sufficiency = table[(table.quantity == "sufficiency") & (table.factor != "state")]
    visits = pd.DataFrame(findings.summary["visits"])
    return {
        "states": _html(_readable(states, ["stream", "factor", "relevance", "floor"])),
        "sufficiency": _html(_readable(sufficiency, ["stream", "factor", "horizon", "law"])),
        "visits": _html(visits),
    }


def _readable(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Choose and format the columns that a reader needs."""
    readable = rows[by].copy()
    readable["share [95 %]"] = [_percent(row) if row.estimable else f"not estimable: {row.reason}" for row in rows.itertuples()]
    readable["gain in R² [95 %]"] = [f"{row.gain:+.3f} [{row.gain_lower:+.3f}, {row.gain_upper:+.3f}]" for row in rows.itertuples()]
    for column, title in (("r2_floor", "R² floor"), ("r2_agent", "R² with h"), ("r2_ceiling", "R² ceiling")):
        readable[title] = [f"{value:.3f}" if pd.notna(value) else "none" for value in rows[column]]
    return readable


def _html(frame: pd.DataFrame) -> Markup:
    if frame.empty:
        return Markup('<p class="facts">Nothing of this kind was measured in this world.</p>')
    return Markup(frame.to_html(index=False, border=0, escape=True))
