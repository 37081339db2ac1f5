"""The plot of a few-shot grid: error by years of truth, a line for each method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from downscale.report.figure import COLOURS, GREY, TRUTH_COLOUR, new_figure, styled, to_png

Point = tuple[int, float, float, float]
"""Years, mean error, lowest and highest of draws and seeds."""
_DASHES = ("-", "--", "-.")


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
        figure = new_figure(7.2, 4.2)
        axis = figure.subplots(1, 1)
        for number, (method, points) in enumerate(curves.items()):
            _draw(axis, method, points, n90.get(method, math.nan), COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % 3])
        for number, (method, error) in enumerate(levels.items()):
            axis.axhline(error, color=TRUTH_COLOUR if method == "zero_shot" else GREY, linewidth=0.9, linestyle=(0, (1, 1 + number)))
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
        path.write_bytes(to_png(figure))


def _draw(axis: Axes, method: str, points: Sequence[Point], n90: float, colour: str, dash: str) -> None:
    years, error, low, high = zip(*points, strict=True)
    label = method.replace("_", "-") + (f" (n90 {n90:.2g} y)" if math.isfinite(n90) else "")
    axis.plot(years, error, color=colour, linestyle=dash, marker="o", markersize=3.5, linewidth=1.5, label=label)
    axis.fill_between(years, low, high, color=colour, alpha=0.15, linewidth=0)
