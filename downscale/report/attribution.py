"""What an emulator listens to: its response to a changed input, and the importance of its channels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from downscale.evaluate.scorecard import number
from downscale.report.figure import GREY, Picture, finish, legend_above, new_figure
from downscale.report.findings import Findings
from downscale.report.tables import Cell, Table, count_cell, value_cell
from downscale.report.words import left_out, listed, unit

MAX_CASES = 4
MAX_CHANNELS = 16


def sensitivity(findings: Findings, data: Path) -> Picture | None:
    """Mean response of each target to each perturbation, a mark per case."""
    rows = [
        row
        for row in findings.table("sensitivity", season=findings.season)
        if findings.main and row["run"] == findings.main.name and math.isfinite(number(row["response"]))
    ]
    variables = list(dict.fromkeys(row["variable"] for row in rows))
    if not variables or findings.main is None:
        return None
    steps = list(dict.fromkeys(row["perturbation"] for row in rows))
    every = list(dict.fromkeys(row["case"] for row in rows))
    cases = every[:MAX_CASES]
    figure = new_figure(1.4 + 3.6 * len(variables), 1.45 + 0.36 * len(steps))
    axes = figure.subplots(1, len(variables), squeeze=False, sharey=True)[0]
    for axis, variable in zip(axes, variables, strict=True):
        axis.axvline(0.0, color=GREY, linewidth=0.9)
        for place, case in enumerate(cases):
            some = [row for row in rows if (row["variable"], row["case"]) == (variable, case)]
            _draw(axis, some, steps, (place - (len(cases) - 1) / 2) * 0.16, findings.colour_of(case), case)
        axis.set_title(f"{variable}, {unit(next(row['unit'] for row in rows if row['variable'] == variable))}", loc="left")
        axis.set_xlabel("mean response")
        axis.grid(True, axis="x")
    axes[0].set_yticks(range(len(steps)), [step.replace("_", " ") for step in steps], fontsize=8)
    axes[0].set_ylim(len(steps) - 0.5, -0.5)
    legend_above(figure, axes[0])
    return finish(
        figure,
        data,
        "sensitivity",
        rows,
        title=f"Response of {findings.main.name} to a changed input",
        caption="One input is changed on all days, the others stay; the mark is the mean change of the target, the line (with years "
        "enough) its 95 % interval. "
        "A physical emulator warms with warmer air and rains more with moister air; a mark far from those of the training case means "
        f"that the GCM's fields are read differently.{left_out(every, cases, 'cases')}",
        alt=f"Mean responses of {listed(variables)} to {listed(steps)} for {', '.join(cases)}.",
        origin="sensitivity.csv",
    )


def _draw(axis: Axes, rows: list[dict[str, str]], names: list[str], offset: float, colour: str, label: str) -> None:
    y = np.array([names.index(row["perturbation"]) for row in rows]) + offset
    axis.scatter([number(row["response"]) for row in rows], y, s=24, color=colour, label=label, zorder=3)
    for place, row in zip(y, rows, strict=True):
        if math.isfinite(number(row["lower"])):
            axis.plot([number(row["lower"]), number(row["upper"])], [place, place], color=colour, linewidth=1.3)


def importance(findings: Findings, variable: str, data: Path) -> Picture | None:
    """Importance of the channels for a target, a mark per case, the most important first."""
    rows = findings.table("attribution", run=findings.main.name, variable=variable) if findings.main else []
    rows = [row for row in rows if math.isfinite(number(row["importance"]))]
    every = list(dict.fromkeys(row["case"] for row in rows))
    cases = every[:MAX_CASES]
    if not cases or findings.main is None:
        return None
    home = findings.home.name if findings.home and findings.home.name in cases else cases[0]
    ranked = sorted((row for row in rows if row["case"] == home), key=lambda row: -number(row["importance"]))
    channels = [row["channel"] for row in ranked][:MAX_CHANNELS]
    figure = new_figure(6.6, 1.35 + 0.23 * len(channels))
    axis = figure.subplots()
    for case in cases:
        found = {row["channel"]: number(row["importance"]) for row in rows if row["case"] == case}
        values = [found.get(channel, math.nan) for channel in channels]
        axis.scatter(values, range(len(channels)), s=26, color=findings.colour_of(case), label=case, alpha=0.85, zorder=3)
    axis.set_yticks(range(len(channels)), channels, fontsize=8)
    axis.set_ylim(len(channels) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.set_xlabel("importance: mean |integrated gradient|, share of the sum")
    axis.grid(True)
    legend_above(figure, axis)
    top = ", ".join(channels[:3])
    return finish(
        figure,
        data,
        f"importance_{variable}",
        rows,
        title=f"Which inputs {findings.main.name} reads for {variable}",
        caption=f"Channels in the order of their importance on {home} (most: {top}). Where marks of a GCM lie apart from those, the "
        f"emulator leans on other inputs than at home.{left_out(every, cases, 'cases')}",
        alt=f"Dot plot of channel importances for {variable} on {', '.join(cases)}; most important on {home}: {top}.",
        origin="attribution.csv",
    )


def rank_table(findings: Findings) -> Table | None:
    """Agreement of the order of channels between cases."""
    lines = tuple(
        (
            f"{row['run']}: {row['variable']}",
            (Cell(row["case"]), Cell(row["other"]), value_cell(row["spearman"], 2), count_cell(row["n_channels"])),
        )
        for row in findings.table("attribution_rank")
        if findings.main and row["run"] == findings.main.name
    )
    columns = ("case", "other case", "rank correlation", "channels")
    return Table("Are the same inputs important on both? 1: the same order", columns, lines, "run", folded=True) if lines else None
