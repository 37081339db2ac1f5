"""The plot of a few-shot grid: error by years of truth, a line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from downscale.evaluate.scorecard import number, read_table
from downscale.report.figure import COLOURS, GREY, TRUTH_COLOUR, Picture, finish, new_figure, styled, to_png
from downscale.report.findings import Findings

Point = tuple[int, float, float, float]
"""Years, mean error, lowest and highest of draws and seeds."""
_DASHES = ("-", "--", "-.")
FROM_NOTHING = ("scratch", "ridge")
"""Methods that learn from the few years alone; the others start from the run without any year, whose error is 1."""
FOLDER = "few_shot"


def draw_curve(
    path: Path, curves: Mapping[str, Sequence[Point]], levels: Mapping[str, float], n90: Mapping[str, float], *, title: str
) -> None:
    """Write the learning curves as a PNG.

    Args:
        path: of the file.
        curves: method -> points by years.
        levels: method that needs no truth -> its error, drawn as a level.
        n90: method -> years after which it has 90 % of the gain (inf, NaN: not marked).
        title: of the figure.
    """
    with styled():
        path.write_bytes(to_png(curve_figure(curves, levels, n90, title=title)))


def curve_figure(
    curves: Mapping[str, Sequence[Point]], levels: Mapping[str, float], n90: Mapping[str, float], *, title: str = ""
) -> Figure:
    """The learning curves (see draw_curve)."""
    figure = new_figure(7.2, 4.2)
    axis = figure.subplots(1, 1)
    for place, (method, points) in enumerate(curves.items()):
        _draw(axis, method, points, n90.get(method, math.nan), COLOURS[place % len(COLOURS)], _DASHES[place // len(COLOURS) % 3])
    for place, (method, error) in enumerate(levels.items()):
        axis.axhline(error, color=TRUTH_COLOUR if method == "zero_shot" else GREY, linewidth=0.9, linestyle=(0, (1, 1 + place)))
        axis.annotate(f" {method.replace('_', '-')}", (1.0, error), xycoords=("axes fraction", "data"), va="center", color=GREY)
    years = sorted({point[0] for points in curves.values() for point in points} | {0})
    axis.set_xscale("symlog", linthresh=1.0)
    axis.xaxis.set_major_locator(FixedLocator(years))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("whole years of truth")
    axis.set_ylabel("Wasserstein-1 distance, zero-shot = 1")
    axis.set_ylim(bottom=0.0)
    axis.grid(True)
    axis.set_title(title, loc="left")
    axis.legend(fontsize=8, ncols=2)
    return figure


def pictures(findings: Findings, data: Path) -> list[Picture]:
    """The learning curves of a workspace, from WORKSPACE/few_shot/NAME/table.csv."""
    found = []
    for path in sorted((findings.folder.parent / FOLDER).glob("*/table.csv")):
        rows = read_table(path)
        if rows and any(int(row["shots"]) > 0 for row in rows):
            found.append(_picture(path.parent.name, rows, data))
    return found


def _picture(name: str, rows: list[dict[str, str]], data: Path) -> Picture:
    learned = list(dict.fromkeys(row["method"] for row in rows if int(row["shots"]) > 0))
    curves = {method: _points(method, rows) for method in learned}
    levels = {row["method"]: number(row["error"]) for row in rows if row["method"] not in learned}
    n90 = {row["method"]: number(row.get("n90", "")) for row in rows}
    best = min((row for row in rows if math.isfinite(number(row["error"]))), key=lambda row: number(row["error"]))
    text = f"Lowest error: {best['method'].replace('_', '-')} with {best['shots']} years, {number(best['error']):.2f} of that without any"
    return finish(
        curve_figure(curves, levels, n90),
        data,
        f"few_shot_{name}",
        rows,
        title=f"Few-shot curve: {name}",
        caption="Error of the distribution (Wasserstein-1, mean over targets) relative to the run as it was; below 1 the years helped. "
        f"Bands: draws of the years and seeds. Dotted levels need no year of truth. {text}.",
        alt=f"Learning curves of {', '.join(learned)} against years of truth. {text}.",
        origin=f"{FOLDER}/{name}/table.csv",
    )


def _points(method: str, rows: list[dict[str, str]]) -> list[Point]:
    start = [] if method in FROM_NOTHING else [(0, 1.0, 1.0, 1.0)]
    found = [
        (int(row["shots"]), number(row["error"]), number(row["error_low"]), number(row["error_high"]))
        for row in rows
        if row["method"] == method
    ]
    return start + [point for point in sorted(found) if point[0] > 0]


def _draw(axis: Axes, method: str, points: Sequence[Point], n90: float, colour: str, dash: str) -> None:
    years, error, low, high = zip(*points, strict=True)
    label = method.replace("_", "-") + (f" (n90 {n90:.2g} y)" if math.isfinite(n90) else "")
    axis.plot(years, error, color=colour, linestyle=dash, marker="o", markersize=3.5, linewidth=1.5, label=label)
    axis.fill_between(years, low, high, color=colour, alpha=0.15, linewidth=0)
