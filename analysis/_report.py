"""The report: figures and one self-contained page, from what a run directory holds and nothing else."""

from __future__ import annotations

import base64
import io
import json
from importlib import resources
from pathlib import Path

import jinja2
import matplotlib.pyplot as plt
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from worldprobe.analysis._answer import answer
from worldprobe.analysis._figures import (
    STYLE,
    draw_beliefs,
    plot_emergence,
    plot_model_share,
    plot_own_update,
    plot_return,
    plot_training,
)
from worldprobe.analysis._findings import Findings
from worldprobe.analysis._intervention_figures import plot_doses, plot_steering
from worldprobe.analysis._report_tables import make_tables


def draw_figures(findings: Findings) -> dict[str, tuple[Figure, str]]:
    """Return every figure the findings support, by name, with its caption."""
    table = findings.table
    figures: dict[str, tuple[Figure, str]] = {}
    with plt.style.context(STYLE):
        if (table.quantity == "own-update").any():
            figures["own_update"] = (_own_update_figure(findings), OWN_UPDATE_CAPTION)
        if table[(table.quantity == "emergence") & (table.step == -1)].estimable.any():
            figure, ax = plt.subplots(figsize=(7.4, 1.4 + 0.75 * table.factor.nunique()), layout="constrained")
            plot_emergence(table, ax)
            figures["emergence"] = (figure, EMERGENCE_CAPTION)
        if (table.quantity == "dose").any():
            figures["doses"] = (_doses_figure(table), DOSES_CAPTION)
        if table[table.quantity == "steering"].estimable.any():
            figure, ax = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
            plot_steering(table, ax).legend(loc="center left", bbox_to_anchor=(1, 0.5))
            figures["steering"] = (figure, STEERING_CAPTION)
        if findings.summary["training"]:
            figures["training"] = (_training_figure(findings), TRAINING_CAPTION)
        for factor in findings.factors:
            if factor.size <= LARGEST_DRAWN and f"0/{factor.name}/decoded" in findings.examples:
                caption = (
                    f"The {factor.name} along one held-out episode of the common streams: belief, read-out of the hidden state, truth."
                )
                figures[f"beliefs_{factor.name}"] = (draw_beliefs(findings.examples, factor), caption)
    return figures


LARGEST_DRAWN = 60
"""Classes of a factor that an overlay can show."""

OWN_UPDATE_CAPTION = (
    "World and core are forked at recorded steps and driven by random actions. Above: R² of the factor decoded from the core's own "
    "new state, by a decoder fitted on recorded steps only (band: 95 % over episodes), between what needs no model and the exact "
    "filter on the same inputs. Below: the same as a share of that room, and where the forks follow laws that are not the world's."
)
EMERGENCE_CAPTION = "State emergence of every factor: 0 is nothing beyond the floor, 1 all that can be known; 95 % over episodes."
DOSES_CAPTION = (
    "A factor is erased from all that the running agent carries, in doses, within every context (what is observed, and all else that is "
    "true); beside it random erasures of equal rank and displacement that leave the factor, erasures of other factors, and units set to "
    "their means. Discounted return of the greedy agent (band: 95 %)."
)
STEERING_CAPTION = (
    "At held-out decisions where another class of the factor would ask for another action, the activations are moved once towards "
    "that class. Counted are greedy actions that the changed belief asks for; mean of both streams."
)
TRAINING_CAPTION = (
    "Over training, at log-spaced checkpoints (the leftmost is the untrained network): greedy return, and, on the common streams, the "
    "share of each factor beyond F0 (linear) that the hidden state carries now and that its own update still carries after k* forked "
    "steps; bands are 95 % intervals over episodes."
)


def _own_update_figure(findings: Findings) -> Figure:
    """Curves and shares of the headline factor and of up to two others."""
    table, headline = findings.table, findings.headline
    measured = set(table[table.quantity == "own-update"].factor)
    others = [factor.name for factor in findings.factors if factor.name in measured and factor.name != headline.factor]
    names = [headline.factor, *others[:2]]
    figure, axes = plt.subplots(2, len(names), figsize=(3.2 * len(names), 5.4), sharex=True, layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        plot_own_update(table, name, headline.streams, axes[0, column])
        plot_model_share(table, name, headline.streams, axes[1, column])
        axes[0, column].set(title=f"{name} (headline)" if name == headline.factor else name)
    for ax in axes[0]:
        ax.set(xlabel="")
    for ax in axes[:, 1:].flat:
        ax.set(ylabel="")
    curves, shares = (row[0].get_legend_handles_labels() for row in axes)
    figure.legend(curves[0] + shares[0], curves[1] + shares[1], loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _doses_figure(table: pd.DataFrame) -> Figure:
    """One panel for every factor that was erased."""
    factors = list(dict.fromkeys(table[table.quantity == "dose"].factor))
    figure, axes = plt.subplots(1, len(factors), figsize=(3.3 * len(factors), 3.4), sharey=True, layout="constrained", squeeze=False)
    for ax, factor in zip(axes[0], factors, strict=True):
        plot_doses(table, factor, ax)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), fontsize="small")
    for ax in axes[0, 1:]:
        ax.set(ylabel="")
    return figure


def _training_figure(findings: Findings) -> Figure:
    """Return, state and own update over training; the return alone where no share is estimable."""
    table, headline = findings.table, findings.headline
    followed = table[(table.step >= 0) & table.estimable]
    panels = [
        (q, k)
        for q, k in (("emergence", 0), ("own-update", headline.horizon))
        if ((followed.quantity == q) & (followed.horizon == k)).any()
    ]
    figure, axes = plt.subplots(1, 1 + len(panels), figsize=(3.3 * (1 + len(panels)), 3.0), layout="constrained", squeeze=False)
    plot_return(findings.summary["training"], axes[0, 0])
    for ax, (quantity, horizon) in zip(axes[0, 1:], panels, strict=True):
        plot_training(table, quantity, horizon, ax)
        ax.set(title="hidden state now" if quantity == "emergence" else f"own update, k* = {horizon}")
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
    tables, summary, headline = make_tables(findings), findings.summary, findings.headline
    nothing = Markup('<p class="facts">No figure: {}</p>')
    return template.render(
        title=f"{summary['world']}, seed {summary['seed']}",
        answer=answer(findings),
        facts=summary["facts"],
        headline=f"factor {headline.factor}, k* = {headline.horizon}, site {headline.site}, {headline.streams} streams",
        ladder=findings.ladder,
        figure=lambda name: pictures.get(name) or nothing.format(summary["why_not"].get(name, "nothing to draw was measured.")),
        figures=lambda prefix: Markup().join(picture for name, picture in pictures.items() if name.startswith(prefix)),
        table=lambda name: _html(tables[name]),
        has=lambda name: not tables[name].empty,
        missing=summary["missing"],
        commands=summary["commands"],
        config=json.dumps(summary["config"], indent=2),
        versions=json.dumps(summary["versions"], indent=2),
    )


def _html(frame: pd.DataFrame) -> Markup:
    if frame.empty:
        return Markup('<p class="facts">Nothing of this kind was measured in this world.</p>')
    page = frame.to_html(index=False, border=0, escape=True)
    for verdict in ("pass", "fail"):
        page = page.replace(f"<td>{verdict}</td>", f'<td class="{verdict}">{verdict}</td>')
    return Markup(page)
