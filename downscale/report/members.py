"""Figures of ensembles: rank histograms and reliability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from downscale.evaluate.scorecard import number
from downscale.report.figure import COLOURS, GREY, Picture, finish, new_figure
from downscale.report.findings import Findings
from downscale.report.words import unit

MAX_PANELS = 4


def rank_histograms(findings: Findings, data: Path) -> Picture | None:
    """How often the truth has each rank among the members, a panel per run, case and variable."""
    rows = [row for row in findings.table("rank_histogram") if row["season"] == findings.season]
    panels = _panels(findings, rows)
    if not panels:
        return None
    figure = new_figure(2.7 * len(panels) + 0.5, 2.9)
    for axis, (run, case, variable) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        some = sorted((row for row in rows if _key(row) == (run, case, variable)), key=lambda row: int(number(row["rank"])))
        count = np.array([number(row["count"]) for row in some])
        expected = np.array([number(row["expected"]) for row in some])
        axis.bar([int(number(row["rank"])) for row in some], count / expected, color=COLOURS[0], width=0.9)
        axis.axhline(1.0, color=GREY, linewidth=0.9)
        axis.set_title(f"{variable}\n{run} on {case}", loc="left", fontsize=8)
        axis.set_xlabel("rank of the truth among the members")
        axis.set_ylim(bottom=0)
    figure.axes[0].set_ylabel("count / expected")
    shown = "; ".join(" ".join(panel) for panel in panels)
    return finish(
        figure,
        data,
        "rank_histogram",
        rows,
        title="Do the members spread as the truth does? Ranks",
        caption="On the line every rank is equally frequent. A hump in the middle: members spread too much; high ends: "
        "too little; a slope: bias.",
        alt=f"Rank histograms: {shown}.",
        origin="rank_histogram.csv",
    )


def reliability(findings: Findings, data: Path) -> Picture | None:
    """Observed frequency against forecast probability, a line per threshold."""
    rows = findings.table("reliability")
    panels = _panels(findings, rows)
    if not panels:
        return None
    figure = new_figure(2.9 * len(panels) + 0.4, 3.1)
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_reliability(axis, [row for row in rows if _key(row) == panel])
        axis.set_title(f"{panel[2]}\n{panel[0]} on {panel[1]}", loc="left", fontsize=8)
        axis.set_xlabel("forecast probability")
    figure.axes[0].set_ylabel("observed frequency")
    return finish(
        figure,
        data,
        "reliability",
        rows,
        title="Are the members' probabilities met? Reliability",
        caption="On the diagonal an event that the members give 30 % happens on 30 % of the days. "
        "A line flatter than it: too sure of itself.",
        alt=f"Reliability diagrams: {'; '.join(' '.join(panel) for panel in panels)}.",
        origin="reliability.csv",
    )


def _draw_reliability(axis: Axes, rows: list[dict[str, str]]) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.9)
    for place, threshold in enumerate(dict.fromkeys(row["threshold"] for row in rows)):
        points = [(number(row["forecast"]), number(row["observed"])) for row in rows if row["threshold"] == threshold]
        points = sorted(point for point in points if np.isfinite(point).all())
        label = f"≥ {number(threshold):g} {unit(rows[0].get('unit', ''))}".rstrip()
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=COLOURS[place % len(COLOURS)], linewidth=1.3, label=label)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(True)
    axis.legend(fontsize=7.5)


def _key(row: dict[str, str]) -> tuple[str, str, str]:
    return row["run"], row["case"], row["variable"]


def _panels(findings: Findings, rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Those of the main run at home first."""
    main = findings.main.name if findings.main else ""
    home = findings.home.name if findings.home else ""
    order = {name: place for place, name in enumerate(findings.targets)}
    return sorted({_key(row) for row in rows}, key=lambda key: (key[0] != main, key[1] != home, key[:2], order.get(key[2], 9)))[:MAX_PANELS]
